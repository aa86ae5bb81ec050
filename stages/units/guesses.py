"""How well a BERT guesses hidden units of speech kept back, beside guesses that need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertForMaskedLM

from pipeline.batches import PackedBatches
from pipeline.precision import autocast
from stages.units.kept_back import ALL, SHOWS_MASK
from stages.units.masked_units import MaskedUnits, by_fate, losses

EPOCH = 0  # whose masks are taken; the speech is in no epoch of the training
TRIVIAL = ("loss_frequencies", "accuracy_most_frequent", "accuracy_nearest")
FIGURES = ("loss", "accuracy", *TRIVIAL)


class Validation:
    """The same chosen frames of the same utterances, time after time.

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
        """What is told of the model: loss in nats and accuracy, at frames that show [MASK].

        The trivial guesses beside them are of the same frames. Where a chosen frame shows its own
        unit the model may copy it, which no trivial guess does: there they do not compare. Loss
        and accuracy over all chosen frames are given as well, under the names without `mask`: the
        loss chooses the weights. Where no frame shows [MASK], they are all there is.
        """
        found = self.by_fate(model)
        told = {name: found[ALL][name] for name in ("loss", "accuracy")}
        for name in FIGURES if SHOWS_MASK in found else ():
            told[f"mask_{name}"] = found[SHOWS_MASK][name]
        return {f"{self._what}_{name}": value for name, value in told.items()}

    def by_fate(self, model: BertForMaskedLM) -> dict[str, dict[str, float]]:
        """FIGURES and the number of frames, for each fate of a chosen frame that there is."""
        sums = {fate: np.zeros(2) for fate in self._trivial}
        for names in self._batches:
            batch = self._masked.batch(names, EPOCH)
            with torch.no_grad(), autocast(self._precision, self._device):
                losses_M, right_M = losses(model, batch)
            for fate, here_M in by_fate(batch.seen_N[batch.hidden_M], batch.truth_M).items():
                if fate in sums:
                    sums[fate] += np.array(
                        [float(losses_M[here_M].double().sum()), float(right_M[here_M].sum())]
                    )
        found = {}
        for fate, trivial in self._trivial.items():
            loss, accuracy = sums[fate] / trivial["frames"]
            told = {"loss": float(loss), "accuracy": float(accuracy)} | trivial
            found[fate] = {name: round(value, 5) for name, value in told.items()}
        return found

    def _without_model(
        self, names: Sequence[str], counts_T: NDArray[np.int64]
    ) -> dict[str, dict[str, float]]:
        """The most frequent unit and its share's loss; the nearest frame that can be seen.

        By fate of the frame where it is guessed; those that no frame has are left out.
        """
        most_frequent = int(counts_T.argmax())
        log_share_T = np.log((counts_T + 1) / (counts_T + 1).sum())  # none is impossible
        sums: dict[str, NDArray[np.float64]] = {}
        for name in names:
            truth_F = self._masked.tokens[name]
            seen_F, hidden_F = self._masked.masked(name, EPOCH)
            truth_M, nearest_M = truth_F[hidden_F], truth_F[nearest_seen(hidden_F)][hidden_F]
            fates = by_fate(torch.from_numpy(seen_F[hidden_F]), torch.from_numpy(truth_M))
            guessed_M4 = np.stack(
                (
                    np.ones(len(truth_M)),
                    -log_share_T[truth_M],
                    truth_M == most_frequent,
                    nearest_M == truth_M,
                ),
                axis=1,
            )
            for fate, here_M in fates.items():
                sums[fate] = sums.get(fate, np.zeros(4)) + guessed_M4[here_M.numpy()].sum(axis=0)
        found = {}
        for fate, (frames, loss, frequent, near) in sums.items():
            if frames:
                means = (frames, loss / frames, frequent / frames, near / frames)
                found[fate] = {
                    name: float(v) for name, v in zip(("frames", *TRIVIAL), means, strict=True)
                }
        return found


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
