"""What a corpus is to stage 0: splits of sources, and samples for each source.

A corpus file in `corpora/` has
    Settings                    a CorpusSettings with `kind: Literal["<file name>"]`
    splits(settings)            {split: [Source, ...]}; reads lists, never audio. The splits are
                                named `train`, `dev` and `test/<name>`; stage 0 adds, for all
                                corpora, `test/<name>` of `corpus.test` and `unlabelled/<n>`.
and, only where the default does not do,
    load(source)                Loaded; the default reads the one file of the source
    lm_text(settings)           sentences for the language model, or None: training transcripts
    LM_TEXT                     how results name that text
    folds(settings)             {fold: Settings}, the corpus cut in several ways, each with a test
                                set of its own: what `folds` of a recipe chooses from
    BUDGETS_OF_FOLDS            the budgets that differ between folds, where nothing else does:
                                without it, folds cut the splits
    budget_ids(settings, budget, train)
                                the ids of an official budget, out of the sources of train; None
                                where we choose the utterances
    fetch(settings, budgets, lm)
                                brings what is missing, if the settings say so; `vqasr run` calls
                                it first
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import audio
from pipeline.errors import UserError
from pipeline.text_file import read_utf8

if TYPE_CHECKING:
    from pipeline.audio import Samples

COLUMNS = ("utt_id", "speaker", "path", "transcript")


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
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Mono samples of a source; `made` tells that they are not simply its file's.

    `speech_seconds` is what a budget counts; None means the whole length.
    """

    samples: Samples
    rate_hz: int
    made: bool = False
    speech_seconds: float | None = None


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
    Blank lines are skipped.

    Raises:
        UserError: no such file, not UTF-8, columns missing, an id twice, or a path that is
            absolute or leaves the folder; with the line's number.
    """
    text = read_utf8(path, "corpus list", "check corpus.root and the file's name")
    return list(_parsed(text, path))


@lru_cache(maxsize=16)  # every fold of a corpus reads the same lists
def _parsed(text: str, path: Path) -> tuple[Source, ...]:
    # Not text.splitlines(): a transcript may hold U+2028, U+0085 and other ends of line.
    lines = io.StringIO(text, newline=None)
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        return tuple(_sources(rows, path))
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.reader.line_num}: {error}.") from error


def _sources(rows: csv.DictReader[str], path: Path) -> list[Source]:
    missing = [c for c in COLUMNS if c not in (rows.fieldnames or ())]
    if missing:
        raise UserError(
            f"{path} lacks columns.",
            constraint=f"a header with {', '.join(COLUMNS)}, tab-separated",
            found=f"{', '.join(rows.fieldnames or ['nothing'])}",
        )
    sources, seen, inside = [], set[str](), path.parent.resolve()
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        if any(row[c] is None for c in COLUMNS) or not row["utt_id"] or not row["path"]:
            raise UserError(f"{where}: utt_id and path must not be empty, in four columns.")
        if row["utt_id"] in seen:
            raise UserError(f"{where}: utterance id '{row['utt_id']}' stands twice.")
        seen.add(row["utt_id"])
        _refuse_outside(inside, row["path"], where)
        transcript = row["transcript"].strip() or None
        sources.append(
            Source(row["utt_id"], row["speaker"], transcript, path.parent, (row["path"],))
        )
    return sources


def _refuse_outside(folder: Path, path: str, where: str) -> None:
    try:
        there = (folder / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise UserError(f"{where}: {path!r} cannot be a path: {error}.") from error
    if Path(path).is_absolute() or not there.is_relative_to(folder):
        raise UserError(
            f"{where}: the path leaves the corpus' folder.",
            constraint="a path relative to the TSV's folder, inside it",
            found=path,
        )


def held_out(speakers: Sequence[str], count: int, purpose: str) -> list[str]:
    """`count` speakers, the same on every machine: those whose hashed names come first."""
    import hashlib

    def order(speaker: str) -> str:
        return hashlib.sha256(f"{purpose}/{speaker}".encode()).hexdigest()

    return sorted(sorted(set(speakers)), key=order)[:count]
