"""The two convolutional networks of wav2vec: samples to features, features to context.

Parameter names are those of fairseq's wav2vec, so that weights carry over both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from stages.quantizer.geometry import Layer


class TimeGroupNorm(nn.GroupNorm):
    """GroupNorm over channels and time, with sums in fp32 whatever the input's type."""

    def forward(self, x_BDF: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        # The CPU's own kernel reads bf16 and sums in fp32: no copies there and back.
        x = x_BDF if x_BDF.device.type == "cpu" else x_BDF.float()
        return F.group_norm(x, self.num_groups, weight, bias, self.eps).type_as(x_BDF)


class LeftZeroPad(nn.Module):
    """Zeros before the first frame."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x_BDF: Tensor) -> Tensor:
        return F.pad(x_BDF, (self.count, 0))


class Encoder(nn.Module):
    """Samples to features: convolution, norm, activation per layer, then log(1 + |x|)."""

    def __init__(
        self,
        layers: Sequence[Layer],
        activation: nn.Module,
        *,
        log_compression: bool = True,
        skip_connections: bool = False,
        residual_scale: float = 0.5,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList()
        channels_in = 1
        for channels, kernel, stride in layers:
            self.conv_layers.append(
                nn.Sequential(
                    nn.Conv1d(channels_in, channels, kernel, stride=stride, bias=False),
                    nn.Identity(),  # fairseq has a dropout of 0 here; the numbering counts
                    TimeGroupNorm(1, channels, affine=affine),
                    activation,
                )
            )
            channels_in = channels
        self.log_compression = log_compression
        self.skip_connections = skip_connections
        self.residual_scale = math.sqrt(residual_scale)

    def forward(self, samples_BS: Tensor) -> Tensor:
        """Features z_BDF; F is `frames(layers, S)`."""
        x = samples_BS.unsqueeze(1)
        for layer in self.conv_layers:
            residual, x = x, layer(x)
            if self.skip_connections and x.size(1) == residual.size(1):
                residual = residual[..., :: residual.size(2) // x.size(2)][..., : x.size(2)]
                x = (x + residual) * self.residual_scale
        return x.abs().log1p() if self.log_compression else x


class Aggregator(nn.Module):
    """Features to context: causal convolutions that keep the number of frames."""

    def __init__(
        self,
        dim: int,
        layers: Sequence[Layer],
        activation: nn.Module,
        *,
        dropout: float = 0.0,
        conv_bias: bool = True,
        zero_pad: bool = False,
        skip_connections: bool = True,
        residual_scale: float = 0.5,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential()
        self.residual_proj = nn.ModuleList()
        for channels, kernel, stride in layers:
            changes = dim != channels and skip_connections
            # None keeps the place of a layer that needs no projection, as in fairseq
            projection = nn.Conv1d(dim, channels, 1, bias=False) if changes else None
            self.residual_proj.append(cast(nn.Module, projection))
            pad = LeftZeroPad(kernel - 1) if zero_pad else nn.ReplicationPad1d((kernel - 1, 0))
            self.conv_layers.append(
                nn.Sequential(
                    pad,
                    nn.Conv1d(dim, channels, kernel, stride=stride, bias=conv_bias),
                    nn.Dropout(dropout),
                    TimeGroupNorm(1, channels, affine=affine),
                    activation,
                )
            )
            dim = channels
        self.skip_connections = skip_connections
        self.residual_scale = math.sqrt(residual_scale)

    def forward(self, z_BDF: Tensor) -> Tensor:
        x = z_BDF
        for projection, layer in zip(self.residual_proj, self.conv_layers, strict=True):
            residual, x = x, layer(x)
            if self.skip_connections:
                residual = residual if projection is None else projection(residual)
                x = (x + residual) * self.residual_scale
        return x


class _FramesFirst(nn.Module):
    """(B, D, F) to (B, F, D); of a GRU's (output, state) the output."""

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return (x if isinstance(x, Tensor) else x[0]).transpose(-2, -1)


def gru_aggregator(dim: int, gru_dim: int, *, over_time: bool) -> nn.Module:
    """Features to context by one GRU layer, as in CPC (arXiv 1807.03748).

    Args:
        over_time: fairseq gives the GRU (B, F, D) without `batch_first`, so that it runs over the
            batch and a frame's context knows no other frame of its utterance. False keeps that,
            for the sake of its checkpoints.
    """
    gru = nn.GRU(input_size=dim, hidden_size=gru_dim, batch_first=over_time)
    return nn.Sequential(_FramesFirst(), gru, _FramesFirst())
