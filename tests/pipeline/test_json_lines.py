"""Files of JSON by line: what is found, what a kill cut, and reading from several processes."""

from __future__ import annotations

import json
import os
import pickle
from operator import itemgetter
from pathlib import Path

import pytest

from pipeline import json_lines
from pipeline.json_lines import JsonLines


def write(path: Path, rows: list[dict[str, str]], header: str = "", tail: str = "") -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text(header + "".join(lines) + tail, "utf-8")
    return path


ROWS = [{"id": name, "said": f"wörter {name}"} for name in ("b", "ä", "c", "long" * 50)]


@pytest.mark.parametrize("header", ["", "one line\n", "two lines\nand more\n"])
def test_entries_are_found_by_number_by_key_and_in_order(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS, header)
    lines = JsonLines(path, itemgetter("id"), header.count("\n"))
    assert len(lines) == 4
    assert list(lines) == [lines[n] for n in range(4)] == ROWS
    assert [lines.find(row["id"]) for row in ROWS] == ROWS
    assert lines.find("none") is None
    assert lines.end == path.stat().st_size


def test_of_one_key_the_last_entry_is_found(tmp_path: Path) -> None:
    rows = [{"id": "a", "n": "1"}, {"id": "b", "n": "2"}, {"id": "a", "n": "3"}]
    lines = JsonLines(write(tmp_path / "rows.jsonl", rows), itemgetter("id"))
    assert lines.find("a") == rows[2]


def test_keys_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_hash", lambda key: 7)
    lines = JsonLines(write(tmp_path / "rows.jsonl", ROWS), itemgetter("id"))
    assert [lines.find(row["id"]) for row in ROWS] == ROWS
    assert lines.find("none") is None


@pytest.mark.parametrize("tail", ['{"id": "ha', '{"id": "half"}'])
def test_what_a_kill_cut_is_no_entry(tmp_path: Path, tail: str) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS, tail=tail)
    lines = JsonLines(path, itemgetter("id"))
    assert list(lines) == ROWS
    assert lines.find("half") is None
    os.truncate(path, lines.end)
    assert list(JsonLines(path, itemgetter("id"))) == ROWS


def test_an_empty_file_has_none(tmp_path: Path) -> None:
    lines = JsonLines(write(tmp_path / "rows.jsonl", []), itemgetter("id"))
    assert (len(lines), list(lines), lines.find("a"), lines.end) == (0, [], None, 0)


def test_other_processes_are_sent_what_finds_the_same(tmp_path: Path) -> None:
    lines = JsonLines(write(tmp_path / "rows.jsonl", ROWS), itemgetter("id"))
    assert lines.find("c") == ROWS[2]
    sent = pickle.loads(pickle.dumps(lines))
    assert sent.find("c") == ROWS[2] and sent[0] == ROWS[0]


def test_a_file_that_is_removed_meanwhile_is_still_read(tmp_path: Path) -> None:
    lines = JsonLines(write(tmp_path / "rows.jsonl", ROWS), itemgetter("id"))
    assert lines.find("c") == ROWS[2]
    lines.path.unlink()
    assert lines.find("ä") == ROWS[1]
