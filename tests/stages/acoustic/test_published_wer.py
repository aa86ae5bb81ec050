"""Published figures: those of the paper, beside ours only where they belong, never among ours."""

from __future__ import annotations

import csv
import io
import json
from statistics import fmean, stdev
from typing import Any

import pytest

from stages.acoustic import tables
from stages.acoustic.pairs import compare_pairs, without_partner
from stages.acoustic.published_wer import HEADING, beside, known
from stages.acoustic.report import sizes
from stages.acoustic.results import Results, Row
from stages.acoustic.summary import summarise, systems
from stages.report.tables import published
from tests.stages.acoustic.made_results import made, together

BUDGETS = ("10min", "1h", "10h", "100h")
# HuBERT (arXiv 2106.07447), Table II, typed from the paper's rows a second time.
TEST_CLEAN_OTHER = {
    "Discrete BERT": "16.3 25.2 9.0 17.6 5.9 14.1 4.5 12.1",
    "DeCoAR 2.0": "- - 13.8 29.1 5.4 13.3 5.0 12.1",
    "wav2vec 2.0 Base": "9.1 15.6 5.5 11.3 4.3 9.5 3.4 8.0",
    "HuBERT Base": "9.7 15.3 6.1 11.3 4.3 9.4 3.4 8.1",
    "wav2vec 2.0 Large": "4.8 8.2 2.9 5.8 2.6 4.9 2.0 4.0",
}
DEV_CLEAN_OTHER = "15.7 24.1 8.5 16.4 5.3 13.2 4.0 10.9"  # Discrete BERT


def librispeech(*budgets: str, test_set: str = "test-clean", **changes: Any) -> list[Results]:
    """A recipe on LibriSpeech, an utterance a budget."""
    told = {"test_set": test_set, "corpus": "librispeech", "test_split": "same"} | changes
    hours = {"10min": 1 / 6, "1h": 1.0, "10h": 10.0, "100h": 100.0}
    return [
        made("ours", (None, 1, [2]), budget=b, budget_seconds=3600 * hours.get(b, 2.0), **told)
        for b in budgets
    ]


@pytest.mark.parametrize(
    ("kind", "figures"),
    [("test", TEST_CLEAN_OTHER), ("dev", {"Discrete BERT": DEV_CLEAN_OTHER})],
)
def test_figures_are_those_of_the_paper(kind: str, figures: dict[str, str]) -> None:
    found = {(p.system, p.test_set): p for p in known() if p.test_set.startswith(kind)}
    assert len(found) == 2 * len(figures)
    for system, line in figures.items():
        each = line.split(" ")
        for at, part in enumerate(("clean", "other")):
            wer = found[system, f"{kind}-{part}"].wer
            expected = dict(zip(BUDGETS, each[at::2], strict=True))
            told = {b: float(v) / 100 for b, v in expected.items() if v != "-"}
            assert wer == pytest.approx(told)


def test_every_figure_has_a_source() -> None:
    assert all("arXiv" in each.source and each.corpora for each in known())


def test_published_figures_stand_below_ours_by_budget() -> None:
    rows = tables.compare(librispeech("1h", "10min"))
    text = tables.format_table(rows, "md")
    ours, theirs = text.split(f"{HEADING}: test-clean, WER in %, below ours.")
    assert "Discrete BERT" not in ours
    lines = [[cell.strip() for cell in x.split("|")[1:-1]] for x in theirs.strip().splitlines()]
    assert lines[0] == ["system", "whose", "10min", "1h"]
    assert lines[2] == ["ours greedy", "ours", "20.0 [10.0, 90.0]", "20.0 [10.0, 90.0]"]
    told = "published: 4-gram, pretrained on LibriSpeech 960 h"
    assert lines[3] == ["Discrete BERT", told, "16.3", "9.0"]
    assert [told, "-", "13.8"] in [line[1:] for line in lines if line and line[0] == "DeCoAR 2.0"]
    assert "Source: HuBERT (Hsu et al. 2021, arXiv 2106.07447), Table II." in theirs
    assert HEADING not in tables.format_table(rows, "md", "cer")


@pytest.mark.parametrize(
    "results",
    [
        librispeech("1h", corpus="digits"),
        librispeech("1h", corpus=None),
        librispeech("1h", test_set="test"),
        librispeech("2h"),
        librispeech("10min", test_set="test-clean") + librispeech("2h", corpus="tsv"),
    ],
)
def test_only_what_matches_in_corpus_test_set_and_budget_is_shown(results: list[Results]) -> None:
    rows = tables.compare(results)
    matching = [row for row in rows if row["budget"] == "10min"]
    assert (HEADING in tables.format_table(rows, "table")) == bool(matching)
    # DeCoAR has no figure of 10 minutes, so it is not shown where ours has that budget alone.
    names = [p.system for p in beside(rows, "test-clean")]
    assert names == ([s for s in TEST_CLEAN_OTHER if s != "DeCoAR 2.0"] if matching else [])


def test_programs_read_ours_alone() -> None:
    rows = tables.compare(librispeech("1h"))
    (told,) = json.loads(tables.format_table(rows, "json"))
    assert (told["recipe"], told["corpus"]) == ("ours", "librispeech")
    (line,) = csv.DictReader(io.StringIO(tables.format_table(rows, "csv")))
    assert line["recipe"] == "ours"


def test_the_page_has_the_table_with_its_source() -> None:
    rows = [summarise(s) for s in systems(librispeech("10h"))]
    table = published(rows, "test-clean")
    assert table is not None
    assert [cell.text for cell in table.header] == ["System", "Whose", "10h"]
    assert table.body[0][2].text == "20.0" and table.body[0][2].below == "[10.0, 90.0]"
    assert [line[2].text for line in table.body[1:]] == ["5.9", "5.4", "4.3", "4.3", "2.6"]
    assert table.caption.startswith(HEADING) and "Table II" in table.caption
    assert published(rows, "test-other") is None


SIX = [(str(fold), 1, [errors, 1]) for fold, errors in enumerate((4, 5, 3, 4, 6, 2))]


def six_folds_of_10min() -> Results:
    """Six sets of ten minutes, one of an hour, all scored on the same two utterances."""
    told: Row = {"test_set": "test-clean", "corpus": "librilight", "test_split": "same"}
    ten = made("ours", *SIX, budget="10min", budget_seconds=600.0, **told)
    hour = made("ours", (None, 1, [1, 1]), budget="1h", budget_seconds=3600.0, **told)
    same_speech = []
    for results in (ten, hour):
        for counts in (results.counts or {}).values():
            counts.on.utterances[:] = ["a-1", "a-2"]
            counts.on.speakers[:] = ["a", "a"]
        same_speech.append(results)
    return together(*same_speech)


def test_folds_of_one_budget_alone_give_mean_and_deviation() -> None:
    ten, hour = tables.compare([six_folds_of_10min()])
    each = [(errors + 1) / 20 for _, _, (errors, _) in SIX]
    assert ten["wer"] == pytest.approx(fmean(each))
    assert ten["wer_mean_of_folds"] == pytest.approx(fmean(each))
    assert ten["wer_sd_of_folds"] == pytest.approx(stdev(each))
    assert len(ten["folds"]) == 6 and ten["reference_words"] == 20
    assert (hour["folds"], hour["wer_sd_of_folds"]) == ([None], None)
    text = tables.format_table([ten, hour], "table")
    assert "Not on the same folds" not in text
    line = text.split("Over seeds and folds")[1].splitlines()[4].split()
    assert line[:7] == ["ours", "greedy", "10min", "test-clean", "25.0", "1", "-"]
    assert line[7:] == ["6", "25.0", f"{100 * stdev(each):.1f}"]


def test_a_budget_with_folds_is_paired_with_one_without_on_the_same_speech() -> None:
    scored = systems([six_folds_of_10min()])
    (row,) = compare_pairs(scored, "wer", "ours")
    assert (row["kind"], row["budget"], row["against"]) == ("budget", "1h", "10min")
    assert (row["rate"], row["rate_against"]) == (pytest.approx(0.1), pytest.approx(0.25))
    assert (row["utterances"], row["left_out"]) == (2, 0)
    assert without_partner(scored, "ours") == []


def test_sizes_that_all_folds_share_are_told_once() -> None:
    row: Row = dict.fromkeys(("test_utterances", "reference_words", "test_speakers"), 2)
    row |= dict.fromkeys(("test_rejected", "dev_rejected", "dev_utterances"), 0)
    row |= {"test_seconds": 3.0, "dev_seconds": 4.0, "test_split": "t", "dev_split": "d"}
    folds = [row | {"fold": fold} for fold in ("0", "1", None)]
    assert sizes(folds).startswith("Test: 2 utterances")
    assert sizes([folds[0], folds[1], folds[2] | {"test_utterances": 7}]).splitlines() == [
        f"- Folds 0, 1. {sizes(folds)}",
        f"- Without folds. {sizes(folds).replace('2 utterances', '7 utterances')}",
    ]
    assert sizes(folds[:1]) == f"Fold 0. {sizes(folds)}"  # one alone is not all that was asked
    assert sizes(folds[2:]) == sizes(folds)
