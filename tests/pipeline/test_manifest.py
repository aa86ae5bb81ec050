from __future__ import annotations

import json
import pickle
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
    assert list(back.utterances) == list(made.utterances)
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
    (folder / AUDIO_ROOT).write_text("".join(audio_place(root, {"theirs": "theirs.flac"})))
    theirs = utterance("theirs", stored=False, path="")
    manifest = Manifest([utterance("mine"), theirs], folder)
    assert manifest.audio_path(theirs) == root / "theirs.flac"
    assert [len(manifest.samples(u)) for u in manifest] == [1600, 1600]


def test_a_manifest_from_disk_finds_utterances_and_parts(tmp_path: Path) -> None:
    made = Manifest([utterance(f"u{n:03d}") for n in range(30)], tmp_path)
    made.write()
    back = Manifest.load(tmp_path)
    assert back["u017"] == made["u017"] == back.utterances[17]
    assert back.utterances[-1].id == "u029"
    assert [u.id for u in back.utterances[4:7]] == ["u004", "u005", "u006"]
    with pytest.raises(KeyError, match="u030"):
        back["u030"]
    sent = pickle.loads(pickle.dumps(back))
    assert sent["u005"] == made["u005"]


def test_the_place_of_audio_as_it_was_written_before_is_read(tmp_path: Path) -> None:
    old = json.dumps({"a": "sub/a.flac"})
    (tmp_path / AUDIO_ROOT).write_text(f"{tmp_path}/corpus\n{old}\n")
    there = utterance("a", stored=False, path="")
    assert Manifest([there], tmp_path).audio_path(there) == tmp_path / "corpus" / "sub" / "a.flac"


def test_audio_that_changed_since_is_named(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", np.full(1600, 0.5, np.float32))
    manifest = Manifest([utterance("a", samples=1700)], tmp_path)
    with pytest.raises(RunError, match=r"(?s)Utterance a: .*1700 samples.*1600.*--verify"):
        manifest.samples(manifest["a"])
    (tmp_path / "a.flac").unlink()
    with pytest.raises(RunError, match=r"(?s)Utterance a: .*unreadable.*--verify"):
        manifest.samples(manifest["a"])
