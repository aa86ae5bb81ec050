"""A set in LibriSpeech's layout: SPEAKER/CHAPTER/ with FLAC files and one file of transcripts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from stages.prepare.corpora import _shared
from stages.prepare.corpus import Source

TRANSCRIPTS = ".trans.txt"
AUDIO = ".flac"


def read_folder(root: Path, folder: Path) -> list[Source]:
    """The utterances of a set, by speaker, chapter and number; lists are read, no audio.

    The folder may be a link, to another disk say; what lies in it may not lead out of it.

    Args:
        root: what the files of the sources are relative to.

    Raises:
        UserError: no utterances, a link out of the folder, a chapter without transcripts, audio
            without a transcript, or a line that is not one; with file and line.
    """
    found = [s for sources, _ in _chapters(root, folder) for s in sources]
    if not found:
        raise _empty(folder)
    return found


def read_part(root: Path, folder: Path) -> tuple[list[Source], list[str]]:
    """As `read_folder`, of a set that holds some utterances of each chapter: those with audio.

    Returns:
        the utterances, and the ids that transcripts name without audio beside them.
    """
    found: list[Source] = []
    without_audio: list[str] = []
    for sources, audio in _chapters(root, folder):
        found += (s for s in sources if s.id in audio)
        without_audio += (s.id for s in sources if s.id not in audio)
    if not found:
        raise _empty(folder)
    return found, without_audio


def _empty(folder: Path) -> UserError:
    return UserError(
        f"{folder} holds no utterance.",
        constraint=f"SPEAKER/CHAPTER/SPEAKER-CHAPTER{TRANSCRIPTS} and {AUDIO} files",
        remedy="unpack the archive anew, or correct corpus.root",
    )


def _chapters(root: Path, folder: Path) -> Iterator[tuple[list[Source], set[str]]]:
    """The utterances that each chapter's transcripts name, and those that have audio there."""
    inside = os.path.realpath(folder)
    prefix = os.path.relpath(folder, root)
    for speaker in _folders(folder, inside):
        for chapter in _folders(folder / speaker, inside):
            yield _chapter(root, f"{prefix}/{speaker}/{chapter}", speaker, chapter, inside)


def _folders(folder: Path, inside: str) -> list[str]:
    return sorted(entry.name for entry in _entries(folder, inside) if entry.is_dir())


def _entries(folder: Path, inside: str) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder; nothing that leads out of `inside` is followed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    there = os.path.realpath(entry.path)
                    if os.path.commonpath([there, inside]) != inside:
                        raise UserError(
                            f"{entry.path} is a link that leaves {inside}.",
                            constraint="audio and transcripts inside of their set's folder",
                            found=there,
                            remedy="put the files there, or link the set's folder as a whole",
                        )
                yield entry
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}.") from error


def _chapter(
    root: Path, path: str, speaker: str, chapter: str, inside: str
) -> tuple[list[Source], set[str]]:
    names = {entry.name for entry in _entries(root / path, inside)}
    listing = f"{speaker}-{chapter}{TRANSCRIPTS}"
    audio = {name.removesuffix(AUDIO) for name in names if name.endswith(AUDIO)}
    if listing not in names:
        if not audio:  # a folder of something else
            return [], audio
        raise UserError(
            f"{root / path} has audio and no transcripts.",
            constraint=f"a file {listing}",
            remedy="unpack the archive anew",
        )
    transcripts = _transcripts(root / path / listing, f"{speaker}-{chapter}-")
    untold = sorted(audio - transcripts.keys())
    if untold:
        raise UserError(
            f"{root / path / listing} has no transcript of {len(untold)} recordings.",
            found=_shared.listed(untold),
            remedy="unpack the archive anew, or take these recordings away",
        )
    found = [
        Source(identity, speaker, words, root, (f"{path}/{identity}{AUDIO}",))
        for identity, words in sorted(transcripts.items())
    ]
    return found, audio


def _transcripts(path: Path, prefix: str) -> dict[str, str]:
    """Transcripts by utterance: lines such as `103-1240-0000 CHAPTER ONE`."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}).") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        identity, _, words = line.strip().partition(" ")
        if not identity:
            continue
        where = f"{path}, line {number}"
        if not identity.startswith(prefix) or "/" in identity or not words.strip():
            raise UserError(
                f"{where}: no utterance and its words.",
                constraint=f"such as {prefix}0000 AND SO ON",
                found=repr(line[:60]),
            )
        if identity in found:
            raise UserError(f"{where}: {identity} stands twice.")
        found[identity] = words.strip()
    return found
