"""Which utterances are shown, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.acoustic.results import Results
from stages.report.alignments import MOST_OF_A_KIND, Pair, systems, word_pairs
from stages.report.collect import Piece, Source


def line(utterance: str, errors: int, words: int, decoder: str = "greedy") -> str:
    counts = {"substitutions": errors, "deletions": 0, "insertions": 0, "reference_words": words}
    told: dict[str, Any] = {"decoder": decoder, "utt_id": utterance, "speaker": "s", **counts}
    return json.dumps(told | {"alignment": [["equal", "a", "a"]]}) + "\n"


def source(name: str, folder: Path, lines: list[str], *budgets: str, **changes: Any) -> Source:
    rows, pieces = [], []
    for number, budget in enumerate(budgets):
        row = {"test_set": "test", "budget": budget, "budget_seconds": 10.0**number, "seed": 1}
        rows.append(row | {"fold": None} | changes)
        place = folder / name / budget
        place.mkdir(parents=True)
        (place / "alignments.jsonl").write_text("".join(lines))
        fold = f"{changes['fold']}/" if changes.get("fold") else ""
        pieces.append(Piece(f"7 score {fold}test/{budget}", "done", place))
    return Source(name, name, Results(rows), pieces)


def test_the_worst_have_the_highest_rates_and_then_the_most_errors(tmp_path: Path) -> None:
    errors = {"a": (1, 10), "b": (2, 2), "c": (4, 4), "d": (0, 5), "e": (3, 4)}
    lines = [line(name, *counts) for name, counts in errors.items()]
    (system,) = systems([source("one", tmp_path, lines, "1min", "all")], "test")
    assert system.budget == "all"
    assert [u.id for u in system.worst] == ["c", "b", "e", "a"]  # d has no error
    assert {u.id for u in system.drawn} == set("abcde")


def test_the_drawn_are_the_same_for_all_systems_whatever_they_heard(tmp_path: Path) -> None:
    names = [f"utt-{n}" for n in range(100)]
    one = source("one", tmp_path, [line(n, 1, 9) for n in names], "all")
    two = source("two", tmp_path, [line(n, 9, 9) for n in reversed(names)], "all")
    first, second = systems([one, two], "test")
    drawn = [u.id for u in first.drawn]
    assert drawn == [u.id for u in second.drawn]
    assert len(drawn) == MOST_OF_A_KIND
    assert drawn != names[:MOST_OF_A_KIND]


def test_the_last_decoder_tells_which_are_the_worst(tmp_path: Path) -> None:
    greedy = [line("a", 5, 5), line("b", 1, 5)]
    beam = [line(name, n, 5, "lexicon_beam") for name, n in (("a", 1), ("b", 4))]
    lines = [text for both in zip(greedy, beam, strict=True) for text in both]
    (system,) = systems([source("one", tmp_path, lines, "all")], "test")
    assert [u.id for u in system.worst] == ["b", "a"]
    assert [[heard.errors for heard in u.heard] for u in system.worst] == [[1, 4], [5, 1]]


def test_of_several_seeds_the_first_is_shown(tmp_path: Path) -> None:
    rows, pieces = [], []
    for seed in (1, 2):
        place = tmp_path / f"seed{seed}"
        place.mkdir()
        (place / "alignments.jsonl").write_text(line(f"of seed {seed}", 1, 2))
        row = {"test_set": "test", "budget": "all", "budget_seconds": 9.0, "fold": None}
        rows.append(row | {"seed": seed})
        pieces.append(Piece(f"7 score test/all/seed{seed}", "done", place))
    (system,) = systems([Source("one", "one", Results(rows), pieces)], "test")
    assert [u.id for u in system.worst] == ["of seed 1"]


def test_a_fold_has_utterances_of_its_own(tmp_path: Path) -> None:
    (system,) = systems([source("one", tmp_path, [line("a", 1, 2)], "all", fold="lucas")], "test")
    assert system.name == "one, fold lucas"


def test_words_stand_in_pairs_even_where_steps_hold_several() -> None:
    steps = [("equal", "go on", "go on"), ("substitute", "a b", "c d"), ("insert", "", "e")]
    assert word_pairs([*steps, ("delete", "f g", "")]) == [
        Pair("", "go", "go"),
        Pair("", "on", "on"),
        Pair("S", "a", "c"),
        Pair("S", "b", "d"),
        Pair("I", "", "e"),
        Pair("D", "f", ""),
        Pair("D", "g", ""),
    ]
