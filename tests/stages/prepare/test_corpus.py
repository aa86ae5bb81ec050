"""Corpus lists as they come: ends of line, blank lines, and what cannot be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from stages.prepare.corpus import read_tsv

HEADER = "utt_id\tspeaker\tpath\ttranscript\n"


def write(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "list.tsv"
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\u2029"])
def test_a_transcript_is_not_cut_at_the_ends_of_line_of_unicode(tmp_path: Path, end: str) -> None:
    path = write(tmp_path, f"{HEADER}a\ts\ta.wav\tturn{end}left\nb\ts\tb.wav\tstop\n")
    assert [s.transcript for s in read_tsv(path)] == [f"turn{end}left", "stop"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    path = write(tmp_path, f"{HEADER}a\ts\ta.wav\tone\nb\ts\tb.wav\ttwo\n".replace("\n", end))
    assert [s.transcript for s in read_tsv(path)] == ["one", "two"]


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\na\ts\ta.wav\tone\n\n\na\ts\tb.wav\ttwo\n")
    with pytest.raises(UserError, match="line 6: utterance id 'a' stands twice"):
        read_tsv(path)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a\ts\ta\0.wav\tone", r"line 2: 'a\\x00.wav' cannot be a path"),
        ("a\ts\ta.wav\t" + "x" * 200_000, "line 2: field larger than field limit"),
    ],
)
def test_what_no_list_can_hold_is_told(tmp_path: Path, row: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_tsv(write(tmp_path, f"{HEADER}{row}\n"))


@pytest.mark.case(20)
def test_more_columns_than_are_read_may_stand_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path, f"note\t{HEADER}good\ta\ts\ta.wav\tone\n")
    assert [(s.id, s.transcript) for s in read_tsv(path)] == [("a", "one")]
    path = write(tmp_path, f"note\t{HEADER}good\ta\ts\ta.wav\tone\ttwo\n")
    with pytest.raises(UserError, match="line 2: more fields"):
        read_tsv(path)


@pytest.mark.parametrize(("name", "told"), [(".", "Is a directory"), ("a\0b", "null byte")])
def test_what_is_no_file_is_told(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(UserError, match=f"cannot be read: .*{told}"):
        read_tsv(tmp_path / name)
