"""From values to places on a chart, and where its ticks lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

MINUTE, HOUR = 60.0, 3600.0
# Lengths of speech that people speak of, in seconds.
ROUND_SECONDS = [
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0),
    *(n * MINUTE for n in (1, 2, 5, 10, 20, 30)),
    *(n * 10**power * HOUR for power in range(5) for n in (1, 2, 5)),
]
COARSE_SECONDS = [1.0, 10.0, MINUTE, 10 * MINUTE, *(10**power * HOUR for power in range(5))]


@dataclass(frozen=True)
class Tick:
    """A value with its label."""

    value: float
    label: str


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, on a logarithm where `log`."""

    low: float
    high: float
    ticks: Sequence[Tick]
    log: bool = False

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`; what lies beyond is put at the edge."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear(low: float, high: float, most: int = 6) -> Scale:
    """A scale around [low, high] whose ends and ticks are round numbers."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / (most - 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = next(d for d in range(20) if abs(step * 10**d - round(step * 10**d)) < 1e-6)
    ticks = [Tick(n * step, f"{n * step:,.{digits}f}") for n in range(first, last + 1)]
    return Scale(ticks[0].value, ticks[-1].value, ticks)


def updates(last: float, most: int = 5) -> Scale:
    """A scale from 0 to exactly the last update."""
    rounded = linear(0.0, max(last, 1.0), most)
    inside = [t for t in rounded.ticks if t.value <= max(last, 1.0)]
    return Scale(0.0, max(last, 1.0), inside)


def speech(seconds: Sequence[float], most: int = 5) -> Scale:
    """A logarithmic scale over lengths of speech, with ticks such as `10 min` and `1 h`."""
    known = [s for s in seconds if s > 0] or [MINUTE]
    low, high = min(known) / 1.3, max(known) * 1.3
    if high / low < 4:  # a single budget: ticks on both sides
        low, high = low / 2, high * 2
    apart = math.log(high / low) / most
    ticks: list[Tick] = []
    coarse = [value for value in COARSE_SECONDS if low <= value <= high]
    for value in coarse if len(coarse) > 2 else ROUND_SECONDS:
        if low <= value <= high and not (ticks and math.log(value / ticks[-1].value) < apart):
            ticks.append(Tick(value, _spoken(value)))
    return Scale(low, high, ticks, log=True)


def _spoken(seconds: float) -> str:
    for unit, name in ((HOUR, "h"), (MINUTE, "min"), (1.0, "s")):
        if seconds >= unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:g} s"


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is no smaller than `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough * (1 - 1e-9))


def thinned(values: Sequence[T], most: int) -> list[T]:
    """About `most` of the values, evenly spread, the last among them."""
    step = -(-len(values) // most) or 1
    return [*values[:-1:step], *values[-1:]]
