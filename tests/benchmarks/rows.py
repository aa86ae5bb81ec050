"""What a benchmark yields: two sides measured in one process, and how many times better ours is."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        ours, peer: the two figures, in `unit`.
        ratio: how many times better ours is.
        conditions: what was measured, on what.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    conditions: str

    def told(self) -> dict[str, Any]:
        return asdict(self)


def lower_is_better(name: str, ours: float, peer: float, unit: str, conditions: str) -> Row:
    """A row of times or of memory."""
    return Row(name, ours, peer, peer / ours, unit, conditions)


def higher_is_better(name: str, ours: float, peer: float, unit: str, conditions: str) -> Row:
    """A row of rates."""
    return Row(name, ours, peer, ours / peer, unit, conditions)


def seconds_in_turn(
    sides: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, float]:
    """The median seconds of a call of each side; the sides take turns, so that drift hits all."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for count in range(warm_up + rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if count >= warm_up:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def devices() -> list[str]:
    """What a benchmark measures on: the CPU always, a GPU where there is one."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def named(name: str, device: str) -> str:
    """The name of a row measured on `device`."""
    return name if device == "cpu" else f"{name}_gpu"


def until_done(side: Callable[[], object], device: str) -> Callable[[], object]:
    """`side`, but it returns when the device has done the work and not when it has the order."""
    import torch

    if device == "cpu":
        return side

    def call() -> None:
        side()
        torch.cuda.synchronize()

    return call


def machine(device: str = "cpu") -> str:
    """What was measured on: the processor with what torch may use of it, or the GPU."""
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()}"
    return f"{_processor()}, {threads}, torch {torch.__version__}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.machine()
