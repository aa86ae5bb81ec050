"""The codebook whose codes are the nearest ones. Shapes: N = B x F frames, G groups, V codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.quantizer.codebook import Init, code_shares, code_vectors, perplexity
from stages.quantizer.encoder import TimeGroupNorm


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
    def restart_rarest(
        self,
        ze_BDF: Tensor,
        codes_NG: Tensor,
        groups: Sequence[int],
        *,
        least: int = 0,
        generator: torch.Generator | None = None,
    ) -> int:
        """Move each code that no frame of the batch chose onto a frame of the batch.

        A code far from all speech gets no gradient and would stay there for good.

        Args:
            groups: whose frames the codes move onto. One shared table serves all groups: in it
                only a code that no group chose is dead.
            least: codes of each table to move, the least used ones, where fewer are dead.

        Returns:
            How many codes moved.
        """
        frames_NGd = self.frames(ze_BDF)
        shares_GV = code_shares(codes_NG, self.codes)
        tables = [(group, [group], shares_GV[group]) for group in groups]
        if self.combine_groups:
            tables = [(0, list(groups), shares_GV.sum(0))]
        moved = 0
        for table, among, shares_V in tables:
            count = max(int((shares_V == 0).sum()), least)
            rarest = shares_V.argsort(stable=True)[:count]
            pool_Nd = frames_NGd[:, among].flatten(0, 1)
            device = pool_Nd.device if generator is None else generator.device
            rows = torch.randint(len(pool_Nd), (count,), generator=generator, device=device)
            self.embedding[rarest, table] = pool_Nd[rows].to(self.embedding.dtype)
            moved += count
        return moved

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

    def scores(self, z_BDF: Tensor) -> Tensor:
        """What the codes are chosen by, the larger the better, (B, F, G, V)."""
        return self._scores(self.projected(z_BDF)).permute(0, 3, 1, 2)

    def _scores(self, ze_BDF: Tensor) -> Tensor:
        """2 z.e - |e|^2, (B, G, V, F), which orders codes as -|z - e|^2 does."""
        ze_BGdF = ze_BDF.float().unflatten(1, (self.groups, -1))
        table_GVd = self.codebook().float()
        products_BGVF = torch.matmul(table_GVd, ze_BGdF)
        return 2 * products_BGVF - table_GVd.square().sum(-1)[..., None]

    @torch.no_grad()
    def _nearest(self, ze_BDF: Tensor) -> Tensor:
        return self._scores(ze_BDF).argmax(2).permute(0, 2, 1)

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
            self.restart_rarest(ze_BDF, codes_BFG.flatten(0, 1), range(self.groups))
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
