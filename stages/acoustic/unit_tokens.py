"""The units of a split as front-ends on units read them, and how many the vocabulary lacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.stage import StepContext


class UnitTokens:
    """Token ids (F,) of an utterance, by its id.

    Args:
        vocabulary: folder of the vocabulary. A unit outside of it is read as the nearest in it.
        units: folder of the split's units.
    """

    def __init__(self, vocabulary: Path, units: Path) -> None:
        from stages.units.corpus import UnitCorpus
        from stages.units.vocabulary import Vocabulary

        self._vocabulary, self._units = Vocabulary.load(vocabulary), UnitCorpus(units)

    def __call__(self, utterance_id: str) -> NDArray[np.int64]:
        return self._vocabulary.tokens(self._units[utterance_id])

    def outside(self, utterance_ids: Iterable[str]) -> tuple[int, int]:
        """How many frames of these utterances have a unit that is replaced, and of how many."""
        outside = frames = 0
        for name in utterance_ids:
            known_F = self._vocabulary.known(self._units[name])
            outside += int((~known_F).sum())
            frames += len(known_F)
        return outside, frames


def tell_outside(ctx: StepContext, features: Any, utterance_ids: Iterable[str], of: str) -> None:
    """Say what share of the frames is not what it seems: where it is none, nothing.

    Args:
        features: of a front-end; only those that are UnitTokens can have such frames.
        of: whose utterances they are.
    """
    if not isinstance(features, UnitTokens):
        return
    outside, frames = features.outside(utterance_ids)
    if outside:
        ctx.say(
            f"{outside:,} of {frames:,} frames of {of} ({outside / frames:.2%}) have a unit "
            "outside of the vocabulary; the nearest stands for it"
        )
