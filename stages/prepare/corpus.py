"""What a corpus is to stage 0: splits of sources, and samples for each source.

A corpus file in `corpora/` has
    Settings                    a CorpusSettings with `kind: Literal["<file name>"]`
    splits(settings)            {split: [Source, ...]}; reads lists, never audio. The splits are
                                named `train`, `dev` and `test/<name>`; stage 0 adds, for all
                                corpora, `test/<name>` of `corpus.test` and `unlabelled/<n>`.
and, only where the default does not do,
    load(source)                Loaded; the default reads the one file of the source
    lm_text(settings)           sentences for the language model, or a file of them, a sentence a
                                line; None: training transcripts
    LM_TEXT                     how results name that text
    folds(settings)             {fold: Settings}, the corpus cut in several ways, each with a test
                                set of its own: what `folds` of a recipe chooses from
    BUDGETS_OF_FOLDS            the budgets that differ between folds, where nothing else does:
                                without it, folds cut the splits
    budget_ids(settings, budget, train)
                                the ids of an official budget, out of the sources of train; None
                                where we choose the utterances
    split_remarks(settings, split, sources), budget_remarks(settings, budget)
                                [Remark, ...]: what a user should know of a split of its own or of
                                an official budget
    fetch(settings, budgets, lm)
                                brings what is missing, if the settings say so; `vqasr run` calls
                                it first
"""

from __future__ import annotations

import csv
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import audio
from pipeline.errors import UserError, shown
from pipeline.text_file import read_utf8
from stages.prepare import watched

if TYPE_CHECKING:
    from pipeline.audio import Samples

_NONE: Mapping[str, Any] = {}  # of every source without parameters: there may be many
COLUMNS = ("utt_id", "speaker", "path", "transcript")
ZERO_WIDTH = "\u200b\u2060\ufeff"  # white space to who reads a list, none to Unicode
KEPT_BYTES = 1 << 20  # of a list, above which its sources are not kept to be had again


@dataclass(frozen=True, slots=True)
class Source:
    """An utterance as its corpus tells of it, before any check.

    Attributes:
        files: the audio it is made of, relative to `root`; none where it is synthesised.
        parameters: JSON values that decide its samples beside the files.
    """

    id: str
    speaker: str
    transcript: str | None
    root: Path
    files: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Mono samples of a source; `made` tells that they are not simply its file's.

    `speech_seconds` is what a budget counts; None means the whole length.
    """

    samples: Samples
    rate_hz: int
    made: bool = False
    speech_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What is not as its publisher tells, and used all the same.

    The step of stage 0 that is concerned says `line`, and keeps `value` (JSON) as `key` in its
    summary.
    """

    key: str
    value: Any
    line: str


def load_file(source: Source) -> Loaded:
    """Read the one file of a source.

    Raises:
        pipeline.audio.BadAudio: nobody should train on it.
    """
    samples, rate_hz = audio.read(source.root / source.files[0])
    return Loaded(samples, rate_hz)


def read_tsv(path: Path) -> list[Source]:
    """The sources of a TSV with the columns utt_id, speaker, path, transcript.

    Paths are relative to the TSV's folder and may not leave it. An empty transcript is None.
    Blank lines are skipped. Ids and speakers are compared as they stand; so those that would look
    alike and differ are refused, with white space around them or in another normal form of
    Unicode than NFC. Paths are not: files may be named in any form.

    Raises:
        UserError: no such file, not UTF-8, columns missing, more fields than columns, such an id
            or speaker, an id twice, or a path that is absolute or leaves the folder; with the
            line's number.
    """
    watched.note(path)  # it may be known from before
    try:
        facts = os.stat(path)
        if stat.S_ISREG(facts.st_mode):
            if facts.st_size > KEPT_BYTES:
                return list(_read(path))
            return list(_parsed(path, facts.st_size, facts.st_mtime_ns))
    except (OSError, ValueError):  # of the encoding too
        pass
    read_utf8(path, "corpus list", "check corpus.root and the file's name")  # tells what is wrong
    raise UserError(f"The corpus list {path} changes while it is read.", remedy="run again")


@lru_cache(maxsize=16)  # every fold of a corpus reads the same lists
def _parsed(path: Path, size: int, time_ns: int) -> tuple[Source, ...]:
    return tuple(_read(path))


def _read(path: Path) -> Iterator[Source]:
    # Not text.splitlines(): a transcript may hold U+2028, U+0085 and other ends of line.
    with open(path, encoding="utf-8-sig", newline=None) as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            yield from _sources(rows, path)
        except csv.Error as error:
            raise UserError(
                f"{path}, line {rows.line_num}: {error}.",
                remedy="split the utterance, or see whether an end of line is missing",
            ) from error


def _sources(rows: Any, path: Path) -> Iterator[Source]:
    names: list[str] = next(rows, [])
    missing = [c for c in COLUMNS if c not in names]
    if missing:
        raise UserError(
            f"{path} lacks columns.",
            constraint=f"a header with {', '.join(COLUMNS)}, tab-separated",
            found=f"{', '.join(names or ['nothing'])}",
        )
    columns = [len(names) - 1 - names[::-1].index(c) for c in COLUMNS]
    seen, inside = set[str](), _Inside(path.parent)
    for row in rows:
        if not row:
            continue
        where = f"{path}, line {rows.line_num}"
        told = [row[at] if at < len(row) else None for at in columns]
        if None in told or not told[0] or not told[2]:
            raise UserError(f"{where}: utt_id and path must not be empty, in four columns.")
        if any(row[len(names) :]):
            raise UserError(
                f"{where}: more fields than the header has columns.",
                constraint=f"{len(names)} fields, tab-separated; no tab in a transcript",
                found=f"{len(row)} fields, the last {shown(row[-1])}",
                remedy="write a space for a tab within a field",
            )
        name, speaker, file, transcript = (str(value) for value in told)
        _refuse_look_alike("utt_id", name, where)
        _refuse_look_alike("speaker", speaker, where)
        if name in seen:
            raise UserError(f"{where}: utterance id '{name}' stands twice.")
        seen.add(name)
        inside.refuse_others(file, where)
        yield Source(name, sys.intern(speaker), transcript.strip() or None, path.parent, (file,))


def _refuse_look_alike(column: str, value: str, where: str) -> None:
    if any(end.isspace() or end in ZERO_WIDTH for end in value[:1] + value[-1:]):
        raise UserError(
            f"{where}: {column} begins or ends with white space.",
            found=ascii(value),
            remedy="remove it",
        )
    if not value.isascii() and not unicodedata.is_normalized("NFC", value):
        raise UserError(
            f"{where}: {column} {shown(value)} is not in Unicode's normal form NFC.",
            found=ascii(value),
            remedy=f"write {unicodedata.normalize('NFC', value)!a}, which looks the same; "
            "leave paths as they are",
        )


class _Inside:
    """A folder that paths of a list may not leave; where its folders lead is looked at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._known: dict[str, bool] = {}

    def refuse_others(self, path: str, where: str) -> None:
        try:
            is_inside = self._is_inside(path)
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
            raise UserError(f"{where}: {path!r} cannot be a path: {error}.") from error
        if not is_inside:
            raise UserError(
                f"{where}: the path leaves the corpus' folder.",
                constraint="a path relative to the TSV's folder, inside it",
                found=path,
            )

    def _is_inside(self, path: str) -> bool:
        if os.path.isabs(path):
            return False
        folder, name = os.path.split(path)
        if (
            name in ("", os.curdir, os.pardir)
            or "\0" in path
            or os.path.islink(self._folder / path)
        ):
            return (self._folder / path).resolve().is_relative_to(self._folder)
        if folder not in self._known:
            there = (self._folder / folder).resolve()
            self._known[folder] = there.is_relative_to(self._folder)
        return self._known[folder]


def held_out(speakers: Sequence[str], count: int, purpose: str) -> list[str]:
    """`count` speakers, the same on every machine: those whose hashed names come first."""
    import hashlib

    def order(speaker: str) -> str:
        return hashlib.sha256(f"{purpose}/{speaker}".encode()).hexdigest()

    return sorted(sorted(set(speakers)), key=order)[:count]
