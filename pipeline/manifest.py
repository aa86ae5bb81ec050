"""Utterance and Manifest: the one form in which stages know a corpus."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, overload

from pipeline import audio
from pipeline.errors import RunError
from pipeline.json_lines import JsonLines

if TYPE_CHECKING:
    from pipeline.audio import Samples

MANIFEST = "manifest.jsonl"
AUDIO_ROOT = "audio_root.txt"  # where audio that was left in place lies; not part of any hash
LOOK_AGAIN = "restore the file, or run again with --verify and without --stage: stage 0 looks anew"

# In the id of a copy of an utterance at another speed, and in no other: stage 0 refuses those.
COPY_MARK = "@speed-"


def copy_id(utterance_id: str, speed: float) -> str:
    """The id of a copy at another speed: `a@speed-0.9`."""
    return f"{utterance_id}{COPY_MARK}{speed:g}"


def original_id(utterance_id: str) -> str:
    """The id of the recording that a copy was made of; of any other utterance its own."""
    return utterance_id.partition(COPY_MARK)[0]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech by one speaker.

    Attributes:
        path: the audio, relative to the manifest's folder, where it is `stored` there; empty
            where it was left in place: AUDIO_ROOT tells the file, which may be renamed.
        samples: its length at 16 kHz.
        speech_seconds: what a label budget counts: the length without pauses put in by us.
        transcript: normalised words, or None where nobody wrote them down.
    """

    id: str
    speaker: str
    path: str
    stored: bool
    samples: int
    speech_seconds: float
    transcript: str | None

    @property
    def seconds(self) -> float:
        return self.samples / audio.SAMPLE_RATE_HZ

    @property
    def is_copy(self) -> bool:
        """Made of another utterance of the split, at another speed."""
        return COPY_MARK in self.id


class Manifest:
    """Utterances of one split, sorted by id, and where their audio is.

    One that was loaded holds none of them in memory: they are read when they are asked for.
    """

    def __init__(self, utterances: Iterable[Utterance], folder: Path) -> None:
        self.utterances: Sequence[Utterance] = sorted(utterances, key=lambda u: u.id)
        self.folder = folder

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __getitem__(self, utterance_id: str) -> Utterance:
        if isinstance(self.utterances, _OnDisk):
            return self.utterances.find(utterance_id)
        return self._by_id[utterance_id]

    @cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {u.id: u for u in self.utterances}

    @property
    def seconds(self) -> float:
        return sum(u.seconds for u in self.utterances)

    def audio_path(self, utterance: Utterance) -> Path:
        if utterance.stored:
            return self.folder / utterance.path
        root, file_of = self._in_place
        return root / (file_of(utterance.id) or utterance.path)

    @cached_property
    def _in_place(self) -> tuple[Path, Callable[[str], str | None]]:
        """The corpus' folder, and the file in it of an utterance."""
        told = self.folder / AUDIO_ROOT
        with open(told, encoding="utf-8") as file:
            root, start = Path(file.readline().removesuffix("\n")), file.read(1)
        if start == "{":  # as it was written before: one object of all files
            return root, json.loads(told.read_text("utf-8").partition("\n")[2]).get
        lines = JsonLines(told, itemgetter(0), header=1)
        return root, lambda name: (lines.find(name) or (name, None))[1]

    def samples(self, utterance: Utterance) -> Samples:
        """The utterance's speech at 16 kHz.

        Raises:
            RunError: the file is no longer what stage 0 saw.
        """
        path = self.audio_path(utterance)
        try:
            samples, rate_hz = audio.read(path)
        except audio.BadAudio as error:
            raise RunError(
                f"Utterance {utterance.id}: {path} is {error.what}",
                remedy=LOOK_AGAIN,
            ) from error
        samples = audio.resample(samples, rate_hz)
        if len(samples) != utterance.samples:
            raise RunError(
                f"Utterance {utterance.id}: {path} has changed since stage 0.",
                constraint=f"{utterance.samples} samples",
                found=f"{len(samples)}",
                remedy=LOOK_AGAIN,
            )
        return samples

    def write(self) -> None:
        """Write all but where audio lies that was left in place: the store tells that."""
        with open(self.folder / MANIFEST, "w", encoding="utf-8") as file:
            file.writelines(map(manifest_line, self.utterances))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        made = cls((), folder)
        made.utterances = _OnDisk(folder / MANIFEST)
        return made


class _OnDisk(Sequence[Utterance]):
    """The utterances of a manifest's file, in its order."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, itemgetter("id"))

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Utterance]:
        return (Utterance(**told) for told in self._lines)

    @overload
    def __getitem__(self, at: int) -> Utterance: ...
    @overload
    def __getitem__(self, at: slice) -> list[Utterance]: ...
    def __getitem__(self, at: int | slice) -> Utterance | list[Utterance]:
        numbers = range(len(self))[at]
        if isinstance(numbers, range):
            return [Utterance(**self._lines[number]) for number in numbers]
        return Utterance(**self._lines[numbers])

    def find(self, utterance_id: str) -> Utterance:
        told = self._lines.find(utterance_id)
        if told is None:
            raise KeyError(utterance_id)
        return Utterance(**told)


def manifest_line(utterance: Utterance) -> str:
    """An utterance as it stands in a manifest's file, which is sorted by id."""
    told = {name: getattr(utterance, name) for name in Utterance.__dataclass_fields__}
    return json.dumps(told, ensure_ascii=False) + "\n"


class FilesById(Mapping[str, str]):
    """Files by utterance that can be had in order, without all of them in memory."""

    @abstractmethod
    def by_id(self) -> Iterator[tuple[str, str]]:
        """Utterances and their files, sorted by utterance."""


def audio_place(root: Path, files: Mapping[str, str]) -> Iterator[str]:
    """The lines of AUDIO_ROOT: the corpus' folder, then `["utterance", "its file"]`, by utterance.

    It is one file, so that nobody reads the folder of one copy with the names of another.
    """
    yield f"{root.resolve()}\n"
    in_order = (
        files.by_id()
        if isinstance(files, FilesById)
        else ((name, files[name]) for name in sorted(files))
    )
    for pair in in_order:
        yield json.dumps(pair, ensure_ascii=False) + "\n"
