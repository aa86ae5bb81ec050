"""A convolution over time as matrix products, where frames are rows and channels are contiguous.

With kernel k and stride s it is ceil(k / s) products on the rows as they lie, without im2col: taps
j*s to j*s + s of all frames are the matrix (frames, s * channels) that starts j*s rows down.
Where the kernel is two strides (all layers of the paper that matter), three neighbouring frames
take four products in place of six.
Shapes: R rows (frames), K taps x channels, C channels, B utterances.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


class Workspace(threading.local):
    """Memory that is used again, since new pages cost more than the work on them.

    Every thread that uses it has its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: dict[str, Tensor] = {}

    def rows(self, name: str, rows: int, channels: int, dtype: torch.dtype) -> Tensor:
        """The memory called `name`, with whatever it holds from its last use."""
        there = self._held.get(name)
        if there is None or there.numel() < rows * channels or there.dtype != dtype:
            self._held[name] = torch.empty(rows * channels, dtype=dtype, device=self._device)
        return self._held[name][: rows * channels].view(rows, channels)

    def in_fp32(self, x_RC: Tensor) -> Tensor:
        """`x_RC`, or a copy where it is of another type."""
        if x_RC.dtype == torch.float32:
            return x_RC
        rows, channels = x_RC.shape
        return self.rows("in fp32", rows, channels, torch.float32).copy_(x_RC)


@dataclass(frozen=True)
class NormedConvolution:
    """One convolution with its norm; `weight_KC` is ready for products with rows.

    Attributes:
        thirds_KC: half the sum and half the difference of the kernel's halves, where frames
            are made by threes.
    """

    kernel: int
    stride: int
    weight_KC: Tensor
    thirds_KC: tuple[Tensor, Tensor] | None
    scale_C: Tensor
    shift_C: Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.Module, dtype: torch.dtype) -> NormedConvolution:
        convolution, _, norm, _ = cast(nn.Sequential, module)
        assert isinstance(convolution, nn.Conv1d) and isinstance(norm, nn.GroupNorm)
        weight_CIk = convolution.weight.detach()
        channels = len(weight_CIk)
        ones_C = weight_CIk.new_ones(channels, dtype=torch.float32)
        # Held as (C, K) and passed on transposed: bf16 products are 5 % faster so.
        weight_CK = weight_CIk.transpose(1, 2).reshape(channels, -1)
        kernel, stride = convolution.kernel_size[0], convolution.stride[0]
        thirds_KC = None
        # On a GPU the matrix units are so fast that the sums would cost more than they save.
        if kernel == 2 * stride and weight_CIk.device.type == "cpu":
            g, h = weight_CK.float().chunk(2, 1)
            thirds_KC = (((g + h) / 2).to(dtype).T, ((g - h) / 2).to(dtype).T)
        return cls(
            kernel,
            stride,
            weight_CK.to(dtype).contiguous().T,
            thirds_KC,
            ones_C if norm.weight is None else norm.weight.detach().float(),
            torch.zeros_like(ones_C) if norm.bias is None else norm.bias.detach().float(),
            norm.eps,
        )

    def affine(self, mean_B: Tensor, square_B: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and summand, (B, C) each, that normalise what has this mean and mean square."""
        variance_B = (square_B - mean_B.square()).clamp_min(0)
        factor_BC = (variance_B + self.eps).rsqrt()[:, None] * self.scale_C
        return factor_BC.float(), (self.shift_C - mean_B[:, None] * factor_BC).float()

    def convolve(self, x_RC: Tensor, out_RC: Tensor, memory: Workspace) -> None:
        """Rows in, rows out."""
        whole = 0 if self.thirds_KC is None else len(out_RC) // 3 * 3
        if whole:
            self._by_threes(x_RC, out_RC[:whole], memory)
        if whole < len(out_RC):
            self._directly(x_RC[whole * self.stride :], out_RC[whole:])

    def _directly(self, x_RC: Tensor, out_RC: Tensor) -> None:
        channels = x_RC.size(1)
        # In bf16 all taps at once, so that there is one rounding; the rows are copied for it.
        step = self.stride if x_RC.dtype == torch.float32 else self.kernel
        for tap in range(0, self.kernel, step):
            taps = min(step, self.kernel - tap)
            x_RK = windows(x_RC, len(out_RC), tap, taps, self.stride)
            weight_KC = self.weight_KC[tap * channels : (tap + taps) * channels]
            if tap:
                out_RC.addmm_(x_RK, weight_KC)
            else:
                torch.mm(x_RK, weight_KC, out=out_RC)

    def _by_threes(self, x_RC: Tensor, out_RC: Tensor, memory: Workspace) -> None:
        """Four products where six would do: Winograd's F(3, 2) on kernels of two strides.

        Three neighbouring frames see the strides a b, b c, c d; g and h are the kernel's halves.
        With p = (b + c)(g + h)/2 and q = (c - b)(g - h)/2 they are
        (a - c)g + p + q, p - q, and (d - b)h + p + q.
        """
        assert self.thirds_KC is not None
        threes, inner, dtype = len(out_RC) // 3, self.stride * x_RC.size(1), x_RC.dtype
        a, b, c, d = (
            windows(x_RC, threes, n * self.stride, self.stride, 3 * self.stride) for n in range(4)
        )
        mixed = memory.rows("mixed", threes, inner, dtype)
        p = memory.rows("p", threes, out_RC.size(1), dtype)
        q = memory.rows("q", threes, out_RC.size(1), dtype)
        torch.mm(torch.add(b, c, out=mixed), self.thirds_KC[0], out=p)
        torch.mm(torch.sub(c, b, out=mixed), self.thirds_KC[1], out=q)
        torch.sub(p, q, out=out_RC[1::3])
        p += q
        torch.addmm(p, torch.sub(a, c, out=mixed), self.weight_KC[:inner], out=out_RC[0::3])
        torch.addmm(p, torch.sub(d, b, out=mixed), self.weight_KC[inner:], out=out_RC[2::3])


def windows(x_RC: Tensor, count: int, first: int, taps: int, stride: int) -> Tensor:
    """Row n is rows n * stride + first and the `taps` - 1 after it, side by side; no copy."""
    channels = x_RC.size(1)
    start = x_RC.storage_offset() + first * channels
    return x_RC.as_strided((count, taps * channels), (stride * channels, 1), start)
