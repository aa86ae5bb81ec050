"""The curve of a training: means over windows of updates, the same after a kill and a resume."""

from __future__ import annotations

from typing import Any

WINDOW_UPDATES = 25
AS_IT_STANDS = ("temperature", "learning_rate")  # of the window's last update, not the mean

Record = dict[str, float]


class History:
    """Collects one set of figures per update; its state travels inside of the checkpoints."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._open: list[Record] = []

    def add(self, update: int, figures: Record) -> Record | None:
        """The figures of one update; returns the window's record when it completes one."""
        self._open.append({"update": update, **figures})
        if update % WINDOW_UPDATES:
            return None
        self._records.append(_mean(self._open))
        self._open = []
        return self._records[-1]

    def records(self) -> list[Record]:
        """All windows in order, the last one perhaps shorter."""
        return [*self._records, *([_mean(self._open)] if self._open else [])]

    def state(self) -> dict[str, Any]:
        return {"records": list(self._records), "open": list(self._open)}

    def restore(self, state: dict[str, Any]) -> None:
        self._records, self._open = list(state["records"]), list(state["open"])


def _mean(window: list[Record]) -> Record:
    record: Record = {"update": window[-1]["update"]}
    for name in window[-1]:
        if name in AS_IT_STANDS:
            record[name] = float(f"{window[-1][name]:.6g}")
        elif name != "update":
            record[name] = round(sum(figures[name] for figures in window) / len(window), 6)
    return record
