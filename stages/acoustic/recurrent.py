"""Bidirectional LSTMs under the CTC layer: what recognisers were before Transformers."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from stages.acoustic.encoders import FeatureEncoder, masked

CONTEXT_FRAMES = FeatureEncoder.CONTEXT_FRAMES


class RecurrentEncoder(nn.Module):
    """Deep Speech 2 (arXiv 1512.02595): a convolution, bidirectional layers, a linear layer.

    As there the two directions of a layer are summed. Between layers stands LayerNorm instead of
    batch norm over the padded batch: an utterance comes out the same whatever is beside it.

    Args:
        config: {"channels": D of the features, "stride": frames that become one, "layers",
            "hidden": units of each direction, "dim": of the vectors that come out, "dropout"}.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        hidden, self.dim = int(config["hidden"]), int(config["dim"])
        self.mask_channels, self.stride = int(config["channels"]), int(config["stride"])
        self.longest_frames = sys.maxsize
        self.project = nn.Conv1d(
            self.mask_channels,
            hidden,
            CONTEXT_FRAMES,
            self.stride,
            padding=CONTEXT_FRAMES // 2,
        )
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(BothWays(hidden) for _ in range(int(config["layers"])))
        self.dropout = nn.Dropout(float(config["dropout"]))
        self.out = nn.Linear(hidden, self.dim)

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def forward(
        self,
        feats_BFD: Tensor,
        attended_BF: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (B, ceil(F / stride), D). Masked frames and channels are 0, the mean."""
        feats_BFD = masked(feats_BFD, time_mask_BF, channel_mask_BD)
        feats_BFD = feats_BFD.masked_fill(~attended_BF[..., None], 0.0)
        hidden_BFD = nn.functional.gelu(self.norm(self.project(feats_BFD.mT).mT))
        backwards_BF = _backwards(attended_BF[:, :: self.stride].sum(1), hidden_BFD.shape[1])
        for layer in self.layers:
            hidden_BFD = layer(self.dropout(hidden_BFD), backwards_BF)
        out_BFD: Tensor = nn.functional.gelu(self.out(self.dropout(hidden_BFD)))
        return out_BFD


class BothWays(GradientCheckpointingLayer):
    """An LSTM from the first frame on and one from the last one back, their sum normalised.

    The frames are turned round for the second, each utterance's own: padding stays behind it.
    torch's packed sequences do the same at four times the cost on a CPU. Recurrences are computed
    in fp32: bf16 gains no time in them.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(dim, dim, batch_first=True)
        self.back = nn.LSTM(dim, dim, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BFD: Tensor, backwards_BF: Tensor) -> Tensor:
        turn_BFD = backwards_BF[..., None].expand_as(x_BFD)
        with torch.autocast(x_BFD.device.type, enabled=False):
            x_BFD = x_BFD.float()
            onward_BFD, _ = self.onward(x_BFD)
            back_BFD, _ = self.back(x_BFD.gather(1, turn_BFD))
            summed: Tensor = self.norm(onward_BFD + back_BFD.gather(1, turn_BFD))
        return summed


def _backwards(lengths_B: Tensor, frames: int) -> Tensor:
    """(B, F): the frames of each utterance from its last to its first, then padding in place."""
    place_F = torch.arange(frames, device=lengths_B.device)
    turned_BF = lengths_B[:, None] - 1 - place_F
    return torch.where(turned_BF >= 0, turned_BF, place_F)


def hidden_for(parameters: int, *, channels: int, layers: int, dim: int) -> int:
    """The `hidden` with which a RecurrentEncoder comes closest to so many parameters."""

    def count(hidden: int) -> int:
        project = (channels * CONTEXT_FRAMES + 3) * hidden  # weights, bias, the norm's two
        each = 2 * (8 * hidden + 8) * hidden + 2 * hidden
        return project + layers * each + (hidden + 1) * dim

    enough = bisect_left(range(1 << 14), parameters, lo=1, key=count)
    return min((enough - 1, enough), key=lambda h: (h < 1, abs(count(h) - parameters)))
