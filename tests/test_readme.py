"""Figures of the README's tables of systems are those of the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from pipeline import comparison
from stages.acoustic import tables
from stages.acoustic.figures import interval, percent
from stages.acoustic.pairs import compare_pairs
from stages.acoustic.results import Results, Row
from stages.acoustic.summary import Metric, systems

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "recipes" / "results"
PAGES = [ROOT / "README.md", RESULTS / "README.md"]
METRICS: dict[str, Metric] = {"digits": "wer", "speechocean": "cer"}  # by a system's first part
SYSTEM = re.compile(r"`(\w+)`")
BUDGET = re.compile(r"(\d+(?:s|min|h)|all)\b(, 3 seeds)?")
SEEDS = ", 3 seeds"


@dataclass(frozen=True)
class Line:
    """A system's line of a table: its figures by budget, without marks; empty ones left out.

    A column such as `2min, 3 seeds` is of the run `<system>_seeds`, and its key ends in SEEDS.
    """

    page: str
    system: str
    figures: dict[str, str]

    @property
    def family(self) -> str:
        return self.system.partition("_")[0]


def lines(page: str, text: str) -> Iterator[Line]:
    """The lines of all tables whose header starts with `system` and whose cells name one."""
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        header = header or cells
        named = SYSTEM.match(cells[0])
        if header[0] != "system" or named is None:
            continue
        budgets = [BUDGET.match(name) for name in header]
        assert any(budgets), f"{page}: no budget in {header}"
        cells += [""] * (len(header) - len(cells))
        figures = {
            budget[0]: cell.replace("*", "")
            for budget, cell in zip(budgets, cells, strict=True)
            if budget and cell
        }
        yield Line(page, named[1], figures)


LINES = [
    line for page in PAGES for line in lines(str(page.relative_to(ROOT)), page.read_text("utf-8"))
]


@cache
def measured(system: str) -> dict[str, Row]:
    """By budget, the greedy figures as `vqasr compare` tells them."""
    found = comparison.read(str(RESULTS / system), ROOT / "exp")
    greedy = [row for row in found.rows if row["decoder"] == "greedy"]
    return {row["budget"]: row for row in tables.compare([Results(greedy, found.counts)])}


def differences(line: Line) -> list[str]:
    """What a line tells otherwise than the results do."""
    if not (RESULTS / line.system / "results.json").is_file():
        return [f"{line.system} has no results in recipes/results"]
    if line.family not in METRICS:
        return [f"{line.system}: of which metric? {', '.join(METRICS)} are known"]
    metric, wrong = METRICS[line.family], []
    for column, told in line.figures.items():
        seeds = column.endswith(SEEDS)
        system, budget = line.system + "_seeds" * seeds, column.removesuffix(SEEDS)
        row = measured(system).get(budget) if (RESULTS / system).is_dir() else None
        if row is None or (seeds and len(row["seeds"]) != 3):
            wrong.append(f"{line.system} {column}: {told}, and there are no results of it")
            continue
        expected = interval(row, metric)
        if ", sd " in told:
            over = "seeds" if seeds else "folds"
            expected += f", sd {percent(row[f'{metric}_sd_of_{over}'])}"
        if told != expected:
            wrong.append(f"{line.system} {column}: {told}, measured {expected}")
    return wrong


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}-{line.system}")
def test_a_figure_of_a_table_is_that_of_the_results(line: Line) -> None:
    assert differences(line) == []


def test_the_readme_has_figures_of_each_corpus() -> None:
    """Else nothing would have been compared."""
    told = {line.family for line in LINES if line.page == "README.md" and line.figures}
    assert told == set(METRICS)


@pytest.mark.parametrize(
    "row, wrong",
    [
        ("| `digits_log_mel`: x | LSTM | **36.5** [34.6, 38.4] | |", ""),
        ("| `digits_log_mel`: x | LSTM | **36.6** [34.6, 38.4] | |", "2min: 36.6"),
        ("| `digits_log_mel`: x | LSTM | 36.5 [34.6, 38.5] | |", "2min: 36.5 [34.6, 38.5]"),
        ("| `digits_log_mel`: x | LSTM | 36.5 | |", "2min: 36.5, measured 36.5 ["),
        ("| `digits_log_mel`: x | LSTM | | 30.8 [29.0, 32.7], sd 1.0 |", "sd 1.0"),
        ("| `digits_log_mel`: x | LSTM | | | 1.0 [1.0, 1.0] |", "no results of it"),
        ("| `digits_nobody`: x | LSTM | | |", "digits_nobody has no results"),
        ("| no system | LSTM | 1.0 [0.9, 1.1] | |", ""),
    ],
)
def test_a_wrong_figure_would_be_found(row: str, wrong: str) -> None:
    text = f"| system | encoder | 2min | 5min | 3h |\n|---|---|---|---|---|\n{row}\n"
    found = "".join(told for line in lines("a page", text) for told in differences(line))
    assert wrong in found if wrong else found == ""


@pytest.mark.parametrize("page", PAGES, ids=["README", "results"])
def test_the_figures_of_the_demo_are_those_of_the_results(page: Path) -> None:
    told = re.findall(
        r"^\| (2min|6min|all) \| [\d.]+ min \| (.+) \|$", page.read_text(), re.MULTILINE
    )
    assert [budget for budget, _ in told] == ["2min", "6min", "all"]
    for budget, cells in told:
        expected = []
        for name in ("demo", "demo_log_mel"):
            rows = tables.compare([comparison.read(str(RESULTS / name), ROOT / "exp")])
            mine = {row["decoder"]: interval(row) for row in rows if row["budget"] == budget}
            expected += [mine["greedy"], mine["lexicon_beam"]]
        assert cells.split(" | ") == expected, budget


def by_voice(first: str, second: str, column: str) -> list[str]:
    """The first system's greedy WER less the second's: of each fold, and of all."""
    seeds, budget = column.endswith(SEEDS), column.removesuffix(SEEDS)
    found = []
    for name in (first, second):
        told = comparison.read(str(RESULTS / (f"{name}_seeds" if seeds else name)), ROOT / "exp")
        mine = [r for r in told.rows if (r["decoder"], r["budget"]) == ("greedy", budget)]
        [system] = systems([Results([{**row, "recipe": name} for row in mine], told.counts)])
        found.append(system)
    rates = [
        {
            fold: fmean(row["wer"] for row in system.rows if row["fold"] == fold)
            for fold in sorted(str(fold) for fold in system.folds)
        }
        for system in found
    ]
    [row] = compare_pairs(found, "wer", second)
    figures = [rates[0][fold] - rates[1][fold] for fold in rates[0]]
    figures += [row[name] for name in ("difference", "low", "high")]
    *voices, mean, low, high = (f"{100 * figure:.1f}" for figure in figures)
    return [*voices, f"{mean} [{low}, {high}]"]


def test_differences_by_voice_are_those_of_the_results() -> None:
    table = PAGES[1].read_text("utf-8").split("| | budget | george |")[1].partition("\n\n")[0]
    pair, seen = ("", ""), 0
    for line in table.splitlines()[2:]:
        name, column, *figures = (cell.strip() for cell in line.strip("|").split("|"))
        if name:
            first, second = re.findall(r"`(\w+)`", name)
            pair = first, second
        assert figures == by_voice(*pair, column), (pair, column)
        seen += 1
    assert seen >= 12


def test_word_errors_of_read_english_are_those_of_the_results() -> None:
    text = PAGES[1].read_text("utf-8").split("| WER, greedy / with the language model |")[1]
    told = re.findall(r"^\| `(\w+)` \| (.+) \|$", text.partition("\n\n")[0], re.MULTILINE)
    assert len(told) == 7
    for name, cells in told:
        rows = comparison.read(str(RESULTS / name), ROOT / "exp").rows
        wer = {(row["budget"], row["decoder"]): percent(row["wer"]) for row in rows}
        both = [(wer[b, "greedy"], wer[b, "lexicon_beam"]) for b in ("10min", "30min", "all")]
        assert cells == " | ".join(" / ".join(each) for each in both), name


def test_what_the_bert_guesses_on_dev_is_that_of_the_results() -> None:
    told = json.loads((RESULTS / "masked_accuracy.json").read_text("utf-8"))
    text = PAGES[0].read_text("utf-8")
    for name, sentence in (
        (
            "speechocean",
            "it guesses {} %; the nearest seen unit is right in {}, the most frequent in {}.",
        ),
        ("digits", "On digits, which are no speech that it learnt from, {} ({} and {})."),
    ):
        found = told[name]["dev"]["figures"]["mask"]
        rates = [found[f"accuracy{which}"] for which in ("", "_nearest", "_most_frequent")]
        assert sentence.format(*map(percent, rates)) in text


SPEEDS = (
    *("quantizer_step_fp32", "quantizer_step_bf16", "quantizer_memory", "discretize_fp32"),
    *("bert_train", "bert_train_grouped", "ctc_decode", "ctc_decode_large"),
)


def test_speeds_are_those_of_the_benchmarks() -> None:
    """Row by row, to the digits shown."""
    rows = {row["name"]: row for row in json.loads((RESULTS / "bench.json").read_text("utf-8"))}
    table = PAGES[0].read_text("utf-8").split("**Speed**")[1].split("\n## ")[0]
    lines = re.findall(r"^\| .+ \| (.+) \| (.+) \| ([\d.]+) \|$", table, re.MULTILINE)
    assert len(lines) == len(SPEEDS)
    for line, name in zip(lines, SPEEDS, strict=True):
        row = rows[name]
        measured = [row[side] / (1000 if row["unit"] == "MB" else 1) for side in ("ours", "peer")]
        for cell, value in zip(line, [*measured, row["ratio"]], strict=True):
            told = re.match(r"[\d,.]*\d", cell.split(": ")[-1])
            assert told is not None, cell
            digits = told[0].replace(",", "").replace(".", "").rstrip("0")
            shown = float(told[0].replace(",", ""))
            assert shown == float(f"{value:.{len(digits)}g}"), (name, cell)


SCORED = sorted(RESULTS.glob("*/results.json"))


@pytest.mark.parametrize("path", SCORED, ids=lambda path: path.parent.name)
def test_committed_results_tell_what_a_comparison_asks_for(path: Path) -> None:
    """Rows of older code lack some of it: their decoders were tuned and drawn otherwise."""
    for row in json.loads(path.read_text("utf-8")):
        assert row["settings"] and row["bootstrap_samples"] == 10_000
        assert {"beam", "at_edge"} <= row.keys()
    assert path.with_name("counts.jsonl").is_file()
