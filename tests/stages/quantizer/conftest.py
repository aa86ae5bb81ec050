"""Small speech-like corpora, made in memory, for the tests of stage 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline import audio
from pipeline.manifest import Manifest, Utterance


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def make_speech(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Manifest]:
    """`make_speech(lengths)`: a manifest of utterances of so many samples, tones that change."""

    def make(lengths: list[int], name: str = "speech") -> Manifest:
        folder = tmp_path_factory.mktemp(name)
        rng = np.random.default_rng(0)
        utterances = []
        for number, length in enumerate(lengths):
            pitches_hz = np.repeat(rng.uniform(100, 3000, length // 800 + 1), 800)[:length]
            tone = np.sin(2 * np.pi * np.cumsum(pitches_hz) / audio.SAMPLE_RATE_HZ)
            noise = 0.01 * rng.standard_normal(length)
            path = f"{number:03d}.flac"
            audio.write(folder / path, (0.3 * tone + noise).astype(np.float32))
            seconds = length / audio.SAMPLE_RATE_HZ
            utterances.append(Utterance(f"u{number:03d}", "s", path, True, length, seconds, None))
        return Manifest(utterances, folder)

    return make
