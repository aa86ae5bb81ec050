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
NOW = {"kept_back_utterances": 3, "kept_back_loss": 2.0, "kept_back_accuracy": 0.5}
NOW |= {"kept_back_accuracy_nearest": 0.25}


def shown(folder: Path, facts: dict[str, Any], prefix: str) -> Curves:
    history = [{"update": 25, "loss": 3.0}, {"update": 25, f"{prefix}_loss": 2.0}]
    (folder / "pretraining.json").write_text(json.dumps(facts | {"history": history}))
    made = berts([Source("some", "some", Results([]), pieces=[Piece("3 bert", "done", folder)])])
    assert made is not None
    return made


@pytest.mark.parametrize(("facts", "prefix"), [(BEFORE, "dev"), (NOW, "kept_back")])
def test_figures_of_speech_kept_back_are_shown_whenever_they_were_written(
    tmp_path: Path, facts: dict[str, Any], prefix: str
) -> None:
    made = shown(tmp_path, facts, prefix)
    assert [c.title for c in made.charts] == [
        "Loss on hidden units",
        "Loss on speech kept back",
    ]
    assert made.table is not None
    assert [cell.text for cell in made.table.body[0][1:]] == ["50.0", "25.0", "-", "2.000"]


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
    assert made.table is not None
    assert {cell.text for cell in made.table.body[0][1:]} == {"-"}
