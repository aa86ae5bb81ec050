"""Best path: the likeliest target of each frame, repeats collapsed, blanks removed.

No language model and nothing to tune: the figure to stand beside every decoded one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.recipe import DecodeSettings
from stages.acoustic.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Greedy:
    """See the module."""

    tunable = False

    def __init__(self, targets: Targets) -> None:
        self.targets = targets

    def decode(
        self, log_probs_TV: NDArray[Any], lm_weight: float = 0.0, word_score: float = 0.0
    ) -> list[str]:
        """The words of one utterance; the weights make no difference."""
        path = np.asarray(log_probs_TV).argmax(axis=1).tolist() if len(log_probs_TV) else []
        return self.targets.decode(collapse(path, self.targets.blank)).split()


def collapse(path: list[int], blank: int) -> list[int]:
    """CTC's map from a path to targets: a run counts once, then blanks fall away."""
    starts = [t for t in range(len(path)) if t == 0 or path[t] != path[t - 1]]
    return [path[t] for t in starts if path[t] != blank]


def build(folder_lm: Path, settings: DecodeSettings) -> Greedy:
    """The decoder for the targets of stage 4."""
    return Greedy(Targets.load(folder_lm))
