"""Synthetic speech: sentences of a stated grammar, spoken by espeak-ng's voices.

Where it comes from: `data/demo_grammar.txt` and the espeak-ng library of the package
espeakng-loader; nothing is downloaded. A sentence belongs to the train, dev or test pool by its
hash, so no sentence of dev or test is ever in train or in the language model's text, whatever
the counts and seeds are. The n-th utterance of a split depends on n and not on how many there are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline import audio
from pipeline.errors import UserError
from pipeline.recipe import CorpusSettings
from pipeline.section import check_test_name
from stages.prepare import espeak, grammar
from stages.prepare.corpora import _shared
from stages.prepare.corpus import Loaded, Source

DATA = Path(__file__).resolve().parents[3] / "data"
GRAMMAR = "demo_grammar.txt"
LM_TEXT = "sentences of the corpus' grammar, none of them in dev or test"
VERSION = 1  # of the samples: raise it when `load` makes other ones of the same parameters
PAD_SECONDS = 0.08  # of noise at each end; espeak-ng stops 8 ms after the last sound
_HELD_OUT_OF_256 = 26  # a tenth of all sentences for dev and another for test
_DRAWS_WITHOUT_NEW = 10_000  # after so many the grammar's sentences count as used up


class Settings(CorpusSettings):
    """A voice is LANGUAGE+VARIANT@PITCH, such as `en-us+f2@55`; its pitch is 0 to 99."""

    kind: Literal["synthetic"] = "synthetic"
    train_sentences: int = Field(700, ge=1, le=99_999)
    dev_sentences: int = Field(80, ge=1, le=99_999)
    test_sentences: int = Field(120, ge=1, le=99_999, description="in each test set")
    lm_sentences: int = Field(10_000, ge=0, description="0: training transcripts instead")
    train_voices: list[str] = Field(
        [
            "en-gb+ed@50",
            "en-gb-x-rp+Andrea@50",
            "en-gb-x-rp+antonio@50",
            "en-gb-scotland+m6@50",
            "en-us+rob@60",
            "en-gb+sandro@50",
            "en-us+m1@40",
            "en-gb-scotland+boris@50",
            "en-us+Jacky@45",
            "en-gb+Mario@50",
            "en-gb+miguel@55",
            "en-gb-scotland+pedro@50",
            "en-gb+paul@50",
            "en-us+adam@50",
            "en-us+max@50",
            "en-gb-x-rp+m8@50",
            "en-us+david@45",
            "en-us+travis@45",
            "en-us+quincy@50",
            "en-us+victor@50",
            "en-gb+f4@55",
            "en-gb+zac@50",
            "en-us+Mike@50",
            "en-us+Michael@55",
            "en-us+steph@50",
            "en-gb-x-rp+m5@60",
            "en-gb+Hugo@50",
            "en-gb+Lee@55",
            "en-gb-x-rp+shelby@50",
            "en-us+john@50",
            "en-gb+m2@50",
            "en-us@50",
            "en-gb+anika@50",
            "en-gb-scotland+Marco@50",
            "en-us+f1@50",
            "en-gb-x-rp+belinda@50",
            "en-us+f3@45",
            "en-us+edward@55",
            "en-gb+Denis@50",
            "en-gb+ian@45",
            "en-gb+benjamin@50",
            "en-gb+marcelo@50",
            "en-us+Andy@50",
            "en-us+pablo@50",
            "en-us+Annie@40",
            "en-gb-scotland+f5@50",
            "en-us+Gene@50",
        ],
        min_length=1,
    )
    dev_voices: list[str] = Field(
        ["en-us+m4@50", "en-gb+f2@50", "en-gb-scotland+robert@55"], min_length=1
    )
    test_voices: dict[str, list[str]] = Field(
        {
            "test": [
                "en-us+m3@45",
                "en-gb-scotland+Alex@50",
                "en-us+linda@50",
                "en-gb+m7@55",
                "en-gb-x-rp+Alicia@40",
            ]
        },
        min_length=1,
        description="voices of each test set, by its name",
    )
    words_per_minute: tuple[int, int] = Field((150, 190), description="slowest, fastest; 80 to 400")
    snr_db: tuple[float, float] = Field((30.0, 40.0), description="of the added noise, dB")
    seed: int = Field(1, ge=0)

    @field_validator("words_per_minute", "snr_db")
    @classmethod
    def _ordered(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if ends[0] > ends[1]:
            raise ValueError("the smaller value first")
        return ends

    @field_validator("words_per_minute")
    @classmethod
    def _speakable(cls, ends: tuple[int, int]) -> tuple[int, int]:
        if ends[0] < 80 or ends[1] > 400:
            raise ValueError("80 to 400 words per minute")
        return ends

    @model_validator(mode="after")
    def _voices_apart(self) -> Settings:
        for name in self.test_voices:
            check_test_name(name)
        timbres = {
            split: {espeak.Voice.parse(v).timbre for v in voices}
            for split, voices in _voices(self).items()
        }
        for split in timbres.keys() - {"train"} if not self.allow_shared_speakers else ():
            for other in ("train", "dev"):
                if split != other and (both := timbres[split] & timbres[other]):
                    raise ValueError(f"{split} and {other} share voices: {', '.join(sorted(both))}")
        return self


def splits(settings: Settings) -> dict[str, list[Source]]:
    """Sources of `train`, `dev` and one `test/<name>` for each set of test voices.

    Raises:
        UserError: espeak-ng has not one of the voices, or the grammar has too few sentences.
    """
    rules = grammar.read(DATA / GRAMMAR)
    counts = {"train": settings.train_sentences, "dev": settings.dev_sentences}
    made = {}
    for split, names in _voices(settings).items():
        voices = [espeak.Voice.parse(name) for name in names]
        for voice in voices:
            espeak.check_voice(voice)
        pool = split.partition("/")[0]
        sentences = _distinct(rules, pool, f"{settings.seed}/{split}")
        count = counts.get(split, settings.test_sentences)
        made[split] = [
            _source(settings, split, n, voices[n % len(voices)], next(sentences))
            for n in range(count)
        ]
    return made


def lm_text(settings: Settings) -> list[str] | None:
    """Sentences drawn apart from the training sentences, as often as the grammar makes them."""
    rules = grammar.read(DATA / GRAMMAR)
    rng = random.Random(f"{settings.seed}/lm")
    sentences: list[str] = []
    while len(sentences) < settings.lm_sentences:
        sentence = rules.draw(rng)
        if _pool(sentence) == "train":
            sentences.append(sentence)
    return sentences or None


def load(source: Source) -> Loaded:
    """Speak a sentence and lay faint white noise under it, at the SNR that the source tells."""
    import numpy as np

    told = source.parameters
    voice = espeak.Voice.parse(told["voice"])
    speech = espeak.synthesize(told["text"], voice, told["words_per_minute"], told["seed"])
    samples = np.pad(speech, round(PAD_SECONDS * espeak.RATE_HZ))
    level = float(np.sqrt(np.mean(speech**2))) * 10 ** (-told["snr_db"] / 20)
    noisy = samples + _shared.white_noise(len(samples), told["seed"]) * np.float32(level)
    audio.check(noisy)
    return Loaded(noisy, espeak.RATE_HZ, made=True)


def _voices(settings: Settings) -> dict[str, list[str]]:
    tests = {f"test/{name}": voices for name, voices in settings.test_voices.items()}
    return {"train": settings.train_voices, "dev": settings.dev_voices, **tests}


def _source(settings: Settings, split: str, n: int, voice: espeak.Voice, sentence: str) -> Source:
    identity = f"{split.replace('/', '-')}-{n:05d}"
    rng = random.Random(f"{settings.seed}/{identity}")
    (slowest, fastest), (noisiest, cleanest) = settings.words_per_minute, settings.snr_db
    parameters = {
        "kind": settings.kind,
        "version": VERSION,
        "text": sentence,
        "voice": f"{voice.timbre}@{voice.pitch}",
        "words_per_minute": slowest + int(rng.random() * (fastest - slowest + 1)),
        "snr_db": round(noisiest + rng.random() * (cleanest - noisiest), 2),
        "seed": int(rng.random() * 2**31),
    }
    return Source(identity, voice.speaker, sentence, settings.root, (), parameters)


def _pool(sentence: str) -> str:
    """`test`, `dev` or `train`: the one to which a sentence belongs, for good."""
    first_byte = hashlib.sha256(sentence.encode()).digest()[0]
    if first_byte < _HELD_OUT_OF_256:
        return "test"
    return "dev" if first_byte < 2 * _HELD_OUT_OF_256 else "train"


def _distinct(rules: grammar.Grammar, pool: str, seed: str) -> Iterator[str]:
    """Sentences of a pool, each one once.

    Raises:
        UserError: no new one turns up any more.
    """
    seen: set[str] = set()
    rng, repeats = random.Random(seed), 0
    while repeats < _DRAWS_WITHOUT_NEW:
        sentence = rules.draw(rng)
        repeats += 1
        if _pool(sentence) == pool and sentence not in seen:
            seen.add(sentence)
            repeats = 0
            yield sentence
    raise UserError(
        f"The grammar has too few sentences for {pool}.",
        found=f"{len(seen)} that differ",
        remedy="ask for fewer sentences",
    )
