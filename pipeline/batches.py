"""Batches of a training: who shares one is a pure function of (seed, epoch)."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


def generator(*key: object) -> np.random.Generator:
    """A random generator that is a pure function of `key`, such as (seed, epoch, utterance)."""
    told = hashlib.sha256(json.dumps(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(told[:16], "little")))


class Batches:
    """Batches of utterances of like length, as a pure function of (seed, epoch).

    Args:
        lengths: frames by utterance id.
        batch_frames: frames of a batch, padding included; a longer utterance stands alone.
    """

    def __init__(self, lengths: Mapping[str, int], batch_frames: int, seed: int) -> None:
        self._lengths, self._batch_frames, self._seed = dict(lengths), batch_frames, seed
        self._ends: list[int] = []  # number of updates up to the end of each epoch
        self._epochs: dict[int, list[list[str]]] = {}

    def epoch(self, epoch: int) -> list[list[str]]:
        """All utterances once, in batches, shuffled."""
        if epoch not in self._epochs:
            made = self._made(generator(self._seed, "batches", epoch))
            self._epochs = {epoch: made}
        return self._epochs[epoch]

    def _made(self, rng: np.random.Generator) -> list[list[str]]:
        """The batches of an epoch."""
        # Lengths are jittered, so that epochs differ in who shares a batch.
        jitter = rng.uniform(0.9, 1.1, len(self._lengths))
        ids = sorted(self._lengths)
        near = [self._lengths[i] * j for i, j in zip(ids, jitter, strict=True)]
        batches: list[list[str]] = [[]]
        longest = 0
        for index in np.argsort(near, kind="stable"):
            utterance = ids[index]
            longest = max(longest, self._lengths[utterance])
            if batches[-1] and longest * (len(batches[-1]) + 1) > self._batch_frames:
                batches.append([])
                longest = self._lengths[utterance]
            batches[-1].append(utterance)
        order = rng.permutation(len(batches))
        return [batches[i] for i in order]

    def at(self, update: int) -> tuple[int, list[str]]:
        """The epoch that update number `update` (from 0) falls in, and its utterances."""
        while not self._ends or self._ends[-1] <= update:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self.epoch(len(self._ends))))
        epoch = bisect_right(self._ends, update)
        start = self._ends[epoch - 1] if epoch else 0
        return epoch, self.epoch(epoch)[update - start]


class PackedBatches(Batches):
    """Batches of utterances of any length in random order, without padding.

    A batch is filled up to `batch_frames`; what is left for the last one of an epoch is shared with
    the one before it, so that no update rests on a few frames.
    """

    def _made(self, rng: np.random.Generator) -> list[list[str]]:
        ids = sorted(self._lengths)
        batches: list[list[str]] = [[]]
        frames = 0
        for index in rng.permutation(len(ids)):
            length = self._lengths[ids[index]]
            if batches[-1] and frames + length > self._batch_frames:
                batches.append([])
                frames = 0
            batches[-1].append(ids[index])
            frames += length
        if len(batches) > 1 and 2 * frames < self._batch_frames:
            batches[-2:] = self._halves(batches[-2] + batches[-1])
        return batches

    def _halves(self, ids: list[str]) -> list[list[str]]:
        """The same utterances in two parts, the first with just half of the frames or more."""
        ends = np.cumsum([self._lengths[i] for i in ids])
        first = int(np.searchsorted(2 * ends, ends[-1])) + 1
        return [ids[:first], ids[first:]]


def pad(rows: Sequence[np.ndarray[Any, Any]], value: float = 0) -> tuple[Tensor, Tensor]:
    """Stack arrays of (F,) or (F, D) into one of B rows, padded at the end; and lengths_B."""
    lengths = [len(row) for row in rows]
    padded = np.full((len(rows), max(lengths), *rows[0].shape[1:]), value, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded), torch.tensor(lengths)
