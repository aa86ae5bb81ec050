"""Crops of utterances as a fairseq dataset, each a pure function of (seed, epoch, index).

fairseq's own crops come from a random state that a resumed run does not have: 33 of 33 tensors
differed after a kill in mid-epoch, and none once the crops were fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.manifest import Manifest, Utterance
from pipeline.quantizer_settings import AugmentSettings
from stages.quantizer import augment
from stages.quantizer.fairseq.bridge import import_fairseq

import_fairseq()

from fairseq.data import FairseqDataset  # noqa: E402

LENGTH_BUCKET_SAMPLES = 1_600  # what a batch of unequal lengths loses at most per crop
CACHED_SAMPLES = 128 * 1024 * 1024  # decoded speech that is kept in memory (2.3 hours, 0.5 GiB)


class Crops(FairseqDataset):  # type: ignore[misc]
    """Batches of equally long crops: at most `crop_samples`, cut to the shortest in the batch.

    Utterances shorter than `shortest_samples` are left out (`left_out` counts them).

    Raises:
        RunError: no utterance is left.
    """

    def __init__(
        self,
        speech: Sequence[Manifest],
        *,
        seed: int,
        crop_samples: int,
        shortest_samples: int,
        augment: AugmentSettings | None = None,
    ) -> None:
        super().__init__()
        every = [(manifest, utterance) for manifest in speech for utterance in manifest]
        self.entries = [(m, u) for m, u in every if u.samples >= shortest_samples]
        self.left_out = len(every) - len(self.entries)
        if not self.entries:
            raise RunError(
                "No utterance is long enough to train the quantizer on.",
                constraint=f"{shortest_samples} samples at 16 kHz: the receptive field and the "
                "frames that are predicted",
                found=f"{len(every)} utterances, the longest of "
                f"{max((u.samples for _, u in every), default=0)} samples",
                remedy="give longer recordings, or lower quantizer.prediction_steps",
            )
        self.seed, self.crop_samples, self.epoch = seed, crop_samples, 1
        self.augment = augment
        lengths = [min(u.samples, crop_samples) for _, u in self.entries]
        self.sizes: NDArray[np.int64] = np.array(lengths, dtype=np.int64)
        self._cache: dict[int, torch.Tensor] = {}
        self._cached_samples = 0

    def utterance(self, index: int) -> Utterance:
        return self.entries[index][1]

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False: every epoch makes up its batches anew."""
        return False

    @property
    def supports_fetch_outside_dataloader(self) -> bool:
        """False, which spares fairseq from reading the first batch twice."""
        return False

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.entries)

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> NDArray[np.int64]:
        """By length, longest first, in buckets; within a bucket in the epoch's random order."""
        shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(len(self))
        buckets = -(self.sizes[shuffled] // LENGTH_BUCKET_SAMPLES)
        return np.asarray(shuffled[np.argsort(buckets, kind="stable")], dtype=np.int64)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": int(index), "source": self._samples(int(index))}

    def collater(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        length = min(self.crop_samples, *(len(item["source"]) for item in items))
        crops = [self._crop(item["id"], item["source"], length) for item in items]
        return {
            "id": torch.tensor([item["id"] for item in items]),
            "net_input": {"source": torch.stack(crops)},
        }

    def _crop(self, index: int, samples: torch.Tensor, length: int) -> torch.Tensor:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        if self.augment is None:
            start = int(rng.integers(len(samples) - length + 1))
            return samples[start : start + length]
        speed = min(augment.speed_of(rng, self.augment), len(samples) / length)
        taken = round(length * speed)
        start = int(rng.integers(len(samples) - taken + 1))
        heard = augment.resampled(samples[start : start + taken].numpy(), speed, length)
        return torch.from_numpy(augment.changed(heard, rng, self.augment))

    def _samples(self, index: int) -> torch.Tensor:
        if index in self._cache:
            return self._cache[index]
        manifest, utterance = self.entries[index]
        samples = torch.from_numpy(manifest.samples(utterance))
        if self._cached_samples + len(samples) <= CACHED_SAMPLES:
            self._cache[index] = samples
            self._cached_samples += len(samples)
        return samples
