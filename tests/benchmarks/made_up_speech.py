"""A language of made-up words with log-probabilities of a CTC model on it, the same every time.

For the cost of decoding with a large vocabulary. Words are drawn from letters about as frequent as
English has them; words follow Zipf's law, and three in four are one of thirty that like to follow
the word before.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.manifest import Manifest
from pipeline.recipe import LmSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import lm_stage
from stages.acoustic.targets import Targets

LETTERS = "etaoinshrdlcumwfgypbvk"
FREQUENT = (12, 9, 8, 8, 7, 7, 6, 6, 6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2, 2, 1, 1)
WORDS = 20_000
SENTENCES, SPOKEN = 30_000, 40  # for the n-gram; and for each of dev and test
FRAME_SECONDS = 0.02
WRONG = 1 / 7  # of the frames show another target


@dataclass(frozen=True)
class Corpus:
    """The n-gram's folder (an artifact of stage 4), and sentences with log-probabilities by id."""

    lm: Path
    vocabulary: int
    frame_seconds: float
    dev: tuple[dict[str, str], dict[str, np.ndarray]]
    test: tuple[dict[str, str], dict[str, np.ndarray]]


def make_corpus(folder: Path, words: int = WORDS, sentences: int = SENTENCES) -> Corpus:
    """The corpus; its n-gram lies in `folder`, and is made there if it does not yet."""
    draw = np.random.default_rng(0)
    language = _Language(draw, words)
    text = [language.sentence() for _ in range(sentences)]
    spoken = [[language.sentence() for _ in range(SPOKEN)] for _ in range(2)]
    lm = folder / f"lm-{hashlib.sha256(repr(text).encode()).hexdigest()[:16]}"
    if not (lm / lm_stage.LM_FACTS).exists():
        _make_lm(lm, text)
    targets = Targets.load(lm)
    splits = []
    for said in spoken:
        by_id = {f"u{n:03d}": sentence for n, sentence in enumerate(said)}
        splits.append((by_id, {i: speak(s, targets, draw) for i, s in by_id.items()}))
    vocabulary = len((lm / "lexicon.txt").read_text("utf-8").splitlines())
    return Corpus(lm, vocabulary, FRAME_SECONDS, splits[0], splits[1])


class _Language:
    def __init__(self, draw: np.random.Generator, count: int) -> None:
        self.draw = draw
        shares = np.array(FREQUENT) / sum(FREQUENT)
        words: dict[str, None] = {}
        while len(words) < count:
            length = int(np.clip(draw.gamma(5, 1.3), 1, 14))
            words["".join(draw.choice(list(LETTERS), length, p=shares))] = None
        self.words = sorted(words, key=lambda word: len(word) + 1.5 * draw.normal())
        weights = 1 / (np.arange(count) + 3)
        self.cumulated = np.cumsum(weights / weights.sum())
        self.followers = self._any((count, 30))

    def _any(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        drawn = np.searchsorted(self.cumulated, self.draw.random(shape))
        return np.minimum(drawn, len(self.words) - 1)

    def sentence(self) -> str:
        found = [int(self._any())]
        for _ in range(int(self.draw.integers(4, 16))):
            if self.draw.random() < 0.75:
                found.append(int(self.followers[found[-1], int(self.draw.zipf(1.5)) % 30]))
            else:
                found.append(int(self._any()))
        return " ".join(self.words[i] for i in found)


def _make_lm(folder: Path, sentences: list[str]) -> None:
    """As stage 4 makes it; the last file of it tells that it is whole."""
    source = folder.with_name(folder.name + "-text")
    for path in (folder, source):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    (source / lm_stage.LM_TEXT).write_text("".join(f"{s}\n" for s in sentences), "utf-8")
    (source / lm_stage.LM_TEXT_FACTS).write_text('{"name": "made up"}', "utf-8")
    Manifest([], source).write()
    ctx = StepContext(folder, {"text": source, "dev": source}, "cpu", folder)
    lm_stage.make_ngram(ctx, TextSettings(), LmSettings(order=3))


def speak(sentence: str, targets: Targets, draw: np.random.Generator) -> np.ndarray:
    """Log-probabilities (T, V) as a CTC model might give, far from sure: see WRONG."""
    path: list[int] = []
    last = None
    for target in targets.encode(sentence):
        if target == last or draw.random() < 0.6:
            path += [targets.blank] * int(draw.integers(1, 3))
        path += [target] * int(draw.integers(1, 3))
        path += [targets.blank] * int(draw.integers(0, 3))
        last = target
    frames = np.arange(len(path))
    others = draw.integers(1, len(targets), len(path))
    shown = np.where(draw.random(len(path)) < WRONG, others, path)
    logits = 1.2 * draw.normal(size=(len(path), len(targets)))
    logits[:, targets.blank] += 2.2
    logits[frames, shown] += 5.0
    logits[frames, path] += 1.5
    normed = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return normed.astype(np.float32)
