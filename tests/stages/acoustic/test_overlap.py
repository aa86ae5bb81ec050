"""Sentences of a split that the language model has read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.manifest import Manifest, Utterance
from stages.acoustic.overlap import in_text


@pytest.mark.case(24)
def test_utterances_count_whose_whole_transcript_stands_in_the_text(tmp_path: Path) -> None:
    said = ["go left", "go left", "left", "été now", "go left now", None]
    utterances = [
        Utterance(f"u{n}", "s", "a.wav", True, 16_000, 1.0, text) for n, text in enumerate(said)
    ]
    text = tmp_path / "text"
    text.write_text("go left\ngo left\nnever\nété now", "utf-8")
    assert in_text(Manifest(utterances, tmp_path), text) == 3
    assert in_text(Manifest([], tmp_path), text) == 0
