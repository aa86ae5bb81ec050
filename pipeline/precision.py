"""Which of fp32 and bf16 a training or an inference computes in."""

from __future__ import annotations

from typing import Literal

import torch


def chosen_precision(precision: str, device: str) -> Literal["fp32", "bf16"]:
    """What `auto` stands for there: bf16 on GPUs and processors (AVX512-BF16, AMX) that have it."""
    if precision == "auto":
        if device == "cuda":
            fits = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fits = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16" if fits else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def autocast(precision: str, device: str) -> torch.autocast:
    """bf16 matrix products where `precision` asks for them; sums and norms stay in fp32."""
    enabled = chosen_precision(precision, device) == "bf16"
    return torch.autocast(device, torch.bfloat16, enabled=enabled)
