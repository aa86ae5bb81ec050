"""Vector quantizers: Gumbel softmax and k-means, each by matrix products.

The formulas are those of vq-wav2vec (arXiv 1910.05453) as fairseq computes them, and so are the
parameters' names. `forward` gives the quantized features under `x`, `code_perplexity`, and
what the extra losses need. Shapes: N = B x F frames, G groups, V codes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.quantizer.encoder import TimeGroupNorm

Init = Literal["fairseq", "normal"]
REHEATED = 100  # updates that the temperature takes to fall again after a repair


def perplexity(probabilities_GV: Tensor) -> Tensor:
    """exp(entropy) of each row, summed: from G (one code each) to G x V (all alike)."""
    entropy_G = -(probabilities_GV * torch.log(probabilities_GV + 1e-7)).sum(-1)
    return entropy_G.exp().sum()


def code_shares(codes_NG: Tensor, codes: int) -> Tensor:
    """The share of frames that chose each code, (G, V)."""
    return F.one_hot(codes_NG, codes).float().mean(0)


class GumbelCodebook(nn.Module):
    """Codes drawn from logits by Gumbel softmax, straight through; the likeliest in eval mode.

    Not in fairseq, and off unless asked for: `input_norm` puts a LayerNorm before the projection;
    `projection_init="normal"` gives the layer that yields logits N(0, 1) weights at any depth
    (fairseq: at depth 1 only); `codebook_init="normal"` centres the codebook: N(0, 1) for U(0, 1).

    Args:
        temperature: (first, last, decay): at update u it is max(last, first * decay ** u).
    """

    def __init__(
        self,
        dim: int,
        groups: int,
        codes: int,
        *,
        combine_groups: bool,
        depth: int,
        activation: nn.Module,
        temperature: tuple[float, float, float],
        input_norm: bool = False,
        projection_init: Init = "fairseq",
        codebook_init: Init = "fairseq",
    ) -> None:
        super().__init__()
        self.groups, self.codes, self.combine_groups = groups, codes, combine_groups
        self.vars = nn.Parameter(
            torch.empty(1, codes if combine_groups else codes * groups, dim // groups)
        )
        (nn.init.normal_ if codebook_init == "normal" else nn.init.uniform_)(self.vars)
        self.weight_proj: nn.Module
        if depth == 1:
            last = self.weight_proj = nn.Linear(dim, groups * codes)
        else:
            sizes = [dim, *[2 * dim] * (depth - 1)]
            hidden = [nn.Sequential(nn.Linear(a, b), activation) for a, b in pairwise(sizes)]
            last = nn.Linear(2 * dim, groups * codes)
            self.weight_proj = nn.Sequential(*hidden, last)
        if depth == 1 or projection_init == "normal":
            nn.init.normal_(last.weight)
            nn.init.zeros_(last.bias)
        self.input_norm = nn.LayerNorm(dim) if input_norm else None
        self.temperatures = temperature
        self.temperature = temperature[0]
        self.reheated_at: int | None = None  # update of a repair: see doctor.py
        self.last_inputs_BDF: Tensor | None = None  # of the training batch, for the doctor
        self.last_codes_NG: Tensor | None = None

    def set_num_updates(self, updates: int) -> None:
        """fairseq's hook: the temperature of the update that comes next.

        After a repair it starts from the first once more, and falls to the last in `REHEATED`
        updates.
        """
        first, last, decay = self.temperatures
        self.temperature = max(first * decay**updates, last)
        if self.reheated_at is not None:
            share = (updates - self.reheated_at) / REHEATED
            self.temperature = max(self.temperature, first * (last / first) ** share)

    def logits(self, z_BDF: Tensor) -> Tensor:
        """(N, G, V)."""
        z_ND = z_BDF.transpose(1, 2).reshape(-1, z_BDF.size(1))
        if self.input_norm is not None:
            z_ND = self.input_norm(z_ND)
        logits: Tensor = self.weight_proj(z_ND)
        return logits.view(-1, self.groups, self.codes)

    def code_indices(self, z_BDF: Tensor) -> Tensor:
        """The likeliest codes, (B, F, G)."""
        return self.logits(z_BDF).argmax(-1).view(z_BDF.size(0), -1, self.groups)

    def codebook(self) -> Tensor:
        """The vectors of each group, (G, V, D / G)."""
        table = self.vars.view(-1, self.codes, self.vars.size(-1))
        return table.expand(self.groups, -1, -1)

    def forward(self, z_BDF: Tensor) -> dict[str, Any]:
        logits_NGV = self.logits(z_BDF)
        with torch.no_grad():
            best_NG = logits_NGV.argmax(-1)
            shares_GV = code_shares(best_NG, self.codes)
            if self.training:
                self.last_inputs_BDF, self.last_codes_NG = z_BDF.detach(), best_NG
        flat = logits_NGV.flatten(0, 1)
        if self.training:
            chosen = F.gumbel_softmax(flat.float(), tau=self.temperature, hard=True).type_as(flat)
        else:
            chosen = F.one_hot(best_NG.flatten(), self.codes).type_as(flat)
        if self.combine_groups:
            quantized = chosen @ self.vars[0]
        else:
            quantized = torch.einsum("ngv,gvd->ngd", chosen.view_as(logits_NGV), self.codebook())
        return {
            "x": quantized.reshape(z_BDF.size(0), z_BDF.size(2), -1).transpose(1, 2),
            "num_vars": self.codes * self.groups,
            "code_perplexity": perplexity(shares_GV),
            "prob_perplexity": perplexity(logits_NGV.float().softmax(-1).mean(0)),
            "temp": self.temperature,
        }


class KmeansCodebook(nn.Module):
    """The nearest code to the projected features, straight through; two losses move the codes.

    Not in fairseq, and off unless asked for: `input_norm` puts a LayerNorm before the projection;
    `codebook_init="normal"` draws N(0, 1), the scale of the features after the norm, where
    fairseq draws N(0, 0.01 ** 2); the first `quantize_after` updates train on unquantized
    features, and the codes then start at centres of a batch's features, because from the start
    codes and features chase each other and nothing is learnt in a thousand updates; every
    `restart_every` updates, up to `restart_until`, codes that no frame of the batch chose are
    moved onto frames of it.
    """

    def __init__(
        self,
        dim: int,
        groups: int,
        codes: int,
        *,
        combine_groups: bool,
        gamma: float,
        input_norm: bool = False,
        codebook_init: Init = "fairseq",
        quantize_after: int = 0,
        restart_every: int = 0,
        restart_until: int = 0,
    ) -> None:
        super().__init__()
        self.groups, self.codes, self.combine_groups = groups, codes, combine_groups
        scale = 1.0 if codebook_init == "normal" else 0.01
        tables = 1 if combine_groups else groups
        self.embedding = nn.Parameter(scale * torch.randn(codes, tables, dim // groups))
        self.projection = nn.Sequential(
            nn.Conv1d(dim, dim, 1, groups=groups, bias=False), TimeGroupNorm(groups, dim)
        )
        self.input_norm = nn.LayerNorm(dim) if input_norm else None
        self.gamma = gamma
        self.quantize_after = quantize_after
        self.restart_every, self.restart_until = restart_every, restart_until
        self.updates = 0
        self.last_inputs_BDF: Tensor | None = None  # of the training batch, for the doctor
        self.last_codes_NG: Tensor | None = None

    def set_num_updates(self, updates: int) -> None:
        """Called by the trainer before each update."""
        self.updates = updates

    @torch.no_grad()
    def _start_from(self, ze_BDF: Tensor) -> None:
        """Set the codes to the centres of the batch's frames, by Lloyd's algorithm."""
        frames_NGd = self.frames(ze_BDF)
        tables = self.embedding.size(1)
        for table in range(tables):
            # One shared table serves all groups: its codes come from the frames of all.
            pool_Nd = frames_NGd.flatten(0, 1) if tables < self.groups else frames_NGd[:, table]
            self.embedding[:, table] = centres(pool_Nd, self.codes).to(self.embedding.dtype)

    def frames(self, ze_BDF: Tensor) -> Tensor:
        """Frames one after the other, (N, G, D / G), in fp32."""
        ze_BGdF: Tensor = ze_BDF.float().unflatten(1, (self.groups, -1))
        return ze_BGdF.permute(0, 3, 1, 2).flatten(0, 1)

    @torch.no_grad()
    def _restart_dead(self, ze_BDF: Tensor, codes_BFG: Tensor) -> None:
        """Move each code that no frame of the batch chose onto a frame of the batch.

        A code far from all speech gets no gradient and would stay there for good.
        """
        frames_NGd = self.frames(ze_BDF)
        chosen_GV = code_shares(codes_BFG.flatten(0, 1), self.codes) > 0
        if self.combine_groups:
            chosen_GV = chosen_GV.any(0, keepdim=True)
        for table, chosen_V in enumerate(chosen_GV):
            dead = (~chosen_V).nonzero().flatten()
            # One shared table serves all groups: its new codes come from any of them.
            pool_Nd = frames_NGd.flatten(0, 1) if self.combine_groups else frames_NGd[:, table]
            rows = torch.randint(len(pool_Nd), (len(dead),), device=pool_Nd.device)
            self.embedding[dead, table] = pool_Nd[rows].to(self.embedding.dtype)

    def projected(self, z_BDF: Tensor) -> Tensor:
        if self.input_norm is not None:
            z_BDF = self.input_norm(z_BDF.transpose(1, 2)).transpose(1, 2)
        projected: Tensor = self.projection(z_BDF)
        return projected

    def codebook(self) -> Tensor:
        """The vectors of each group, (G, V, D / G)."""
        return self.embedding.transpose(0, 1).expand(self.groups, -1, -1)

    def code_indices(self, z_BDF: Tensor) -> Tensor:
        """The nearest codes, (B, F, G)."""
        return self._nearest(self.projected(z_BDF))

    @torch.no_grad()
    def _nearest(self, ze_BDF: Tensor) -> Tensor:
        """argmin |z - e| by way of |e|^2 - 2 z.e, which drops what all codes share."""
        ze_BGdF = ze_BDF.float().unflatten(1, (self.groups, -1))
        table_GVd = self.codebook().float()
        products_BGVF = torch.matmul(table_GVd, ze_BGdF)
        distances = table_GVd.square().sum(-1)[..., None] - 2 * products_BGVF
        return distances.argmin(2).permute(0, 2, 1)

    def vectors(self, codes_BFG: Tensor) -> Tensor:
        """The codes' vectors, groups side by side, (B, F, D)."""
        return code_vectors(self.codebook(), codes_BFG)

    def forward(self, z_BDF: Tensor) -> dict[str, Any]:
        ze_BDF = self.projected(z_BDF)
        if self.training and self.updates == self.quantize_after > 0:
            self._start_from(ze_BDF)
        codes_BFG = self._nearest(ze_BDF)
        if self.training and self.updates < self.quantize_after:
            return {
                "x": ze_BDF,
                "num_vars": self.codes,
                "code_perplexity": perplexity(code_shares(codes_BFG.flatten(0, 1), self.codes)),
                "kmeans_loss": 0 * self.embedding.sum(),
            }
        due = self.restart_every and self.updates % self.restart_every == 0
        if self.training and due and self.updates < self.restart_until:
            self._restart_dead(ze_BDF, codes_BFG)
            codes_BFG = self._nearest(ze_BDF)
        if self.training:
            self.last_inputs_BDF, self.last_codes_NG = z_BDF.detach(), codes_BFG.flatten(0, 1)
        zq_BDF = self.vectors(codes_BFG).transpose(1, 2)
        ze, zq = ze_BDF.float(), zq_BDF.float()
        latent, commitment = F.mse_loss(zq, ze.detach()), F.mse_loss(ze, zq.detach())
        return {
            "x": zq_BDF.detach() + (ze_BDF - ze_BDF.detach()),
            "num_vars": self.codes,
            "code_perplexity": perplexity(code_shares(codes_BFG.flatten(0, 1), self.codes)),
            "kmeans_loss": latent + self.gamma * commitment,
        }


@torch.no_grad()
def centres(points_Nd: Tensor, count: int, rounds: int = 10) -> Tensor:
    """`count` centres of the points by Lloyd's algorithm, (count, d), from random points.

    A centre that loses all its points stays where it is.
    """
    rows = torch.randint(len(points_Nd), (count,), device=points_Nd.device)
    if count <= len(points_Nd):
        rows = torch.randperm(len(points_Nd), device=points_Nd.device)[:count]
    found = points_Nd[rows].clone()
    for _ in range(rounds):
        distances = found.square().sum(1) - 2 * points_Nd @ found.T
        nearest = distances.argmin(1)
        sums = torch.zeros_like(found).index_add_(0, nearest, points_Nd)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        found = torch.where(sizes > 0, sums / sizes.clamp(min=1), found)
    return found


def code_vectors(codebook_GVd: Tensor, codes_xG: Tensor) -> Tensor:
    """Vectors of code indices (..., G), groups side by side: (..., D)."""
    groups, codes, _ = codebook_GVd.shape
    rows = codes_xG + codes * torch.arange(groups, device=codes_xG.device)
    return F.embedding(rows, codebook_GVd.reshape(groups * codes, -1)).flatten(-2)
