"""What a split holds, by its content; hashes of audio files and when they are trusted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.recipe import Recipe
from stages.prepare.corpus import Source
from stages.prepare.sources import FileHashes, content, corpus_module, splits


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "a.wav").write_bytes(b"audio")
    return Source("u1", "anna", "turn left", tmp_path, ("a.wav",), {"gain": 1})


def told(tmp_path: Path, *sources: Source) -> str | None:
    return content(sources, FileHashes(tmp_path / "none.json", "verify"))


def test_all_that_decides_a_split_is_in_its_content(source: Source, tmp_path: Path) -> None:
    (tmp_path / "b.wav").write_bytes(b"other audio")
    changes = [
        {},
        {"id": "u2"},
        {"speaker": "bert"},
        {"transcript": "turn right"},
        {"transcript": None},
        {"parameters": {"gain": 2}},
        {"parameters": {}},
        {"files": ("b.wav",)},
        {"files": ("a.wav", "b.wav")},
        {"files": ("none.wav",)},
    ]
    found = {told(tmp_path, replace(source, **c)) for c in changes}  # type: ignore[arg-type]
    assert len(found) == len(changes)
    assert told(tmp_path) not in found


def test_names_of_files_and_the_order_of_sources_are_not(source: Source, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "b.wav").write_bytes(b"audio")
    assert told(tmp_path, source) == told(tmp_path, replace(source, root=moved, files=("b.wav",)))
    other = replace(source, id="u2")
    assert told(tmp_path, source, other) == told(tmp_path, other, source)


def test_the_kind_of_change_that_each_mode_sees(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "store" / "files.json"

    def sha(mode: str) -> str | None:
        hashes = FileHashes(cache, mode)
        found = hashes.of(path)
        hashes.save()
        return found

    path.write_bytes(b"one")
    assert sha("trust") is None
    one = sha("look")
    assert sha("trust") == one
    path.write_bytes(b"longer")
    assert sha("trust") == one
    assert sha("look") != one
    path.write_bytes(b"one")
    assert sha("look") == one  # by content, not by time
    facts = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert sha("look") == one
    assert sha("verify") not in (None, one)
    path.unlink()
    assert sha("look") == "absent"


def test_a_file_that_is_known_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    hashes = FileHashes(tmp_path / "files.json", "look")
    before = hashes.of(path)
    hashes.save()

    def refuse(_: Path) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr("stages.prepare.sources.file_sha256", refuse)
    assert FileHashes(tmp_path / "files.json", "look").of(path) == before
    assert hashes.of(path) == before


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff"])
def test_a_damaged_memory_of_hashes_is_only_forgotten(tmp_path: Path, damaged: bytes) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "files.json"
    path.write_bytes(b"one")
    cache.write_bytes(damaged)
    hashes = FileHashes(cache, "look")
    assert hashes.of(path) is not None
    hashes.save()
    assert FileHashes(cache, "trust").of(path) is not None


def test_splits_of_a_corpus_include_unlabelled_speech(make_recipe: Callable[..., Recipe]) -> None:
    found = splits(make_recipe("corpus.unlabelled=[more.tsv]").corpus)
    assert {name: len(sources) for name, sources in found.items()} == {
        "train": 12,
        "dev": 3,
        "test/test": 3,
        "unlabelled/0": 3,
    }
    assert all(s.transcript is None for s in found["unlabelled/0"])


def test_a_corpus_that_is_not_there_is_told(make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(UserError, match=r"No such corpus folder: /none; .*--set corpus.root=DIR"):
        splits(make_recipe("corpus.root=/none").corpus)


def test_a_corpus_is_found_by_its_kind(make_recipe: Callable[..., Recipe]) -> None:
    assert corpus_module(make_recipe().corpus).__name__ == "stages.prepare.corpora.tsv"
