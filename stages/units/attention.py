"""Utterances behind one another in one row, each of which sees itself alone.

All that a Transformer does but attention is done frame by frame, so a row of N frames of several
utterances needs no padding there. Within attention the row is cut into its utterances: what comes
out for one is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertForMaskedLM

NAME = "utterances_in_a_row"


@contextmanager
def packed(model: BertForMaskedLM) -> Iterator[None]:
    """Within it, the model takes rows of utterances, with `utterance_frames` beside them."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    utterance_frames: Sequence[int],
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention within utterances, as transformers calls it.

    Args:
        query, key, value: (1, heads, N, D) of a row.
        utterance_frames: of each utterance in it; they add up to N.

    Returns:
        (1, N, heads, D), and no weights.
    """
    within = _one_by_one if query.device.type == "cpu" else _padded
    return within(query, key, value, utterance_frames, dropout, scaling).transpose(1, 2), None


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    frames: Sequence[int],
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """A call per utterance: on a CPU nothing is computed in vain."""
    parts = (part.split(list(frames), dim=2) for part in (query, key, value))
    told = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(told, dim=2)


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    frames: Sequence[int],
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """One call for all utterances, padded: a GPU would wait for many small calls to be told."""
    lengths_B = torch.tensor(frames, device=query.device)
    real_BF = torch.arange(max(frames), device=query.device)[None] < lengths_B[:, None]
    places_N = real_BF.flatten().nonzero()[:, 0]

    def apart(row: Tensor) -> Tensor:
        _, heads, _, dim = row.shape
        padded = row.new_zeros(real_BF.numel(), heads, dim)
        padded = padded.index_copy(0, places_N, row[0].transpose(0, 1))
        return padded.view(*real_BF.shape, heads, dim).transpose(1, 2)

    attended = scaled_dot_product_attention(
        apart(query),
        apart(key),
        apart(value),
        attn_mask=real_BF[:, None, None, :],
        dropout_p=dropout,
        scale=scaling,
    )
    return attended.transpose(1, 2).flatten(0, 1)[places_N].transpose(0, 1)[None]


AttentionInterface.register(NAME, attend)
