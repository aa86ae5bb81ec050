"""The curves of pretraining, under the names that their figures have now and had before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.acoustic.results import Results
from stages.report.collect import Piece, Source
from stages.report.training import Curves, berts

BEFORE = {"validation_utterances": 3, "loss": 2.0, "accuracy": 0.5, "accuracy_nearest": 0.25}
RENAMED = {"kept_back_utterances": 3, "kept_back_loss": 2.0, "kept_back_accuracy": 0.5}
RENAMED |= {"kept_back_accuracy_nearest": 0.25}
NOW = {"kept_back_utterances": 3, "kept_back_loss": 2.0, "kept_back_accuracy": 0.5}
NOW |= {"kept_back_mask_loss": 3.0, "kept_back_mask_accuracy": 0.375}
NOW |= {"kept_back_mask_accuracy_nearest": 0.125, "kept_back_mask_accuracy_most_frequent": 0.0}


def shown(folder: Path, facts: dict[str, Any], prefix: str) -> Curves:
    evaluated = {k: v for k, v in facts.items() if k.startswith(prefix) and "utter" not in k}
    evaluated = {"update": 25, f"{prefix}_loss": 2.0} | evaluated
    history = [{"update": 25, "loss": 3.0}, evaluated]
    (folder / "pretraining.json").write_text(json.dumps(facts | {"history": history}))
    made = berts([Source("some", "some", Results([]), pieces=[Piece("3 bert", "done", folder)])])
    assert made is not None
    return made


@pytest.mark.parametrize(("facts", "prefix"), [(BEFORE, "dev"), (RENAMED, "kept_back")])
def test_figures_of_before_are_shown_as_over_all_chosen_frames(
    tmp_path: Path, facts: dict[str, Any], prefix: str
) -> None:
    made = shown(tmp_path, facts, prefix)
    titles = [c.title for c in made.charts]
    assert titles[:2] == ["Loss on hidden units", "Loss on speech kept back over all chosen frames"]
    (table,) = made.tables
    rates = ["50.0", "25.0", "-", "2.000", "3", "over all chosen frames"]
    assert [cell.text for cell in table.body[0][1:]] == rates
    assert "a tenth of them show their own unit" in table.caption


def test_figures_shown_are_of_frames_that_show_mask(tmp_path: Path) -> None:
    made = shown(tmp_path, NOW, "kept_back")
    assert [c.title for c in made.charts] == [
        "Loss on hidden units",
        "Loss on speech kept back at frames that show [MASK]",
        "Guessed right, speech kept back, at frames that show [MASK]",
        "Loss on speech kept back over all chosen frames",
    ]
    (table,) = made.tables
    rates = ["37.5", "12.5", "0.0", "3.000", "3", "at frames that show [MASK]"]
    assert [cell.text for cell in table.body[0][1:]] == rates
    assert "chosen frames" not in table.caption


@pytest.mark.parametrize(
    ("facts", "prefix"),
    [
        (BEFORE | {"validation_utterances": 0}, "dev"),
        ({"kept_back_utterances": 0, "trained_on_loss": 2.0}, "trained_on"),
    ],
)
def test_figures_of_speech_trained_on_are_not_shown_as_kept_back(
    tmp_path: Path, facts: dict[str, Any], prefix: str
) -> None:
    made = shown(tmp_path, facts, prefix)
    assert [c.title for c in made.charts] == ["Loss on hidden units"]
    (table,) = made.tables
    assert {cell.text for cell in table.body[0][1:]} == {"-"}


def test_guesses_on_dev_are_told_of_all_folds_of_a_source_together(tmp_path: Path) -> None:
    sources = []
    for name, folds in (("one", ("a", "b")), ("same", ("a", "b")), ("other", ("b",))):
        pieces = [Piece("3 bert", "done", tmp_path)]
        for fold, frames, accuracy in (("a", 30, 0.2), ("b", 10, 0.4)):
            folder = tmp_path / fold
            folder.mkdir(exist_ok=True)
            told = {"frames": frames, "loss": 2.5, "accuracy": accuracy}
            told |= {"accuracy_nearest": 0.125, "accuracy_most_frequent": 0.0}
            facts = {"utterances": 3, "left_out": 0, "figures": {"all": told, "mask": told}}
            (folder / "dev.json").write_text(json.dumps(facts))
            if fold in folds:
                pieces.append(Piece(f"3 bert {fold}/dev", "done", folder))
        sources.append(Source(name, name, Results([]), pieces=pieces))
    (tmp_path / "pretraining.json").write_text(
        json.dumps(NOW | {"history": [{"update": 1, "loss": 3.0}]})
    )
    made = berts(sources)
    assert made is not None
    on_dev, kept_back = made.tables
    assert on_dev.caption.startswith("Hidden units of dev, which no BERT here learnt from")
    assert [[cell.text for cell in line] for line in on_dev.body] == [
        ["one, same", "25.0", "12.5", "0.0", "2.500", "6", "at frames that show [MASK]"],
        ["other", "40.0", "12.5", "0.0", "2.500", "3", "at frames that show [MASK]"],
    ]
    assert kept_back.caption.startswith("Hidden units of speech kept back")
    assert len(kept_back.body) == 1
