"""Best path: the likeliest target of each frame, repeats collapsed, blanks removed.

No language model and nothing to tune: the figure to stand beside every decoded one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.recipe import DecodeSettings
from stages.acoustic.decoding import NO_WEIGHTS, Weights
from stages.acoustic.hypothesis import Hypothesis, runs
from stages.acoustic.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Greedy:
    """See the module."""

    tunable = False

    def __init__(self, targets: Targets) -> None:
        self.targets = targets

    def decode(self, log_probs_TV: NDArray[Any], weights: Weights = NO_WEIGHTS) -> list[str]:
        """The words of one utterance; the weights make no difference."""
        path = np.asarray(log_probs_TV).argmax(axis=1).tolist() if len(log_probs_TV) else []
        return self.targets.decode(collapse(path, self.targets.blank)).split()

    def nbest(
        self, log_probs_TV: NDArray[Any], weights: Weights = NO_WEIGHTS, count: int = 1
    ) -> list[Hypothesis]:
        """The one hypothesis there is, whatever `count` says."""
        if not len(log_probs_TV):
            return [Hypothesis((), 0.0, None, 0.0)]
        path = np.asarray(log_probs_TV).argmax(axis=1).tolist()
        acoustic = float(np.asarray(log_probs_TV).max(axis=1).sum(dtype=np.float64))
        words, ends = [], []
        for ids, last in self._groups(path):
            text = self.targets.decode(ids)
            if text:  # a piece that only marks the start of a word is none
                words.append(text)
                ends.append(last)
        return [Hypothesis(tuple(words), acoustic, None, acoustic, tuple(path), tuple(ends))]

    def _groups(self, path: list[int]) -> list[tuple[list[int], int]]:
        """The targets of each word, and its last frame."""
        groups: list[tuple[list[int], int]] = []
        new = True
        for target, _, after in runs(path):
            if target == self.targets.blank:
                continue
            if target == self.targets.boundary:
                new = True
                continue
            if new or self.targets.starts_word(target):
                groups.append(([], 0))
            groups[-1] = ([*groups[-1][0], target], after - 1)
            new = False
        return groups


def collapse(path: list[int], blank: int) -> list[int]:
    """CTC's map from a path to targets: a run counts once, then blanks fall away."""
    return [target for target, _, _ in runs(path) if target != blank]


def build(folder_lm: Path, settings: DecodeSettings) -> Greedy:
    """The decoder for the targets of stage 4."""
    return Greedy(Targets.load(folder_lm))
