"""Utterance and Manifest: the one form in which stages know a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import audio
from pipeline.errors import RunError

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
    """Utterances of one split, sorted by id, and where their audio is."""

    def __init__(self, utterances: Iterable[Utterance], folder: Path) -> None:
        self.utterances = sorted(utterances, key=lambda u: u.id)
        self.folder = folder
        self._by_id = {u.id: u for u in self.utterances}

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __getitem__(self, utterance_id: str) -> Utterance:
        return self._by_id[utterance_id]

    @property
    def seconds(self) -> float:
        return sum(u.seconds for u in self.utterances)

    def audio_path(self, utterance: Utterance) -> Path:
        if utterance.stored:
            return self.folder / utterance.path
        root, files = self._in_place
        return root / files.get(utterance.id, utterance.path)

    @cached_property
    def _in_place(self) -> tuple[Path, dict[str, str]]:
        text = (self.folder / AUDIO_ROOT).read_text("utf-8")
        root, _, files = text.partition("\n")
        return Path(root), json.loads(files or "{}")

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
        lines = [json.dumps(asdict(u), ensure_ascii=False) for u in self.utterances]
        (self.folder / MANIFEST).write_text("".join(f"{x}\n" for x in lines), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        with open(folder / MANIFEST, encoding="utf-8") as file:
            return cls((Utterance(**json.loads(line)) for line in file), folder)


def audio_place(root: Path, files: Mapping[str, str]) -> str:
    """What AUDIO_ROOT holds: the corpus' folder, then a line of JSON with its files by utterance.

    It is one file, so that nobody reads the folder of one copy with the names of another.
    """
    told = f"{json.dumps(dict(files), ensure_ascii=False)}\n" if files else ""
    return f"{root.resolve()}\n{told}"
