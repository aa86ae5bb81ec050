"""What a split holds, by its content; hashes of audio files and when they are trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.console import Progress
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

    monkeypatch.setattr("stages.prepare.hashes.file_sha256", refuse)
    assert FileHashes(tmp_path / "files.json", "look").of(path) == before
    assert hashes.of(path) == before


def files(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{n:04d}.wav" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_text(str(n))
    return paths


def test_what_two_runs_read_at_once_is_remembered_together(tmp_path: Path) -> None:
    one, two = files(tmp_path / "audio", 2)
    first, second = (FileHashes(tmp_path / "files.json", "look") for _ in range(2))
    for hashes, path in ((first, one), (second, two)):
        hashes.of(path)
        hashes.save()
    known = FileHashes(tmp_path / "files.json", "trust")
    assert None not in (known.of(one), known.of(two))


def test_a_run_that_is_killed_while_it_reads_loses_little(tmp_path: Path) -> None:
    paths, hashes = files(tmp_path / "audio", 301), FileHashes(tmp_path / "files.json", "look")
    for path in paths:
        hashes.of(path)
    known = FileHashes(tmp_path / "files.json", "trust")
    assert [known.of(p) is None for p in paths] == [False] * 300 + [True]


@pytest.mark.parametrize(("count", "shown"), [(200, []), (201, [201])])
@pytest.mark.parametrize("mode", ["look", "verify"])
def test_reading_many_new_files_is_shown_and_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, count: int, shown: list[int]
) -> None:
    paths, totals, read = files(tmp_path / "audio", count), list[int](), list[Path]()

    class Bar(Progress):
        def __init__(self, total: int, what: str, unit: str) -> None:
            super().__init__(total, what, unit)
            totals.append(total)

    def sha(path: Path) -> str:
        read.append(path)
        return path.name

    monkeypatch.setattr("stages.prepare.hashes.Progress", Bar)
    monkeypatch.setattr("stages.prepare.hashes.file_sha256", sha)
    rows = [Source(p.stem, "s", None, p.parent, (p.name,)) for p in paths]
    hashes = FileHashes(tmp_path / "files.json", mode)
    before = content(rows, hashes)
    assert (totals, read) == (shown, paths)
    assert content(rows, hashes) == before
    assert (totals, read) == (shown, paths)  # known now


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (one,) = files(tmp_path / "audio", 1)
    hashes = FileHashes(one / "store" / "files.json", "look")
    hashes.of(one)
    with pytest.raises(UserError, match=r"cannot be made: Not a directory"):
        hashes.save()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[1,2,3,4]",
        b"[null,2,3,4]",
        b'["a",2,3,4]',
        b'["a",2,null,"b"]',
        b'["a","2",3,"b"]',
        b'["\\ud800",2,3,"b"]',
        b'{"a":[1,2,3]}',
        b'{"a":1}',
    ],
)
def test_a_damaged_memory_of_hashes_is_only_forgotten(tmp_path: Path, damaged: bytes) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "files.json"
    path.write_bytes(b"one")
    cache.write_bytes(damaged)
    hashes = FileHashes(cache, "look")
    assert hashes.of(path) is not None
    hashes.save()
    assert FileHashes(cache, "trust").of(path) is not None


def test_a_damaged_line_costs_no_other(tmp_path: Path) -> None:
    paths, cache = files(tmp_path / "audio", 2), tmp_path / "files.json"
    found = []
    for path in paths:
        hashes = FileHashes(cache, "look")
        found.append(hashes.of(path))
        hashes.save()
        with open(cache, "a") as file:
            file.write('[1,2,3,4]\n[null,2,3,4]\n["a",2,3,4]\n')
    known = FileHashes(cache, "trust")
    assert [known.of(path) for path in paths] == found


def test_what_was_remembered_in_the_older_form_is_known_and_kept(tmp_path: Path) -> None:
    paths, cache = files(tmp_path / "audio", 3), tmp_path / "files.json"
    facts = [os.stat(path) for path in paths]
    old = {
        str(path): [fact.st_size, fact.st_mtime_ns, f"sha of {path.name}"]
        for path, fact in zip(paths[:2], facts, strict=False)
    }
    cache.write_text(json.dumps(old))
    hashes = FileHashes(cache, "look")
    assert [hashes.of(path) for path in paths[:2]] == ["sha of 0000.wav", "sha of 0001.wav"]
    new = hashes.of(paths[2])
    hashes.save()
    known = FileHashes(cache, "trust")
    assert [known.of(path) for path in paths] == ["sha of 0000.wav", "sha of 0001.wav", new]


def test_a_line_that_a_kill_cut_is_forgotten_and_the_rest_is_kept(tmp_path: Path) -> None:
    paths, cache = files(tmp_path / "audio", 4), tmp_path / "files.json"
    hashes = FileHashes(cache, "look")
    for path in paths[:3]:
        hashes.of(path)
        hashes.save()
    cache.write_bytes(cache.read_bytes()[:-20])
    again = FileHashes(cache, "look")
    again.of(paths[3])
    again.save()
    known = FileHashes(cache, "trust")
    assert [known.of(p) is None for p in paths] == [False, False, True, False]


def test_saving_adds_to_the_file_and_leaves_what_is_there(tmp_path: Path) -> None:
    """What it costs to remember a file does not grow with how many are known."""
    paths, cache = files(tmp_path / "audio", 3), tmp_path / "files.json"
    hashes = FileHashes(cache, "look")
    before = b""
    for path in paths:
        hashes.of(path)
        hashes.save()
        assert cache.read_bytes().startswith(before) and cache.stat().st_size > len(before)
        before = cache.read_bytes()
    assert len(before.splitlines()) == 3


def test_a_file_is_known_under_every_link_to_it(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "audio", 1)
    (tmp_path / "folder").symlink_to(tmp_path / "audio")
    (tmp_path / "audio" / "link.wav").symlink_to(path)
    hashes = FileHashes(tmp_path / "files.json", "look")
    found = hashes.of(path)
    hashes.save()
    known = FileHashes(tmp_path / "files.json", "trust")
    assert known.of(tmp_path / "folder" / path.name) == found
    assert known.of(tmp_path / "audio" / "link.wav") == found


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


@pytest.mark.parametrize("speeds", ["[]", "[0.9]"])
@pytest.mark.parametrize("split", ["train", "dev", "test", "more"])
def test_an_id_that_looks_like_a_copys_is_refused_whether_copies_are_made_or_not(
    make_recipe: Callable[..., Recipe], corpus: Path, split: str, speeds: str
) -> None:
    """Else budgets and LM text would leave it out, or take it along for nothing."""
    path = corpus / f"{split}.tsv"
    text = path.read_text("utf-8")
    path.write_text(text.replace(f"\n{split}-01\t", f"\n{split}-00@speed-camera\t"), "utf-8")
    recipe = make_recipe("corpus.unlabelled=[more.tsv]", f"corpus.train_speeds={speeds}")
    with pytest.raises(UserError, match=rf"{split}-00@speed-camera' looks like that of a copy"):
        splits(recipe.corpus)
