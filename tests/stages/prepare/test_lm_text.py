"""The language model's text: from files large and small, line by line, known by its content."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.recipe import Recipe
from pipeline.stage import Step
from stages.prepare import lm_text
from stages.prepare.lm_text import write_text

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
LINES = ["THE DOG\u2019S BONE", "", "ONE\u2028TWO", "caf\u00e9 - now", "123"]
KEPT = ["the dog's bone", "one", "two", "cafe now"]


def write(path: Path, lines: list[str]) -> Path:
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_a_file_is_read_line_by_line_whether_compressed_or_not(
    tmp_path: Path, context: Callable[..., Any], name: str
) -> None:
    ctx = context("text")
    write_text(ctx, sentences=write(tmp_path / name, LINES), name="a file", alphabet=ALPHABET)
    assert (ctx.folder / "lm_text.txt").read_text().split("\n") == [*KEPT, ""]
    told = json.loads((ctx.folder / "lm_text.json").read_text())
    assert told == {"name": "a file", "sentences": 4, "words": 7}


def test_a_large_text_is_never_in_memory(tmp_path: Path, context: Callable[..., Any]) -> None:
    path, ctx = tmp_path / "text.gz", context("text")
    with gzip.open(path, "wt") as file:
        for number in range(60_000):
            file.write(f"SENTENCE NUMBER {'ABCDEFGHIJ'[number % 10] * 40}\n")
    tracemalloc.start()
    write_text(ctx, sentences=path, name="a file", alphabet=ALPHABET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (ctx.folder / "lm_text.txt").stat().st_size
    assert size == 60_000 * 57
    assert peak < size / 6


@pytest.fixture
def text_of(
    make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]]
) -> Callable[..., Step]:
    def step(path: Path, mode: str = "look") -> Step:
        steps = make_plan(make_recipe(f"lm.text={path}"), mode)
        return next(s for s in steps if s.title == "0 prepare text")

    return step


def test_a_plain_file_is_known_by_its_lines(tmp_path: Path, text_of: Callable[..., Step]) -> None:
    told = text_of(write(tmp_path / "text.txt", LINES)).settings["sentences"]
    lines = "\n".join(write(tmp_path / "again.txt", LINES).read_text().splitlines())
    assert told == hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", ["text.txt", "text.gz"])
def test_another_content_is_another_text_and_another_place_is_not(
    tmp_path: Path, text_of: Callable[..., Step], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(lm_text, "LARGE_BYTES", 10)
    (tmp_path / "moved").mkdir()
    paths = tmp_path / name, tmp_path / "moved" / name
    first, moved = (text_of(write(path, LINES)).signature for path in paths)
    assert first == moved
    assert text_of(write(tmp_path / name, [*LINES, "more"])).signature != first


def test_status_reads_no_large_text(tmp_path: Path, text_of: Callable[..., Step]) -> None:
    path = write(tmp_path / "text.gz", LINES)
    assert text_of(path, "trust").unknown
    known = text_of(path)
    assert not known.unknown
    assert text_of(path, "trust").signature == known.signature


def test_a_damaged_file_is_told(tmp_path: Path, context: Callable[..., Any]) -> None:
    whole = write(tmp_path / "text.gz", LINES * 100).read_bytes()
    latin = gzip.compress(b"caf\xe9\n")
    for content in (whole[:-9], whole[:40] + b"damage" + whole[46:], latin):
        (tmp_path / "cut.gz").write_bytes(content)
        with pytest.raises(UserError, match=r"lm\.text: .*cut\.gz cannot be read"):
            write_text(context("cut"), sentences=tmp_path / "cut.gz", name="x", alphabet=ALPHABET)


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_a_line_without_end_is_named_before_it_is_in_memory(
    tmp_path: Path, context: Callable[..., Any], name: str
) -> None:
    """33 kB of gzip's are 32 MB here."""
    path = write(tmp_path / name, ["one", "x" * 2**25])
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"{name}, line 2: too long(.|\n)*1048576 characters"):
        write_text(context("text"), sentences=path, name="a file", alphabet=ALPHABET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_longest_line_is_read_and_one_letter_more_is_refused(
    tmp_path: Path, name: str, end: str
) -> None:
    path = tmp_path / name
    for more in (0, 1):
        content = f"one\n{'x' * (2**20 + more)}{end}".encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        if more:
            with pytest.raises(UserError, match="line 2: too long"):
                list(lm_text.sentences_of(path))
        else:
            assert [len(s) for s in lm_text.sentences_of(path)] == [3, 2**20]


def test_lines_end_alike_whether_compressed_or_not(tmp_path: Path) -> None:
    content = "\ufeffa\r\nb\rc\n\rd\x0b\r\ne\u2028\n\nf\x85\x1cg\r"
    found = []
    for name, data in (("t", content.encode()), ("t.gz", gzip.compress(content.encode()))):
        (tmp_path / name).write_bytes(data)
        found.append(list(lm_text.sentences_of(tmp_path / name)))
    assert found == [content[1:].splitlines()] * 2
