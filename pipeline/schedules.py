"""Scales of the learning rate over the updates of a training."""

from __future__ import annotations

from collections.abc import Callable


def linear_schedule(updates: int, warmup: int) -> Callable[[int], float]:
    """Scale of the learning rate: up over `warmup` updates, then down to 0 at the end."""

    def scale(update: int) -> float:
        if update < warmup:
            return (update + 1) / warmup
        return max(updates - update, 1) / max(updates - warmup, 1)

    return scale


def tri_stage_schedule(
    updates: int, phases: tuple[float, float, float], final_scale: float
) -> Callable[[int], float]:
    """Warm-up from 1 %, hold, exponential decay to `final_scale` (wav2vec 2.0 fine-tuning)."""
    warmup, hold = round(updates * phases[0]), round(updates * phases[1])
    decay = max(updates - warmup - hold, 1)

    def scale(update: int) -> float:
        if update < warmup:
            return 0.01 + 0.99 * update / warmup
        if update < warmup + hold:
            return 1.0
        return float(final_scale ** ((update - warmup - hold) / decay))

    return scale
