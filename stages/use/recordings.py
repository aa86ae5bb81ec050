"""Which recordings are meant, and where their transcripts go."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pipeline.errors import UserError
from stages.use.transcript import Transcript

Form = Literal["text", "json", "srt"]
SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"))
FILE_SUFFIX = {"text": ".txt", "json": ".json", "srt": ".srt"}


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, and what its transcript is called, without a suffix: its name or place."""

    path: Path
    name: Path


def find(named: Sequence[Path]) -> list[Recording]:
    """The files that are named, and those of folders with a suffix of audio, sorted.

    Raises:
        UserError: one is not there, or a folder holds none.
    """
    missing = [str(path) for path in named if not path.exists()]
    if missing:
        raise UserError(f"No such file or folder: {', '.join(missing)}")
    found: list[Recording] = []
    for path in named:
        if not path.is_dir():
            found.append(Recording(path, Path(path.stem)))
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            listed = ", ".join(sorted(SUFFIXES))
            raise UserError(f"{path} holds no recordings.", constraint=f"files in {listed}")
        found += [Recording(p, p.relative_to(path).with_suffix("")) for p in inside]
    return found


class Output:
    """Where transcripts go: standard output, one file, or a file for each recording in a folder.

    Args:
        alone: one recording is meant: its text stands without its name.
        folder: `place` is one, also where it is not there yet.

    Raises:
        UserError: two recordings would have the same file, or subtitles of several but one.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        form: Form,
        place: Path | None,
        *,
        alone: bool,
        folder: bool = False,
    ) -> None:
        self._form, self._place, self._alone = form, place, alone
        self.in_folder = place is not None and (folder or place.is_dir())
        self._files: dict[str, Path] = {}
        if place is not None and not self.in_folder and not place.absolute().parent.is_dir():
            raise UserError(f"-o {place}: the folder {place.parent} is not there.")
        if form == "srt" and len(recordings) > 1 and not self.in_folder:
            raise UserError(
                "Subtitles of several recordings do not go into one file.",
                remedy="give a folder: -o DIR/",
            )
        if self.in_folder and place is not None:
            self._name_files(recordings, place)

    def _name_files(self, recordings: Sequence[Recording], place: Path) -> None:
        taken: dict[Path, Path] = {}
        for recording in recordings:
            file = place / f"{recording.name}{FILE_SUFFIX[self._form]}"
            if file in taken:
                raise UserError(
                    f"{taken[file]} and {recording.path} would both be written to {file}.",
                    remedy="transcribe them one after the other, into different folders",
                )
            taken[file] = recording.path
            self._files[str(recording.path)] = file

    @contextmanager
    def opened(self) -> Iterator[Output]:
        """While it lasts transcripts can be written; a single file gets its name at the end.

        Raises:
            OSError: the file cannot be written; the error tells it.
        """
        self._stream: IO[str] = sys.stdout
        if self._place is None or self.in_folder:
            yield self
            return
        beside = self._place.with_name(f"{self._place.name}.partial")
        try:
            with open(beside, "w", encoding="utf-8") as self._stream:
                yield self
            beside.replace(self._place)
        except OSError as error:
            error.filename = error.filename or str(self._place)
            raise

    def write(self, transcript: Transcript) -> None:
        """Write one, at once."""
        if self.in_folder:
            from pipeline.store import write_atomically

            file = self._files[transcript.audio]
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, self._text(transcript, alone=True))
            return
        self._stream.write(self._text(transcript, self._alone))
        self._stream.flush()

    def _text(self, transcript: Transcript, alone: bool) -> str:
        if self._form == "srt":
            return transcript.as_srt()
        if self._form == "json":
            return f"{transcript.as_json()}\n"
        return f"{transcript.text}\n" if alone else f"{transcript.audio}\t{transcript.text}\n"
