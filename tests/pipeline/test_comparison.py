"""Whatever stands in a results.json, it is shown or refused in a few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import comparison
from pipeline.errors import UserError
from stages.acoustic import tables
from stages.acoustic.row_fields import REQUIRED, RowFields
from stages.report.collect import collect
from stages.report.page import render

ROW: dict[str, Any] = {"test_set": "test", "budget": "1min", "budget_seconds": 58.0, "seed": 1}
ROW |= {"recipe": "demo", "frontend": "log_mel", "decoder": "lexicon_beam", "fold": "x"}
ROW |= {"wer": 0.25, "wer_low": 0.2, "wer_high": 0.3, "cer": 0.1, "cer_low": 0.0, "cer_high": 0.2}
ROW |= {"substitutions": 5, "deletions": 5, "insertions": 10, "reference_words": 80}
ROW |= {"reference_chars": 300, "confidence": 0.95, "resampled": "12 speakers"}
ROW |= {"bootstrap_samples": 100, "empty_share": 0.5, "per_speaker": {"ann": 0.25}}
ROW |= {"corpus": "digits", "alphabet": "abc", "closed_grammar": True, "lm_text": "its own"}
ROW |= {"test_seconds": 30.0, "test_utterances": 9, "test_speakers": 12, "test_rejected": 0}
ROW |= {"test_split": "0a", "dev_split": "0b", "dev_utterances": 9, "dev_rejected": 0}
ROW |= {"dev_seconds": 90.0, "lm_order": 3, "lm_perplexity": 7.5, "lm_sentences": 5}
ROW |= {"lm_vocabulary": 10, "test_in_lm_text": 1, "dev_in_lm_text": 2, "lm_weight": 0.5}
ROW |= {"word_score": -1.0, "beam": 8, "beam_tuned": True, "dev_wer": 0.3, "at_edge": []}
ROW |= {"parameters": 999, "updates": 100, "settings": {"prepare": "0a"}}
ROW |= {"precision": "fp32", "left_out": 3, "dev_speech_seconds": 80.0}
ROW |= {"best": {"update": 50, "evaluations": 2, "dev_wer": 0.4}}

WRONG = (None, "text", -1, 0, 0.5, float("nan"), float("inf"), [], [1], {}, {"x": None}, True)


def written(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    return path


def show(path: Path) -> None:
    """As `vqasr compare` and `vqasr report` do."""
    found = comparison.read(str(path), path.parent)
    rows = tables.compare([found])
    for form in ("table", "md", "csv", "json"):
        for metric in ("wer", "cer"):
            tables.format_table(rows, form, metric)
    render(collect([str(path)], path.parent))


def test_the_row_here_has_every_key_and_is_shown(tmp_path: Path) -> None:
    assert set(ROW) == set(RowFields.model_fields)
    show(written(tmp_path, ROW))
    show(written(tmp_path, {key: ROW[key] for key in REQUIRED}))


@pytest.mark.parametrize("key", ROW)
def test_a_wrong_value_is_refused_or_does_no_harm(tmp_path: Path, key: str) -> None:
    refused = 0
    for value in WRONG:
        path = written(tmp_path, ROW, ROW | {"seed": 2, key: value})
        try:
            comparison.read(str(path), tmp_path)
        except UserError as error:
            refused += 1
            assert key in error.found and "row 2" in error.found
            assert len(error.text().splitlines()) <= 4
        else:
            show(path)
    assert refused >= 6


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("budget_seconds", 0, "budget_seconds of row 1 is 0: input should be greater than 0"),
        ("wer", float("nan"), "wer of row 1 is nan: input should be a finite number"),
        ("confidence", None, "confidence of row 1 is None: input should be a valid number"),
        ("dev_seconds", None, "dev_seconds of row 1 is None"),
        ("decoder", 3, "decoder of row 1 is 3: input should be a valid string"),
        ("fold", 3, "fold of row 1 is 3"),
        ("seed", "1", "seed of row 1 is '1': input should be a valid integer"),
        ("best", {"update": 5}, "row 1 without best.evaluations"),
    ],
)
def test_the_wrong_value_is_named(tmp_path: Path, key: str, value: Any, told: str) -> None:
    with pytest.raises(UserError) as raised:
        comparison.read(str(written(tmp_path, ROW | {key: value})), tmp_path)
    assert told in raised.value.found
    assert raised.value.remedy == "give the results.json that vqasr run wrote"
