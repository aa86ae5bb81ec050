"""Batches of units of which spans are hidden, and the loss of a BERT on what is hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertForMaskedLM

from pipeline.batches import generator
from pipeline.recipe import BertSettings
from stages.units.kept_back import ALL, KEPT, RANDOM, SHOWS_MASK
from stages.units.masking import corrupt, span_mask
from stages.units.vocabulary import MASK


@dataclass(frozen=True)
class Batch:
    """Utterances behind one another in one row of N frames, of which M are hidden.

    Attributes:
        seen_N: tokens that the model is shown.
        positions_N: of each frame in its utterance, from 0.
        hidden_M: where in the row the hidden frames are.
        truth_M: what they were.
        frames: of each utterance.
    """

    seen_N: Tensor
    positions_N: Tensor
    hidden_M: Tensor
    truth_M: Tensor
    frames: list[int]


class MaskedUnits:
    """Tokens by utterance, with masks that are a pure function of (seed, epoch, utterance)."""

    def __init__(
        self,
        tokens: Mapping[str, NDArray[np.int64]],
        settings: BertSettings,
        vocabulary_size: int,
        seed: int,
        device: str,
    ) -> None:
        self.tokens, self._settings = tokens, settings
        self._size, self._seed, self._device = vocabulary_size, seed, device

    def masked(self, name: str, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Of one utterance what is seen and what is hidden, both (F,).

        At least one frame is hidden, where there are any.
        """
        settings, tokens_F = self._settings, self.tokens[name]
        rng = generator(self._seed, "mask", epoch, name)
        mask_F = span_mask(
            len(tokens_F),
            settings.mask_start_probability,
            settings.mask_span,
            rng,
            settings.mask_span_std,
        )
        if len(mask_F) and not mask_F.any():  # a short utterance that no span fell on
            mask_F[int(rng.integers(len(mask_F)))] = True
        return corrupt(tokens_F, mask_F, self._size, rng), mask_F

    def batch(self, names: Sequence[str], epoch: int) -> Batch:
        """These utterances in a row, in this order."""
        seen, masks = zip(*(self.masked(name, epoch) for name in names), strict=True)
        truth_N = np.concatenate([self.tokens[name] for name in names])
        hidden_M = np.flatnonzero(np.concatenate(masks))
        frames = [len(mask_F) for mask_F in masks]
        return Batch(
            self._tensor(np.concatenate(seen)),
            self._tensor(np.concatenate([np.arange(count) for count in frames])),
            self._tensor(hidden_M),
            self._tensor(truth_N[hidden_M]),
            frames,
        )

    def _tensor(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def by_fate(shown_M: Tensor, truth_M: Tensor) -> dict[str, Tensor]:
    """Which of the chosen frames (M,) are of each fate, by what is shown there.

    Where a frame shows its own unit, a model may be right by copying it. A random unit that
    happens to be the frame's own counts as kept.
    """
    mask_M, kept_M = shown_M == MASK, shown_M == truth_M
    every_M = torch.ones_like(mask_M)
    return {ALL: every_M, SHOWS_MASK: mask_M, KEPT: kept_M, RANDOM: ~(mask_M | kept_M)}


def hidden_states(model: BertForMaskedLM, batch: Batch) -> Tensor:
    """The model's last hidden states (N, D); to be called within `attention.packed(model)`."""
    states: Tensor = model.bert(
        batch.seen_N[None],
        position_ids=batch.positions_N[None],
        utterance_frames=batch.frames,
    ).last_hidden_state
    return states[0]


def losses(model: BertForMaskedLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats (M,) at each hidden frame, and whether the guess is right (M,).

    The output layer, large beside a small model, is computed for hidden frames only.
    """
    logits_MT = model.cls(hidden_states(model, batch)[batch.hidden_M])
    right_M = logits_MT.detach().argmax(-1) == batch.truth_M
    losses_M = torch.nn.functional.cross_entropy(logits_MT.float(), batch.truth_M, reduction="none")
    return losses_M, right_M
