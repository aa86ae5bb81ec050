"""The table of a recipe's results: results.json, RESULTS.md and the plot; and comparisons.

A row is one (budget, seed, test set, decoder). `wer`, `cer` and the interval are fractions,
lengths are seconds.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.store import write_atomically
from stages.acoustic.lm_stage import LM_FACTS
from stages.acoustic.score_stage import SCORES

RESULTS = "results.json"
PAGE = "RESULTS.md"
PLOT = "wer_over_hours.png"

Row = dict[str, Any]
Format = Literal["table", "md", "csv", "json"]


@dataclass(frozen=True)
class Scored:
    """A finished score step and what it belongs to.

    Attributes:
        scores, lm: the artifacts of stages 7 and 4.
        budget_seconds: the labelled speech that the budget really holds.
        test_rejected, dev_rejected: utterances that stage 0 could not use: they count nowhere.
        fold: which of several cuts of the corpus, or None where there is one.
    """

    scores: Path
    lm: Path
    recipe: str
    frontend: str
    budget: str
    budget_seconds: float
    seed: int
    test_set: str
    test_rejected: int
    dev_rejected: int
    fold: str | None = None


def merge(finished: Iterable[Scored]) -> list[Row]:
    """One row per score step and decoder: by test set, hours of labels, seed, decoder."""
    rows = []
    for scored in finished:
        told = json.loads((scored.scores / SCORES).read_text("utf-8"))
        lm = json.loads((scored.lm / LM_FACTS).read_text("utf-8"))
        rows += [_row(scored, told, score, lm) for score in told["scores"]]
    return sorted(rows, key=_order)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = ("test_set", "budget_seconds", "budget", "seed", "recipe")
    fold, decoder = str(row["fold"]), row["decoder"]
    return (*(row[k] for k in keys), fold, decoder != "greedy", decoder)


def _row(scored: Scored, told: Row, score: Row, lm: Row) -> Row:
    names = ("recipe", "frontend", "budget", "budget_seconds", "seed", "test_set")
    counts = ("substitutions", "deletions", "insertions", "reference_words")
    rates = ("wer", "cer", *counts, "wer_low", "wer_high")
    beside = ("reference_chars", "resampled", "empty_share", "per_speaker")
    weights = ("lm_weight", "word_score", "dev_wer")
    return {
        **{name: getattr(scored, name) for name in names},
        "decoder": score["decoder"],
        **{key: score[key] for key in rates},
        "fold": scored.fold,
        "lm_text": lm["lm_text"],
        "dev_seconds": told["dev_seconds"],
        "dev_utterances": told["dev_utterances"],
        "dev_rejected": scored.dev_rejected,
        "test_seconds": told["test"]["seconds"],
        "test_utterances": told["test"]["utterances"],
        "test_speakers": told["test"]["speakers"],
        "test_rejected": scored.test_rejected,
        "lm_order": lm["order"],
        "lm_perplexity": lm["dev_perplexity"],
        "lm_sentences": lm["sentences"],
        "lm_vocabulary": lm["vocabulary"],
        "confidence": told["confidence"],
        **{key: score[key] for key in (*beside, *weights)},
    }


def write_results(folder: Path, rows: Sequence[Row]) -> None:
    """Write results.json, RESULTS.md and the plot into `folder`, each whole or not at all."""
    from stages.acoustic import plots
    from stages.acoustic.report import page

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RESULTS, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    plots.wer_over_hours(rows, folder / PLOT)
    write_atomically(folder / PAGE, page(rows, PLOT))


COMPARED = (
    "test_set",
    "budget",
    "budget_seconds",
    "seed",
    "recipe",
    "frontend",
    "decoder",
    "fold",
    "wer",
    "wer_low",
    "wer_high",
    "cer",
    "reference_words",
    "lm_text",
    "lm_perplexity",
    "dev_seconds",
)


def compare(results: Iterable[Sequence[Row]]) -> list[Row]:
    """The rows of several recipes' results together, by test set and hours of labels."""
    rows = [{key: row[key] for key in COMPARED} for rows in results for row in rows]
    return sorted(rows, key=_order)


def format_table(rows: Sequence[Row], fmt: Format) -> str:
    """`rows` from `compare`: a row per result in csv and json, budget x system for people.

    Cells hold WER in per cent with its interval, such as `18.2 [15.0, 21.9]`.
    """
    if fmt == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1)
    if fmt == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COMPARED, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().rstrip("\n")
    from tabulate import tabulate

    header, body = _crossed(rows)
    style = "github" if fmt == "md" else "simple"
    return tabulate(body, header, tablefmt=style, disable_numparse=True)


def _crossed(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of budget x system; test set, fold, seed only where there are several."""
    systems = list(dict.fromkeys((r["recipe"], r["decoder"]) for r in rows))
    systems.sort(key=lambda s: (s[0], s[1] != "greedy", s[1]))
    lead = [k for k in ("test_set", "fold", "seed") if len({r[k] for r in rows}) > 1]
    cells: dict[tuple[Any, ...], dict[tuple[str, str], str]] = {}
    for row in rows:
        hours = duration(row["budget_seconds"])
        key = (*(row[k] for k in lead), row["budget"], hours)
        cells.setdefault(key, {})[row["recipe"], row["decoder"]] = interval(row)
    header = [k.replace("_", " ") for k in lead] + ["budget", "labels"]
    header += [f"{recipe} {decoder}" for recipe, decoder in systems]
    body = [
        [str(k) for k in key] + [found.get(system, "-") for system in systems]
        for key, found in cells.items()
    ]
    return header, body


def interval(row: Mapping[str, Any]) -> str:
    """WER in per cent with its interval: `18.2 [15.0, 21.9]`."""
    low, high = row["wer_low"], row["wer_high"]
    return f"{100 * row['wer']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def duration(seconds: float) -> str:
    """A length for people: `48 s`, `9.9 min`, `1.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
