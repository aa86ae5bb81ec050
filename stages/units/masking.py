"""Span masking of unit sequences, as a pure function of a random generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.units.vocabulary import MASK, SPECIAL


def span_mask(
    frames: int,
    start_probability: float,
    span: int,
    rng: np.random.Generator,
    span_std: float = 0.0,
) -> NDArray[np.bool_]:
    """Frames (F,) hidden from the model: each starts a span with that probability.

    Spans may overlap and are cut at the end (vq-wav2vec and Discrete BERT: 0.05 and 10).

    Args:
        span: frames of a span; the mean of their normal distribution if `span_std` is not 0.
        span_std: its deviation. Lengths are rounded, and none below 0 (as in fairseq).
    """
    starts_F = rng.random(frames) < start_probability
    starts = np.flatnonzero(starts_F)
    lengths = np.full(len(starts), span)
    if span_std:
        drawn = rng.normal(span, span_std, len(starts))
        lengths = np.maximum(np.rint(drawn).astype(np.int64), 0)
    edges = np.zeros(frames + 1, np.int64)  # +1 where a span begins, -1 behind its end
    edges[:-1] += starts_F
    np.subtract.at(edges, np.minimum(starts + lengths, frames), 1)
    mask_F: NDArray[np.bool_] = np.cumsum(edges[:-1]) > 0
    return mask_F


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
