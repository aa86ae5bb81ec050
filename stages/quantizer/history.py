"""The curve of a training: figures over windows of updates, the same after a kill and a resume.

A window's record holds means of the updates' figures and, for a model with a codebook, what
`health.report` finds among all codes that the window's batches chose (thousands of frames,
where one batch has too few to tell a dead code from a rare one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stages.quantizer import health

WINDOW_UPDATES = 25
AS_IT_STANDS = ("temperature", "learning_rate", "diversity_weight")  # not the mean: the last

Record = dict[str, float]


class History:
    """Collects one set of figures per update; its state travels inside of the checkpoints.

    Args:
        codes: per group; 0 where there is no codebook.
    """

    def __init__(self, codes: int = 0) -> None:
        self.codes = codes
        self._records: list[Record] = []
        self._open: list[Record] = []
        self._units: list[Tensor] = []  # (N, G) int16 of each update of the open window

    def add(self, update: int, figures: Record, codes_NG: Tensor | None = None) -> Record | None:
        """The figures of one update; returns the window's record when it completes one.

        Args:
            codes_NG: the codes that the update's frames chose.
        """
        self._open.append({"update": update, **figures})
        if codes_NG is not None:
            self._units.append(codes_NG.to("cpu", torch.int16))
        if update % WINDOW_UPDATES:
            return None
        self._records.append(self._window())
        self._open, self._units = [], []
        return self._records[-1]

    def records(self) -> list[Record]:
        """All windows in order, the last one perhaps shorter."""
        return [*self._records, *([self._window()] if self._open else [])]

    def _window(self) -> Record:
        record = _mean(self._open)
        if self._units:
            record |= flat(health.report(torch.cat(self._units).numpy(), self.codes))
        return record

    def state(self) -> dict[str, Any]:
        units = torch.cat(self._units) if self._units else None
        return {"records": list(self._records), "open": list(self._open), "units": units}

    def restore(self, state: dict[str, Any]) -> None:
        self._records, self._open = list(state["records"]), list(state["open"])
        self._units = [] if state["units"] is None else [state["units"]]


def _mean(window: list[Record]) -> Record:
    record: Record = {"update": window[-1]["update"]}
    for name in window[-1]:
        if name in AS_IT_STANDS:
            record[name] = float(f"{window[-1][name]:.6g}")
        elif name != "update":
            record[name] = round(sum(figures[name] for figures in window) / len(window), 6)
    return record


def flat(report: dict[str, Any]) -> Record:
    """A codebook report as one figure a name: `perplexity_0` is group 0's."""
    record: Record = {}
    for number, group in enumerate(report["groups"]):
        record[f"perplexity_{number}"] = group["perplexity"]
        record[f"codes_in_use_{number}"] = group["codes_in_use"]
        record[f"dead_codes_{number}"] = len(group["dead_codes"])
    return record | {"pairs_in_use": report["pairs_in_use"]}


def by_group(record: Record, name: str) -> list[float]:
    """The figure `name` of each group, in order."""
    found: list[float] = []
    while (key := f"{name}_{len(found)}") in record:
        found.append(record[key])
    return found


def in_words(record: Record) -> str:
    """A window in a line of the log."""
    told = [f"update {record['update']:.0f}: loss {record['loss_bits']:.3f} bits"]
    for name, form in (("perplexity", ".1f"), ("codes_in_use", "d"), ("dead_codes", "d")):
        if values := by_group(record, name):
            listed = " and ".join(format(value, form) for value in values)
            told.append(f"{name.replace('_', ' ')} {listed}")
    if "pairs_in_use" in record:
        told.append(f"{record['pairs_in_use']} pairs in use")
    if "temperature" in record:
        told.append(f"temperature {record['temperature']:.2f}")
    return ", ".join(told)


def columns(records: Sequence[Record], most: int = 200) -> dict[str, Any]:
    """What the records tell of the codebook, a list per name, thinned to about `most` windows.

    A figure that each group has is a list per group; None where the window had no codes (k-means
    before it begins).
    """
    step = -(-len(records) // most) or 1
    kept = [*records[:-1:step], *records[-1:]]
    table: dict[str, Any] = {"update": [record["update"] for record in kept]}
    for name in ("perplexity", "codes_in_use", "dead_codes"):
        rows: list[list[float] | list[None]] = [by_group(record, name) for record in kept]
        groups = max(map(len, rows), default=0)
        padded = [row or [None] * groups for row in rows]
        table[name] = [list(column) for column in zip(*padded, strict=True)]
    for name in ("pairs_in_use", "loss_bits", "temperature", "diversity_weight"):
        if any(name in record for record in kept):
            table[name] = [record.get(name) for record in kept]
    return table
