"""Utterance and Manifest: the one form in which stages know a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import audio
from pipeline.errors import RunError

if TYPE_CHECKING:
    from pipeline.audio import Samples

MANIFEST = "manifest.jsonl"
AUDIO_ROOT = "audio_root.txt"  # where audio that was left in place lies; not part of any hash


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech by one speaker.

    Attributes:
        path: the audio, relative to the manifest's folder (`stored`) or the corpus' folder.
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
        return Path((self.folder / AUDIO_ROOT).read_text("utf-8").strip()) / utterance.path

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
                remedy="restore the file, or run again from stage 0 with --verify",
            ) from error
        samples = audio.resample(samples, rate_hz)
        if len(samples) != utterance.samples:
            raise RunError(
                f"Utterance {utterance.id}: {path} has changed since stage 0.",
                constraint=f"{utterance.samples} samples",
                found=f"{len(samples)}",
                remedy="run again from stage 0 with --verify",
            )
        return samples

    def write(self) -> None:
        lines = [json.dumps(asdict(u), ensure_ascii=False) for u in self.utterances]
        (self.folder / MANIFEST).write_text("".join(f"{x}\n" for x in lines), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        with open(folder / MANIFEST, encoding="utf-8") as file:
            return cls((Utterance(**json.loads(line)) for line in file), folder)
