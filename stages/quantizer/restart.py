"""Dead codes made alive again, on the frames of the last training batch.

Shapes: N frames, D features, G groups, V codes, d = D / G.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.quantizer.codebook import code_shares
from stages.quantizer.gumbel import GumbelCodebook
from stages.quantizer.kmeans import KmeansCodebook

WHITENED_FROM = 1e-2  # of the mean variance: weaker directions are mostly noise
# Standard deviation over the frames of what sets restarted Gumbel codes apart, in logits. On the
# demo's speech 4 and 11 left fewer codes in use: what the diversity loss sees was too steep.
SPREAD = 2.0
LEAST_MOVED = 4  # k-means: one code in so many is restarted at least


@torch.no_grad()
def restart(
    codebook: GumbelCodebook | KmeansCodebook,
    groups: Sequence[int],
    generator: torch.Generator,
) -> int:
    """Change codes that no frame of the batch chose so that some will; the others stay.

    k-means moves a quarter of each table at least, the least used codes: in a table that a
    healthy group shares with a collapsed one no code may be dead.

    Args:
        codebook: has seen a training batch (`last_inputs_BDF`, `last_codes_NG`).
        groups: those whose codes are restarted.
        generator: of the CPU; all that is random comes from it.

    Returns:
        How many codes were restarted, summed over the groups.
    """
    codes_NG = codebook.last_codes_NG
    assert codes_NG is not None
    if isinstance(codebook, KmeansCodebook):
        assert codebook.last_inputs_BDF is not None
        ze_BDF = codebook.projected(codebook.last_inputs_BDF)
        least = max(codebook.codes // LEAST_MOVED, 1)  # of 2 or more: the most used one stays
        return codebook.restart_rarest(ze_BDF, codes_NG, groups, least=least, generator=generator)
    dead_GV = code_shares(codes_NG, codebook.codes).cpu() == 0
    restarted = _restart_logits(codebook, dead_GV, groups, generator)
    _redraw_vectors(codebook, dead_GV, groups, generator)
    return restarted


def _restart_logits(
    codebook: GumbelCodebook, dead_GV: Tensor, groups: Sequence[int], generator: torch.Generator
) -> int:
    """Each dead code is split off the code that its group chooses most.

    Its logit becomes that code's plus a random direction of the whitened features, with a
    standard deviation of `SPREAD` over the frames: what raised the winner above all others
    raises the new code too, and the frames' differences decide between them. Without whitening
    the few strongest directions of speech would let few codes win.
    """
    assert codebook.last_codes_NG is not None
    layer, hidden_ND = _logit_layer(codebook)
    mean_D, whiten_DD = hidden_ND.mean(0), _whitening(hidden_ND)
    weight_GVD = layer.weight.view(codebook.groups, codebook.codes, -1)
    bias_GV = layer.bias.view(codebook.groups, codebook.codes)
    for group in groups:
        dead = dead_GV[group].nonzero().flatten()
        most = int(torch.bincount(codebook.last_codes_NG[:, group]).argmax())
        noise = torch.randn(len(dead), len(mean_D), generator=generator).to(mean_D.device)
        directions = noise @ whiten_DD
        spread = ((hidden_ND - mean_D) @ directions.T).std(0).clamp_min(1e-6)
        directions *= (SPREAD / spread)[:, None]
        weight_GVD[group, dead] = weight_GVD[group, most] + directions
        bias_GV[group, dead] = bias_GV[group, most] - directions @ mean_D
    return int(dead_GV[list(groups)].sum())


def _whitening(hidden_ND: Tensor) -> Tensor:
    """The inverse root of the features' covariance; directions below its floor count less."""
    values_D, vectors_DD = torch.linalg.eigh(torch.cov(hidden_ND.T).double())
    floor = WHITENED_FROM * float(values_D.mean()) + 1e-12
    scale_D = (values_D.clamp_min(0) + floor).rsqrt()
    root_DD: Tensor = vectors_DD * scale_D @ vectors_DD.T
    return root_DD.float()


def _redraw_vectors(
    codebook: GumbelCodebook, dead_GV: Tensor, groups: Sequence[int], generator: torch.Generator
) -> None:
    """The vectors that nobody chose, drawn anew with the mean and deviation of the table."""
    tables = codebook.vars[0].view(-1, codebook.codes, codebook.vars.size(-1))
    dead = [(group, dead_GV[group].nonzero().flatten()) for group in groups]
    if codebook.combine_groups:  # dead is what no group chose
        dead = [(0, dead_GV.all(0).nonzero().flatten())]
    for table, dead_X in dead:
        table_Vd = tables[table]
        fresh = torch.randn(len(dead_X), table_Vd.size(1), generator=generator).to(table_Vd.device)
        table_Vd[dead_X] = table_Vd.mean(0) + table_Vd.std() * fresh


def _logit_layer(codebook: GumbelCodebook) -> tuple[nn.Linear, Tensor]:
    """The layer that yields logits, and what the batch gave it, (N, D)."""
    assert codebook.last_inputs_BDF is not None
    hidden_ND = codebook.last_inputs_BDF.transpose(1, 2).flatten(0, 1)
    if codebook.input_norm is not None:
        hidden_ND = codebook.input_norm(hidden_ND)
    layer = codebook.weight_proj
    if isinstance(layer, nn.Sequential):
        hidden_ND, layer = layer[:-1](hidden_ND), layer[-1]
    assert isinstance(layer, nn.Linear)
    return layer, hidden_ND.float()
