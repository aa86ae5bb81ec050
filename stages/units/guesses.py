"""How well a BERT guesses hidden units of speech kept back, beside guesses that need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertForMaskedLM

from pipeline.training import PackedBatches, autocast
from stages.units.masked_units import MaskedUnits, losses

EPOCH = 0  # whose masks are taken; the speech is in no epoch of the training


class Validation:
    """The same hidden frames of the same utterances, time after time.

    Args:
        names: utterances to guess in.
        learnt_from: the training's utterances, whose frequencies the trivial guesses know.
        what: how the names of the figures start; it says whose they are.
    """

    def __init__(
        self,
        masked: MaskedUnits,
        names: Sequence[str],
        learnt_from: Sequence[str],
        batch_frames: int,
        vocabulary_size: int,
        precision: str,
        device: str,
        what: str = "kept_back",
    ) -> None:
        self._what = what
        self._masked, self._precision, self._device = masked, precision, device
        lengths = {name: len(masked.tokens[name]) for name in names}
        self._batches = PackedBatches(lengths, batch_frames, seed=0).epoch(0)
        counts_T = np.zeros(vocabulary_size, np.int64)
        for name in learnt_from:
            counts_T += np.bincount(masked.tokens[name], minlength=vocabulary_size)
        self._trivial = self._without_model(names, counts_T)

    def figures(self, model: BertForMaskedLM) -> dict[str, float]:
        """Loss in nats and accuracy over all hidden frames, with those of the trivial guesses."""
        total = right = frames = 0.0
        for names in self._batches:
            batch = self._masked.batch(names, EPOCH)
            with torch.no_grad(), autocast(self._precision, self._device):
                losses_M, right_M = losses(model, batch)
            total += float(losses_M.double().sum())
            right += float(right_M.sum())
            frames += len(right_M)
        told = {"loss": total / frames, "accuracy": right / frames} | self._trivial
        return {f"{self._what}_{name}": round(value, 5) for name, value in told.items()}

    def _without_model(self, names: Sequence[str], counts_T: NDArray[np.int64]) -> dict[str, float]:
        """The most frequent unit and its share's loss; the nearest frame that can be seen."""
        most_frequent = int(counts_T.argmax())
        log_share_T = np.log((counts_T + 1) / (counts_T + 1).sum())  # none is impossible
        loss, frequent, near, frames = 0.0, 0, 0, 0
        for name in names:
            truth_F = self._masked.tokens[name]
            _, hidden_F = self._masked.masked(name, EPOCH)
            truth_M = truth_F[hidden_F]
            loss -= float(log_share_T[truth_M].sum())
            frequent += int((truth_M == most_frequent).sum())
            near += int((truth_F[nearest_seen(hidden_F)][hidden_F] == truth_M).sum())
            frames += len(truth_M)
        return {
            "loss_frequencies": loss / frames,
            "accuracy_most_frequent": frequent / frames,
            "accuracy_nearest": near / frames,
        }


def nearest_seen(hidden_F: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each frame the nearest one that is not hidden (itself where none is)."""
    seen = np.flatnonzero(~hidden_F)
    frames = np.arange(len(hidden_F))
    if not len(seen):
        return frames
    right = np.clip(np.searchsorted(seen, frames), 0, len(seen) - 1)
    left = np.clip(right - 1, 0, len(seen) - 1)
    nearer_left = np.abs(frames - seen[left]) <= np.abs(seen[right] - frames)
    nearest: NDArray[np.int64] = np.where(nearer_left, seen[left], seen[right])
    return nearest
