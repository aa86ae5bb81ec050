"""How much units tell of digits: mutual information, beside that of digits that were shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy
from scipy.stats.contingency import crosstab

SHUFFLES = 20


@dataclass(frozen=True)
class Spoken:
    """A recording of one digit.

    Attributes:
        units_FG: its codes, frame by frame.
    """

    speaker: str
    digit: str
    units_FG: NDArray[np.integer]


@dataclass(frozen=True)
class Told:
    """Mutual information of a frame's unit and its recording's digit, in bits.

    Attributes:
        bits: the plug-in estimate. It is too high where unit types are many and frames few.
        shuffled_mean, shuffled_max: the same estimate with digits that were shuffled among the
            recordings of each speaker: what of it is bias, and voice.
        units: different units (combinations of codes) among the frames.
    """

    bits: float
    shuffled_mean: float
    shuffled_max: float
    units: int
    frames: int
    recordings: int


def mutual_information_bits(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """The plug-in estimate H(X) + H(Y) - H(X, Y) from pairs of labels, in bits."""
    counts = crosstab(first, second).count
    sides = entropy(counts.sum(0), base=2) + entropy(counts.sum(1), base=2)
    return float(sides - entropy(counts.ravel(), base=2))


def told_of_digits(spoken: Sequence[Spoken], seed: int, shuffles: int = SHUFFLES) -> Told:
    """What the units of the recordings tell of their digits."""
    _, units_X = np.unique(
        np.concatenate([s.units_FG for s in spoken]), axis=0, return_inverse=True
    )
    frames_R = np.array([len(s.units_FG) for s in spoken])
    _, digits_R = np.unique([s.digit for s in spoken], return_inverse=True)
    speakers_R = np.array([s.speaker for s in spoken])

    def bits(labels_R: NDArray[np.integer]) -> float:
        return mutual_information_bits(units_X.ravel(), np.repeat(labels_R, frames_R))

    rng = np.random.default_rng(seed)
    shuffled = []
    for _ in range(shuffles):
        dealt_R = digits_R.copy()
        for speaker in np.unique(speakers_R):
            own = np.flatnonzero(speakers_R == speaker)
            dealt_R[own] = digits_R[rng.permutation(own)]
        shuffled.append(bits(dealt_R))
    return Told(
        bits=bits(digits_R),
        shuffled_mean=float(np.mean(shuffled)),
        shuffled_max=max(shuffled),
        units=int(units_X.max()) + 1,
        frames=int(frames_R.sum()),
        recordings=len(spoken),
    )
