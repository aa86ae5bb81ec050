"""The encoder's forward pass on packed utterances, without autograd: the modules' result, cheaper.

- Frames are rows, and convolutions are matrix products: stages/quantizer/row_convolution.py.
- The first layer's norm needs no first layer: sums over its output follow from the sums of
  x and of x xT over the windows x of samples (10 x 10 numbers). So the norm is folded into the
  weights, and that output, two thirds of all activations, is made in pieces that fit the cache.
- Later layers are normalised and activated piece by piece where the next one reads them.

Shapes: R rows (frames of all utterances), K taps x channels, C channels, B utterances.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stages.quantizer import geometry
from stages.quantizer.encoder import Encoder
from stages.quantizer.packing import Packed, Spans
from stages.quantizer.row_convolution import NormedConvolution, Workspace

ROWS_ON_CPU = 510  # made at once; a multiple of three
ROWS_ON_GPU = 1 << 16


class _Rows(Protocol):
    """A layer's normalised output in fp32, before its activation, made where it is asked for."""

    spans: Spans

    def between(self, first: int, last: int) -> Tensor:
        """Rows first to last; the next call overwrites them."""
        ...


class _FirstRows:
    """The first layer: one product with the windows of samples, its norm inside the weights."""

    def __init__(
        self, layer: NormedConvolution, packed: Packed, spans: Spans, memory: Workspace
    ) -> None:
        self.spans, self._memory = spans, memory
        self._windows_RK = packed.samples_N.unfold(0, layer.kernel, layer.stride)
        weight_KC = layer.weight_KC.double()
        gram_KK, columns_K = weight_KC @ weight_KC.T, weight_KC.sum(1)
        mean, square = [], []
        for start, count in zip(spans.starts, spans.counts, strict=True):
            own_RK = self._windows_RK[start : start + count].double()
            mean.append(own_RK.sum(0) @ columns_K / (count * weight_KC.size(1)))
            square.append(((own_RK.T @ own_RK) * gram_KK).sum() / (count * weight_KC.size(1)))
        factor_BC, self._shift_BC = layer.affine(torch.stack(mean), torch.stack(square))
        self._weight_BKC = layer.weight_KC * factor_BC[:, None]

    def between(self, first: int, last: int) -> Tensor:
        channels = self._shift_BC.size(1)
        made_RC = self._memory.rows("first", last - first, channels, torch.float32)
        for index, there, here in self.spans.within(first, last):
            own_RK, weight_KC = self._windows_RK[there], self._weight_BKC[index]
            torch.addmm(self._shift_BC[index], own_RK, weight_KC, out=made_RC[here])
        return made_RC


class _LaterRows:
    """A later layer: convolved at once, with the sums for its norm; normalised when read.

    Args:
        before: activated rows of the layer before, first to last, in the products' type.
        place: names its memory; layers that are needed at the same time have different ones.
        pool: threads to make pieces in; None: this one.
    """

    def __init__(
        self,
        layer: NormedConvolution,
        before: _Activated,
        spans: Spans,
        memory: Workspace,
        place: str,
        pool: Executor | None,
    ) -> None:
        self.spans, self._memory, self._place = spans, memory, place
        self._layer, self._before = layer, before
        dtype, channels = layer.weight_KC.dtype, layer.weight_KC.size(1)
        self._raw_RC = memory.rows(f"{place} raw", spans.rows, channels, dtype)
        self._sums_R, self._squares_R = memory.rows("sums", 2, spans.rows, torch.float32)
        self._step = ROWS_ON_GPU if self._raw_RC.is_cuda else ROWS_ON_CPU
        for _ in (pool.map if pool else map)(self._make, range(0, spans.rows, self._step)):
            pass  # an error comes out where its result is asked for
        values_B = torch.tensor(spans.counts, device=self._raw_RC.device) * channels
        self._factor_BC, self._shift_BC = layer.affine(
            spans.sums(self._sums_R) / values_B, spans.sums(self._squares_R) / values_B
        )

    @torch.inference_mode()
    def _make(self, first: int) -> None:
        """Convolve the piece from row `first` on, and sum over the channels of its rows."""
        stride, kernel = self._layer.stride, self._layer.kernel
        made_RC = self._raw_RC[first : first + self._step]
        last = first + len(made_RC)
        x_RC = self._before(first * stride, (last - 1) * stride + kernel)
        self._layer.convolve(x_RC, made_RC, self._memory)
        exact_RC = self._memory.in_fp32(made_RC)
        torch.sum(exact_RC, 1, out=self._sums_R[first:last])
        torch.linalg.vector_norm(exact_RC, dim=1, out=self._squares_R[first:last]).square_()

    def between(self, first: int, last: int) -> Tensor:
        channels = self._shift_BC.size(1)
        made_RC = self._memory.rows(self._place, last - first, channels, torch.float32)
        for index, there, here in self.spans.within(first, last):
            shift_C, factor_C = self._shift_BC[index], self._factor_BC[index]
            raw_RC = self._memory.in_fp32(self._raw_RC[there])
            torch.addcmul(shift_C, raw_RC, factor_C, out=made_RC[here])
        return made_RC


@dataclass(frozen=True)
class _Activated:
    """Rows after their activation, in the type that the next product wants."""

    rows: _Rows
    relu: bool
    dtype: torch.dtype
    memory: Workspace

    def __call__(self, first: int, last: int) -> Tensor:
        activate = torch.ops.aten.relu_ if self.relu else torch.ops.aten.gelu_
        made_RC: Tensor = activate(self.rows.between(first, last))
        if self.dtype == torch.float32:
            return made_RC
        rows, channels = made_RC.shape
        return self.memory.rows("rounded", rows, channels, self.dtype).copy_(made_RC)


class FastEncoder:
    """The encoder's forward pass over packed utterances.

    Args:
        dtype: of the products; norms, activations and the result are fp32 whatever it is.
    """

    def __init__(
        self, encoder: Encoder, layers: Sequence[geometry.Layer], relu: bool, dtype: torch.dtype
    ) -> None:
        self._layers, self._relu, self._dtype = list(layers), relu, dtype
        first, *later = encoder.conv_layers
        # A window has some ten samples: rounding them would cost digits and win no time.
        self._first = NormedConvolution.of(first, torch.float32)
        self._later = [NormedConvolution.of(module, dtype) for module in later]
        self._log_compression = encoder.log_compression
        self._memory = Workspace(self._first.weight_KC.device)

    @torch.inference_mode()
    def __call__(self, utterances: Sequence[Tensor], pool: Executor | None = None) -> list[Tensor]:
        """Features (F, D) in fp32 of utterances (S,), each with at least one frame.

        Args:
            pool: threads that share the work; None: this one does it.
        """
        packed = Packed.of(utterances, geometry.hop(self._layers))
        memory, spans = self._memory, packed.at(self._layers[:1])
        rows: _Rows = _FirstRows(self._first, packed, spans, memory)
        for count, layer in enumerate(self._later, start=2):
            spans = packed.at(self._layers[:count])
            before = _Activated(rows, self._relu, self._dtype, memory)
            rows = _LaterRows(layer, before, spans, memory, f"layer {count % 2}", pool)
        z_RD = _Activated(rows, self._relu, torch.float32, memory)(0, spans.rows).clone()
        if self._log_compression:
            z_RD.abs_().log1p_()
        return [z_RD[s : s + n] for s, n in zip(spans.starts, spans.counts, strict=True)]
