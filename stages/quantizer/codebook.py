"""What both vector quantizers are made with: Gumbel softmax (gumbel.py) and k-means (kmeans.py).

The formulas are those of vq-wav2vec (arXiv 1910.05453) as fairseq computes them, by matrix
products, and so are the parameters' names. `forward` gives the quantized features under `x`,
`code_perplexity`, and what the extra losses need. Shapes: N = B x F frames, G groups, V codes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Init = Literal["fairseq", "normal"]


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
