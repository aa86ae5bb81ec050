"""The codebook whose codes are drawn from logits. Shapes: N = B x F frames, G groups, V codes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.quantizer.codebook import Init, code_shares, perplexity

REHEATED = 100  # updates that the temperature takes to fall again after a repair


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

    def scores(self, z_BDF: Tensor) -> Tensor:
        """What the codes are chosen by, the larger the better, (B, F, G, V): the logits."""
        return self.logits(z_BDF).view(z_BDF.size(0), -1, self.groups, self.codes)

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
