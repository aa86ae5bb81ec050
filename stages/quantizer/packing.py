"""Utterances of a batch end to end in time, and where each one's frames lie in every layer.

Each starts at a multiple of the hop, so that its frames are whole rows of every layer; frames
that see two utterances are thrown away. So none is padded, and it matters not what the others are.
Shapes: B utterances, S samples of one, N samples of all, R rows (frames of all).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quantizer import geometry


@dataclass(frozen=True)
class Packed:
    """Utterances end to end: where each starts, at a multiple of the hop, and how long it is."""

    samples_N: Tensor
    starts: Sequence[int]
    lengths: Sequence[int]

    @classmethod
    def of(cls, utterances: Sequence[Tensor], hop: int) -> Packed:
        starts = [0]
        for samples_S in utterances:
            starts.append(starts[-1] + -(-len(samples_S) // hop) * hop)
        lengths = [len(samples_S) for samples_S in utterances]
        if len(utterances) == 1:
            return cls(utterances[0].float(), starts[:-1], lengths)
        packed_N = utterances[0].new_zeros(starts[-1], dtype=torch.float32)
        for start, samples_S in zip(starts, utterances, strict=False):
            packed_N[start : start + len(samples_S)] = samples_S
        return cls(packed_N, starts[:-1], lengths)

    def at(self, layers: Sequence[geometry.Layer]) -> Spans:
        """Where the utterances lie among the rows that `layers` make."""
        hop = geometry.hop(layers)
        return Spans(
            geometry.frames(layers, len(self.samples_N)),
            [start // hop for start in self.starts],
            [geometry.frames(layers, length) for length in self.lengths],
        )


@dataclass(frozen=True)
class Spans:
    """Rows of a layer: utterance b has `counts[b]` of them, from `starts[b]` on."""

    rows: int
    starts: Sequence[int]
    counts: Sequence[int]

    def within(self, first: int, last: int) -> Iterator[tuple[int, slice, slice]]:
        """The utterances of rows first to last: which, where in all rows, where in these."""
        ends = [*self.starts[1:], self.rows]
        for index, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            low, high = max(first, start), min(last, end)
            if low < high:
                yield index, slice(low, high), slice(low - first, high - first)

    def sums(self, of_rows_R: Tensor) -> Tensor:
        """Sums over each utterance's own rows, (B,), in double precision."""
        total = torch.nn.functional.pad(of_rows_R.double().cumsum(0), (1, 0))
        starts = torch.tensor(self.starts, device=total.device)
        return total[starts + torch.tensor(self.counts, device=total.device)] - total[starts]
