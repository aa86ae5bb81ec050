"""How samples become frames, as whole numbers: without torch, so that a recipe can be checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

Layer = tuple[int, int, int]  # (channels, kernel, stride)


def hop(layers: Sequence[Layer]) -> int:
    """Samples from one frame to the next: the product of the strides."""
    return math.prod(stride for _, _, stride in layers)


def receptive_field(layers: Sequence[Layer]) -> int:
    """Samples that one frame sees (465 for the paper's layers)."""
    field, step = 1, 1
    for _, kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field


def frames(layers: Sequence[Layer], samples: int) -> int:
    """Frames that `samples` samples give; 0 where there are fewer than the receptive field."""
    for _, kernel, stride in layers:
        samples = (samples - kernel) // stride + 1
        if samples <= 0:
            return 0
    return samples


def samples_of(layers: Sequence[Layer], count: int) -> int:
    """The fewest samples that give `count` frames (1 or more)."""
    return receptive_field(layers) + (count - 1) * hop(layers)


def prediction_offset(layers: Sequence[Layer]) -> int:
    """Frames until one shares no sample with the present one (fairseq's `offset auto`)."""
    return math.ceil(receptive_field(layers) / hop(layers))


def shortest_crop(layers: Sequence[Layer], prediction_steps: int) -> int:
    """The samples of the shortest crop on which every step predicts something."""
    return samples_of(layers, prediction_offset(layers) + prediction_steps)
