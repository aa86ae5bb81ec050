"""Speech kept back from pretraining: which it is, and how its figures are called and told."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.manifest import original_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.units.vocabulary import Vocabulary

SHARE = 0.04
AT_MOST = 64
KEPT_BACK, TRAINED_ON = "kept_back", "trained_on"  # how the names of figures start, by whose
# Frames chosen to be guessed, by what the model is shown there; ALL are those that are chosen.
ALL, SHOWS_MASK, KEPT, RANDOM = "all", "mask", "kept", "random"
AT_MASK = "at frames that show [MASK]"
ALL_CHOSEN = "over all chosen frames"
# What stands in pretraining.json of its figures' frames.
FRAMES = (
    "of the frames chosen to be guessed, those that show [MASK] for figures with mask in their "
    "name; all of them for the others, also where the frame shows its own unit or a random one"
)


@dataclass(frozen=True)
class Parts:
    """Names of utterances.

    Attributes:
        chosen_on: whose loss chooses the weights, and of whom figures are told.
        learnt_from: what is trained on.
        what: KEPT_BACK; TRAINED_ON if there is too little speech to keep any back.
    """

    chosen_on: list[str]
    learnt_from: list[str]
    what: str


def parts(names: Iterable[str]) -> Parts:
    """Which of these utterances are kept back, and which are learnt from: both sorted."""
    names = sorted(names)
    kept = kept_back(names)
    learnt_from = [name for name in names if name not in kept]
    chosen_on = sorted(kept) or learnt_from[:AT_MOST]
    return Parts(chosen_on, learnt_from, KEPT_BACK if kept else TRAINED_ON)


def kept_back(names: Collection[str]) -> set[str]:
    """Utterances for validation: those whose hashed names come first, the same everywhere.

    Copies at other speeds go with their originals: the same words are not learnt from.
    """
    originals = {original_id(name) for name in names}
    count = min(AT_MOST, int(len(originals) * SHARE))
    chosen = sorted(originals, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[:count]
    return {name for name in names if original_id(name) in chosen}


def read_tokens(inputs: Mapping[str, Path], vocabulary: Vocabulary) -> dict[str, NDArray[np.int64]]:
    """Tokens (F,) of all pretraining splits, by role (`units/<split>`) and utterance."""
    from stages.units.corpus import UnitCorpus

    tokens: dict[str, NDArray[np.int64]] = {}
    for role in sorted(inputs):
        if role.startswith("units/"):
            corpus = UnitCorpus(inputs[role])
            tokens |= {f"{role}/{n}": vocabulary.tokens(corpus[n]) for n in corpus}
    return tokens


@dataclass(frozen=True)
class Told:
    """Figures that compare: all are of the same frames. None: the file has none.

    Attributes:
        frames: which: AT_MASK; ALL_CHOSEN where that is all there is, as in files of before.
        loss: in nats.
        accuracy, most_frequent, nearest: of the BERT and of the two trivial guesses.
    """

    frames: str
    loss: float | None
    accuracy: float | None
    most_frequent: float | None
    nearest: float | None


def told(facts: Mapping[str, Any], what: str = KEPT_BACK) -> Told:
    """What a pretraining.json, or an evaluation, says of how well units are guessed."""
    at_mask = f"{what}_mask_accuracy" in facts
    start = f"{what}_mask_" if at_mask else f"{what}_"
    names = ("loss", "accuracy", "accuracy_most_frequent", "accuracy_nearest")
    return Told(AT_MASK if at_mask else ALL_CHOSEN, *(facts.get(start + name) for name in names))
