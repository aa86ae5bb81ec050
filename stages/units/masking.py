"""Span masking of unit sequences, as a pure function of a random generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.units.vocabulary import MASK, SPECIAL


def span_mask(
    frames: int, start_probability: float, span: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Frames (F,) hidden from the model: each starts a span with that probability.

    Spans may overlap and are cut at the end (wav2vec 2.0 and Discrete BERT: 0.05 and 10).
    """
    starts = rng.random(frames) < start_probability
    return np.convolve(starts, np.ones(span))[:frames] > 0.5


def corrupt(
    tokens_F: NDArray[np.int64],
    mask_F: NDArray[np.bool_],
    vocabulary_size: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """What the model sees: of the masked, 80 % [MASK], 10 % as they were, 10 % a random unit."""
    fate_F = rng.random(len(tokens_F))
    random_F = rng.integers(len(SPECIAL), vocabulary_size, len(tokens_F))
    seen_F = np.where(mask_F & (fate_F < 0.8), MASK, tokens_F)
    return np.where(mask_F & (fate_F >= 0.9), random_F, seen_F)
