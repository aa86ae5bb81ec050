"""What both vector quantizers are made with: Gumbel softmax (gumbel.py) and k-means (kmeans.py).

The formulas are those of vq-wav2vec (arXiv 1910.05453) as fairseq computes them, by matrix
products, and so are the parameters' names. `forward` gives the quantized features under `x`,
`code_perplexity`, and what the extra losses need. Shapes: N = B x F frames, G groups, V codes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal["fairseq", "normal"]
InputNorm = Literal["none", "frame", "utterance"]


class FrameNorm(nn.LayerNorm):
    """Each frame to mean 0 and variance 1 over its channels."""

    def forward(self, z_BDF: Tensor) -> Tensor:
        return super().forward(z_BDF.transpose(1, 2)).transpose(1, 2)


class UtteranceNorm(nn.Module):
    """Each channel to mean 0 and variance 1 over the utterance's frames, as cepstra are normalised.

    What stays the same all along, the microphone and a part of the voice, drops out. All F frames
    count: pad none.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, z_BDF: Tensor) -> Tensor:
        # layer_norm over time; group_norm would refuse a single frame
        normed_BDF = F.layer_norm(z_BDF.float(), z_BDF.shape[-1:])
        return (normed_BDF * self.weight[:, None] + self.bias[:, None]).type_as(z_BDF)


def input_norm(kind: InputNorm, dim: int) -> FrameNorm | UtteranceNorm | None:
    """What stands before a codebook's projection, (B, D, F) to (B, D, F).

    Raises:
        ValueError: `kind` is none of the three.
    """
    if kind == "none":
        return None
    if kind not in ("frame", "utterance"):
        raise ValueError(f"input_norm must be none, frame or utterance, not {kind!r}")
    return FrameNorm(dim) if kind == "frame" else UtteranceNorm(dim)


def perplexity(probabilities_GV: Tensor) -> Tensor:
    """exp(entropy) of each row, summed: from G (one code each) to G x V (all alike)."""
    entropy_G = -(probabilities_GV * torch.log(probabilities_GV + 1e-7)).sum(-1)
    return entropy_G.exp().sum()


def code_shares(codes_NG: Tensor, codes: int) -> Tensor:
    """The share of frames that chose each code, (G, V)."""
    return F.one_hot(codes_NG, codes).float().mean(0)


def code_vectors(codebook_GVd: Tensor, codes_xG: Tensor) -> Tensor:
    """Vectors of code indices (..., G), groups side by side: (..., D)."""
    groups, codes, _ = codebook_GVd.shape
    rows = codes_xG + codes * torch.arange(groups, device=codes_xG.device)
    return F.embedding(rows, codebook_GVd.reshape(groups * codes, -1)).flatten(-2)
