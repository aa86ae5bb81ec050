"""A corpus that rows of the table in test_bad_input.py damage, and what must come of each."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

NOISE = (0.1 * np.random.RandomState(0).standard_normal(16_000)).astype(np.float32)
HEADER = "utt_id\tspeaker\tpath\ttranscript\n"
NAME = "bad"  # of the utterance that is added to train


@dataclass
class World:
    """What a row may change: the corpus of tests/conftest.py, its lists, and the recipe."""

    root: Path
    values: dict[str, Any]

    def list(
        self,
        path: str,
        transcript: str = "turn left",
        *,
        name: str = NAME,
        speaker: str = "a",
        to: str = "train",
    ) -> None:
        """A line at the end of a list."""
        with open(self.root / f"{to}.tsv", "a", encoding="utf-8") as file:
            file.write(f"{name}\t{speaker}\t{path}\t{transcript}\n")

    def audio(
        self,
        samples: NDArray[Any] = NOISE,
        name: str = "bad.wav",
        rate_hz: int = 16_000,
        **how: str,
    ) -> Path:
        """A recording, listed in train."""
        path = self.root / "audio" / name
        soundfile.write(path, samples, rate_hz, **how)
        self.list(f"audio/{name}")
        return path

    def rewrite(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Change the bytes of a file of the corpus."""
        path = self.root / name
        path.write_bytes(change(path.read_bytes()))


Change = Callable[[World], object]


@dataclass(frozen=True)
class Rejected:
    """In rejected.tsv and in what `run` says, by a reason (a regular expression)."""

    reason: str


@dataclass(frozen=True)
class Flagged:
    """Used, and named in flagged.tsv and in what `run` says."""

    reason: str


@dataclass(frozen=True)
class Kept:
    """Used: about so many samples at 16 kHz, this transcript, so many characters left out."""

    samples: int = 16_000
    transcript: str | None = "turn left"
    left_out: int = 0


@dataclass(frozen=True)
class Refused:
    """Nothing runs: status 2, and a few lines that hold all of these (regular expressions)."""

    told: tuple[str, ...]
    lines: int = 5


def refused(*told: str, lines: int = 5) -> Refused:
    return Refused(told, lines)


def cut(share: float, name: str = "bad.wav", rate_hz: int = 16_000, **how: str) -> Change:
    """A recording that ends after this share of its bytes."""

    def change(world: World) -> None:
        world.audio(np.tile(NOISE, 3), name, rate_hz, **how)
        world.rewrite(f"audio/{name}", lambda content: content[: int(share * len(content))])

    return change


def without_last_page(world: World) -> None:
    """An Ogg that ends where one of its pages does."""
    world.audio(np.tile(NOISE, 9), "bad.ogg", format="OGG", subtype="VORBIS")
    world.rewrite("audio/bad.ogg", lambda content: content[: content.rindex(b"OggS")])


def joined(name: str, **how: str) -> Change:
    """A file that another one was written behind, as `cat` does."""

    def change(world: World) -> None:
        world.audio(NOISE, name, **how)
        world.rewrite(f"audio/{name}", lambda content: content + content)

    return change


def tagged_mp3(world: World) -> None:
    """An MP3 with tags before and behind its frames."""
    world.audio(NOISE, "bad.mp3", format="MP3")
    before = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)
    behind = b"TAG" + bytes(125)
    world.rewrite("audio/bad.mp3", lambda content: before + content + behind)


def wav_promise(size: int) -> Change:
    """A WAV of 32,000 bytes whose header says `size`."""

    def change(world: World) -> None:
        world.audio(subtype="PCM_16")

        def lie(content: bytes) -> bytes:
            at = content.index(b"data") + 4
            return content[:at] + struct.pack("<I", size) + content[at + 4 :]

        world.rewrite("audio/bad.wav", lie)

    return change


def wav_rate(hertz: int) -> Change:
    """A WAV whose header says this sample rate."""

    def change(world: World) -> None:
        world.audio(subtype="PCM_16")
        told = struct.pack("<II", hertz, 2 * hertz)
        world.rewrite("audio/bad.wav", lambda content: content[:24] + told + content[32:])

    return change


def flac_promise(samples: int) -> Change:
    """A FLAC whose header says so many samples, a number of 36 bits."""

    def change(world: World) -> None:
        world.audio(name="bad.flac")

        def lie(content: bytes) -> bytes:
            at = 4 + 4 + 13  # the marker, the head of the first block, what stands before
            high = (content[at] & 0xF0) | samples >> 32
            return content[:at] + struct.pack(">BI", high, samples & 0xFFFFFFFF) + content[at + 5 :]

        world.rewrite("audio/bad.flac", lie)

    return change


def bytes_of(name: str, content: bytes) -> Change:
    """A listed file of these bytes."""

    def change(world: World) -> None:
        (world.root / "audio" / name).write_bytes(content)
        world.list(f"audio/{name}")

    return change


def said(transcript: str) -> Change:
    """A recording with this transcript."""

    def change(world: World) -> None:
        soundfile.write(world.root / "audio/bad.wav", NOISE, 16_000)
        world.list("audio/bad.wav", transcript)

    return change


def train_list(change: Callable[[bytes], bytes], transcript: str = "turn left") -> Change:
    """The list of train as other bytes, a recording added before."""

    def change_list(world: World) -> None:
        said(transcript)(world)
        world.rewrite("train.tsv", change)

    return change_list


def at(path: str, **where: str) -> Change:
    """A line with this path."""
    return lambda world: world.list(path, **where)


def linked(link: str, target: str) -> Change:
    """A link in the corpus, and the recording x.wav listed by way of it."""

    def change(world: World) -> None:
        outside = world.root.parent / "outside"
        outside.mkdir()
        for folder in (outside, world.root / "audio"):
            soundfile.write(folder / "x.wav", NOISE, 16_000)
        (world.root / link).symlink_to(target)
        world.list(link if link.endswith(".wav") else f"{link}/x.wav")

    return change


def fifo(world: World) -> None:
    os.mkfifo(world.root / "audio/pipe.wav")
    world.list("audio/pipe.wav")


def folder_as_audio(world: World) -> None:
    (world.root / "audio/bad.wav").mkdir()
    world.list("audio/bad.wav")


def recipe(**sections: Any) -> Change:
    """Sections of the recipe; a dictionary changes some keys of its section."""

    def change(world: World) -> None:
        for name, value in sections.items():
            old = world.values.get(name)
            both = isinstance(old, dict) and isinstance(value, dict)
            world.values[name] = {**old, **value} if both else value

    return change


def lm_text(content: bytes | None) -> Change:
    """`lm.text` names a file of these bytes; None: one that is not there."""

    def change(world: World) -> None:
        path = world.root / "lm.txt"
        if content is not None:
            path.write_bytes(content)
        world.values["lm"] = {"order": 2, "text": str(path)}

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(world: World) -> None:
        for one in changes:
            one(world)

    return change
