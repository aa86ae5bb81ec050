"""Features of a split by utterance id, computed from its audio when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from pipeline.manifest import Manifest

CACHED_BYTES = 1 << 30  # 9.3 hours of 80 values every 10 ms


@dataclass(frozen=True)
class FromAudio:
    """What a front-end makes of speech at 16 kHz.

    Attributes:
        compute: utterances (S,) to features (F, D) or tokens (F,), each as it would be alone.
        frames: F of an utterance of so many samples.
    """

    compute: Callable[[Sequence[Samples]], list[NDArray[Any]]]
    frames: Callable[[int], int]


class Features:
    """The features of a split by utterance id; the first that fit are kept in memory.

    Args:
        compute: samples (S,) to features (F, D).
        count: F of an utterance of so many samples.
    """

    def __init__(
        self,
        manifest: Manifest,
        compute: Callable[[Samples], NDArray[np.float32]],
        count: Callable[[int], int],
    ) -> None:
        self._manifest, self._compute, self._count = manifest, compute, count
        self._kept: dict[str, NDArray[np.float32]] = {}
        self._room_bytes = CACHED_BYTES

    @classmethod
    def of(cls, manifest: Manifest, audio: FromAudio) -> Features:
        """Those that a front-end makes of the split's audio."""
        return cls(manifest, lambda samples: audio.compute([samples])[0], audio.frames)

    def __call__(self, utterance_id: str) -> NDArray[np.float32]:
        if utterance_id in self._kept:
            return self._kept[utterance_id]
        feats_FD = self._compute(self._manifest.samples(self._manifest[utterance_id]))
        if feats_FD.nbytes <= self._room_bytes:
            self._room_bytes -= feats_FD.nbytes
            self._kept[utterance_id] = feats_FD
        return feats_FD

    def frames(self, utterance_id: str) -> int:
        """How many frames an utterance has; its audio is not read."""
        return self._count(self._manifest[utterance_id].samples)


def normalised(feats_FD: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each dimension brought to mean 0 and variance 1 over the utterance."""
    import numpy as np

    centred_FD = feats_FD - feats_FD.mean(axis=0)
    return np.asarray(centred_FD / (feats_FD.std(axis=0) + 1e-5), dtype=np.float32)
