"""Connected digit strings, joined from recordings of single digits.

Where it comes from: the Free Spoken Digit Dataset (CC BY-SA 4.0) or any folder like it. Its
`utts.tsv` has a line a recording, 8 kHz WAV:
    utt_id	speaker	path	transcript
    0_george_0	george	audio/0_george_0.wav	zero
Speakers are kept whole. Each recording stands in exactly one string of one split; a string is
3 to 7 recordings of one speaker in random order, with pauses between and at both ends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from pipeline import audio
from pipeline.errors import UserError, nearest
from pipeline.recipe import CorpusSettings
from stages.prepare.corpora import _shared
from stages.prepare.corpus import Loaded, Source

if TYPE_CHECKING:
    from pipeline.audio import Samples

LIST = "utts.tsv"
DEFAULT_TEST = "lucas"
VERSION = 1  # of the samples: raise it when `load` makes other ones of the same parameters
_FLOOR_FRAME_SECONDS = 0.01
_FLOOR_PERCENTILE = 10  # of the frames' RMS: what a recording sounds like between sounds


class Settings(CorpusSettings):
    """Which speakers are kept out, and how strings are joined."""

    kind: Literal["digits"] = "digits"
    test_speakers: list[str] = Field([DEFAULT_TEST], min_length=1)
    dev_speakers: list[str] | None = Field(
        None,
        min_length=1,
        description="by default the one after the last test speaker in the alphabet: over the "
        "folds of leave-one-out each speaker is dev once, and nobody picked it by its results",
    )
    digits: tuple[int, int] = Field((3, 7), description="fewest and most digits of a string")
    pause_seconds: tuple[float, float] = Field(
        (0.05, 0.25), description="shortest and longest pause, at the ends too"
    )
    noise_floor_db: float = Field(
        -40.0,
        le=0,
        description="pauses are as loud as the quietest parts of the recordings beside them, but "
        "at least this, relative to the string's speech, dB",
    )
    seed: int = Field(1, ge=0)

    @field_validator("digits")
    @classmethod
    def _fillable(cls, ends: tuple[int, int]) -> tuple[int, int]:
        # So any number of recordings from `fewest` on can be cut into strings without a rest.
        if ends[0] < 1 or ends[1] < 2 * ends[0] - 1:
            raise ValueError("fewest at least 1, most at least twice that less one")
        return ends

    @field_validator("pause_seconds")
    @classmethod
    def _ordered(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= ends[0] <= ends[1] <= 10:
            raise ValueError("0 to 10 seconds, the shorter first")
        return ends


def splits(settings: Settings) -> dict[str, list[Source]]:
    """`train`, `dev` and `test/test`, whole speakers each. No speaker's strings depend on others.

    Raises:
        UserError: no such list, a recording without transcript or speaker, an unknown speaker,
            one in dev and test, or nobody left to train on.
    """
    recordings = _recordings(settings)
    speakers = sorted({r.speaker for r in recordings})
    dev = _dev_speakers(settings, speakers)
    made: dict[str, list[Source]] = {"train": [], "dev": [], "test/test": []}
    for speaker in speakers:
        held_out = "test/test" if speaker in settings.test_speakers else "train"
        own = [r for r in recordings if r.speaker == speaker]
        made["dev" if speaker in dev else held_out] += _strings(settings, speaker, own)
    if not made["train"]:
        raise UserError(
            "No speaker is left to train on.",
            found=f"{len(speakers)} speakers: {_shared.listed(speakers)}",
            remedy="name fewer in corpus.test_speakers and corpus.dev_speakers",
        )
    return made


def folds(settings: Settings) -> dict[str, Settings]:
    """Leave one speaker out: each speaker once for test, the next in the alphabet for dev.

    Raises:
        UserError: the recipe says who is test or dev, which is what a fold says.
    """
    given = sorted({"test_speakers", "dev_speakers"} & settings.model_fields_set)
    if given:
        raise UserError(
            f"folds and corpus.{given[0]} contradict each other.",
            constraint="in every fold one speaker is test, and the next in the alphabet dev",
            remedy=f"leave one of them out, or choose folds by speaker: folds: [{DEFAULT_TEST}]",
        )
    speakers = sorted({r.speaker for r in _recordings(settings)})
    return {name: settings.model_copy(update={"test_speakers": [name]}) for name in speakers}


def load(source: Source) -> Loaded:
    """Join a string's recordings; budgets count their seconds alone.

    Raises:
        BadAudio: one of them cannot be used, or their rates differ; with its name.
    """
    import numpy as np

    digits, rate_hz = _read_all(source)
    told = source.parameters
    speech_rms = float(np.sqrt(np.mean(np.concatenate(digits) ** 2)))
    least = speech_rms * 10 ** (told["noise_floor_db"] / 20)
    floors = [max(least, _floor(d, rate_hz)) for d in digits]
    beside = zip([floors[0], *floors], [*floors, floors[-1]], strict=True)
    lengths = [round(seconds * rate_hz) for seconds in told["pauses_seconds"]]
    noise = _shared.white_noise(sum(lengths), told["noise_seed"])
    starts = np.cumsum([0, *lengths])
    pieces = []
    for n, (left, right) in enumerate(beside):
        pieces.append(noise[starts[n] : starts[n + 1]] * np.float32((left + right) / 2))
        pieces += digits[n : n + 1]
    speech_seconds = sum(map(len, digits)) / rate_hz
    return Loaded(np.concatenate(pieces), rate_hz, made=True, speech_seconds=speech_seconds)


def _recordings(settings: Settings) -> list[Source]:
    recordings = _shared.read_of_root(settings, LIST)
    for recording in recordings:
        if not recording.transcript or not recording.speaker:
            raise UserError(f"{LIST}: '{recording.id}' has no transcript or no speaker.")
    return recordings


def _read_all(source: Source) -> tuple[list[Samples], int]:
    digits, rates = [], set()
    for name in source.files:
        try:
            samples, rate_hz = audio.read(source.root / name)
        except audio.BadAudio as error:
            raise audio.BadAudio(f"{name}: {error.what}") from error
        digits.append(samples)
        rates.add(rate_hz)
    if len(rates) > 1:
        raise audio.BadAudio(f"recordings of different sample rates: {sorted(rates)} Hz")
    return digits, rates.pop()


def _floor(samples: Samples, rate_hz: int) -> float:
    """RMS of a recording's quietest parts; a pause of that level is heard as a part of it."""
    import numpy as np

    frame = min(len(samples), round(_FLOOR_FRAME_SECONDS * rate_hz))
    frames_FS = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return float(np.percentile(np.sqrt(np.mean(frames_FS**2, axis=1)), _FLOOR_PERCENTILE))


def _dev_speakers(settings: Settings, speakers: Sequence[str]) -> list[str]:
    for name in [*settings.test_speakers, *(settings.dev_speakers or [])]:
        if name not in speakers:
            raise UserError(f"{LIST} has no speaker '{name}'.", remedy=nearest(name, speakers))
    if settings.dev_speakers is not None:
        both = sorted(set(settings.dev_speakers) & set(settings.test_speakers))
        if both:
            raise UserError(f"Speakers both of dev and of test: {', '.join(both)}")
        return settings.dev_speakers
    after = speakers.index(settings.test_speakers[-1]) + 1
    others = [s for s in (*speakers[after:], *speakers[:after]) if s not in settings.test_speakers]
    return others[:1]


def _strings(settings: Settings, speaker: str, recordings: Sequence[Source]) -> list[Source]:
    """All recordings of a speaker, shuffled and cut into strings.

    Lengths are drawn so that no rest is shorter than a string may be; only a speaker with fewer
    recordings than that has one shorter string.
    """
    rng = random.Random(f"{settings.seed}/{speaker}")
    # Only rng.random() is used: Python promises its values, those of shuffle it does not.
    keyed = [(rng.random(), r.id, r) for r in sorted(recordings, key=lambda r: r.id)]
    left = [r for _, _, r in sorted(keyed, key=lambda row: row[:2])]
    strings: list[Source] = []
    while left:
        count = _count(settings.digits, len(left), rng)
        strings.append(_string(settings, f"{speaker}-{len(strings):04d}", left[:count], rng))
        left = left[count:]
    return strings


def _count(ends: tuple[int, int], left: int, rng: random.Random) -> int:
    fewest, most = ends
    fitting = [n for n in range(fewest, most + 1) if n == left or left - n >= fewest]
    return fitting[int(rng.random() * len(fitting))] if fitting else left


def _string(
    settings: Settings, identity: str, recordings: Sequence[Source], rng: random.Random
) -> Source:
    shortest, longest = settings.pause_seconds
    pauses = [shortest + rng.random() * (longest - shortest) for _ in range(len(recordings) + 1)]
    parameters = {
        "kind": settings.kind,
        "version": VERSION,
        "pauses_seconds": [round(p, 3) for p in pauses],
        "noise_floor_db": settings.noise_floor_db,
        "noise_seed": int(rng.random() * 2**31),
    }
    words = " ".join(r.transcript or "" for r in recordings)
    files = tuple(f for r in recordings for f in r.files)
    return Source(identity, recordings[0].speaker, words, settings.root, files, parameters)
