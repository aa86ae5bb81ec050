"""How sure an error rate is, and the difference of two: bootstrap over a test set.

After Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
(ICASSP 2004). Test sets are drawn with replacement from the one at hand, and the rate of each is
errors over words, both summed. What is drawn are speakers, because errors of one voice go
together; where there are fewer than ten, so that speakers cannot stand for those not heard, it
is utterances within each speaker. Two systems are compared on the same drawn sets, so that what
is hard for both does not count.

A drawn set is how often it holds each unit (a speaker, or an utterance); sums are matrix
products. Legend: B utterances, U units, N drawn sets, K columns to be summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SPEAKERS_TO_RESAMPLE = 10  # with fewer, utterances are resampled within speakers
BOOTSTRAP_SEED = 20191108
LEVEL = 1e-9  # errors that differ by less are equal: means over seeds round
CELLS_AT_ONCE = 2_000_000  # of the matrix of drawn sets x units: 16 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval of an error rate, and what was resampled for it."""

    low: float
    high: float
    resampled: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One system's error rate less another's on the same utterances.

    Attributes:
        difference: as a fraction of the words; below 0 where the first is better.
        low, high: its interval.
        probability: share of the drawn sets on which the first makes fewer errors (the
            probability of improvement); those on which both make as many count half.
        resampled: what was drawn.
    """

    difference: float
    low: float
    high: float
    probability: float
    resampled: str


def interval(
    errors_B: Sequence[float] | Floats,
    lengths_B: Sequence[float] | Floats,
    speakers: Sequence[str],
    samples: int,
    confidence: float,
) -> Interval:
    """The percentile interval of the corpus' error rate, the same every time.

    Args:
        errors_B, lengths_B, speakers: of each utterance.
        samples: how many test sets are drawn.
        confidence: share of their rates that lies within the interval.
    """
    columns_BK = np.stack([np.asarray(errors_B, float), np.asarray(lengths_B, float)], axis=1)
    sums_NK, resampled = _drawn(columns_BK, speakers, samples)
    low, high = _percentiles(sums_NK[:, 0] / sums_NK[:, 1], confidence)
    return Interval(low, high, resampled)


def compare(
    first_B: Sequence[float] | Floats,
    second_B: Sequence[float] | Floats,
    lengths_B: Sequence[float] | Floats,
    speakers: Sequence[str],
    samples: int,
    confidence: float,
) -> Difference:
    """The paired bootstrap of two systems' errors on the same utterances.

    Args:
        first_B, second_B: errors of each system in each utterance.
        lengths_B, speakers: of each utterance.
        samples, confidence: as of `interval`.
    """
    lengths = np.asarray(lengths_B, float)
    extra_B = np.asarray(first_B, float) - np.asarray(second_B, float)
    columns_BK = np.stack([extra_B, lengths], axis=1)
    sums_NK, resampled = _drawn(columns_BK, speakers, samples)
    low, high = _percentiles(sums_NK[:, 0] / sums_NK[:, 1], confidence)
    extra_N = np.where(np.abs(sums_NK[:, 0]) < LEVEL, 0.0, sums_NK[:, 0])
    probability = float(np.mean(extra_N < 0) + 0.5 * np.mean(extra_N == 0))
    difference = float(extra_B.sum() / lengths.sum())
    return Difference(difference, low, high, probability, resampled)


def _percentiles(rates_N: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(rates_N, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _drawn(
    columns_BK: Floats, speakers: Sequence[str], samples: int
) -> tuple[NDArray[np.float64], str]:
    """The columns' sums over each drawn set (N, K), and in words what was drawn."""
    names, speaker_B = np.unique(np.array(speakers), return_inverse=True)
    if len(names) >= SPEAKERS_TO_RESAMPLE:
        units_UK = np.zeros((len(names), columns_BK.shape[1]))
        np.add.at(units_UK, speaker_B, columns_BK)
        strata, resampled = [units_UK], f"{len(names)} speakers"
    else:
        strata = [columns_BK[speaker_B == speaker] for speaker in range(len(names))]
        within = "speaker" if len(names) == 1 else f"{len(names)} speakers"
        resampled = f"utterances within {within}"
    random = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    sums_NK = np.zeros((samples, columns_BK.shape[1]))
    for units_UK in strata:
        for rows, times_NU in _times(random, len(units_UK), samples):
            sums_NK[rows] += times_NU @ units_UK
    return sums_NK, resampled


def _times(
    random: np.random.Generator, units: int, samples: int
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """How often each of `units` is in each drawn set of as many, some sets at a time."""
    at_once = max(1, CELLS_AT_ONCE // units)
    for start in range(0, samples, at_once):
        sets = min(at_once, samples - start)
        chosen = random.integers(0, units, (sets, units))
        chosen += np.arange(sets)[:, None] * units  # each set counts in its own row
        times = np.bincount(chosen.ravel(), minlength=sets * units).reshape(sets, units)
        yield slice(start, start + sets), times.astype(np.float64)
