from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import audio
from pipeline.errors import RunError
from pipeline.manifest import AUDIO_ROOT, Manifest, Utterance, audio_place


def utterance(name: str, stored: bool = True, **changes: object) -> Utterance:
    told = {"speaker": "s", "samples": 1600, "speech_seconds": 0.1, "transcript": "wörter"}
    told |= {"path": f"{name}.flac", "stored": stored}
    return Utterance(id=name, **(told | changes))  # type: ignore[arg-type]


def test_it_is_sorted_and_comes_back_from_disk(tmp_path: Path) -> None:
    made = Manifest([utterance("b"), utterance("a", transcript=None)], tmp_path)
    made.write()
    back = Manifest.load(tmp_path)
    assert [u.id for u in back] == ["a", "b"]
    assert back.utterances == made.utterances
    assert (len(back), back.seconds, back["b"].transcript) == (2, 0.2, "wörter")


def test_the_order_of_the_utterances_changes_no_byte(tmp_path: Path) -> None:
    rows = [utterance(n) for n in "cab"]
    contents = []
    for order in (rows, rows[::-1]):
        Manifest(order, tmp_path).write()
        contents.append((tmp_path / "manifest.jsonl").read_bytes())
    assert contents[0] == contents[1]


def test_audio_is_in_the_artifact_or_where_the_corpus_left_it(
    tmp_path: Path, write_noise: Callable[..., Path]
) -> None:
    folder, root = tmp_path / "artifact", tmp_path / "corpus"
    audio.write(folder / "mine.flac", np.full(1600, 0.5, np.float32))
    write_noise(root / "theirs.flac", 0.1)
    (folder / AUDIO_ROOT).write_text(audio_place(root, {"theirs": "theirs.flac"}))
    theirs = utterance("theirs", stored=False, path="")
    manifest = Manifest([utterance("mine"), theirs], folder)
    assert manifest.audio_path(theirs) == root / "theirs.flac"
    assert [len(manifest.samples(u)) for u in manifest] == [1600, 1600]


def test_audio_that_changed_since_is_named(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", np.full(1600, 0.5, np.float32))
    manifest = Manifest([utterance("a", samples=1700)], tmp_path)
    with pytest.raises(RunError, match=r"(?s)Utterance a: .*1700 samples.*1600.*--verify"):
        manifest.samples(manifest["a"])
    (tmp_path / "a.flac").unlink()
    with pytest.raises(RunError, match=r"(?s)Utterance a: .*unreadable.*--verify"):
        manifest.samples(manifest["a"])
