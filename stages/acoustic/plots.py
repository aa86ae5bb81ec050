"""WER over hours of labels, as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # drawn by Agg, without a display

from pipeline.store import write_atomically

Row = Mapping[str, Any]
MARKERS = "osD^vP*X"


def wer_over_hours(rows: Sequence[Row], path: Path) -> None:
    """Draw WER with its intervals over hours of labels, a line per system, a panel per test set.

    A system is a recipe and a decoder; of several seeds the mean is joined by the line.
    """
    test_sets = list(dict.fromkeys(row["test_set"] for row in rows))
    recipes = {row["recipe"] for row in rows}
    panels = max(len(test_sets), 1)
    figure = Figure(figsize=(5.2 * panels + 0.8, 4.2), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axis, test_set in zip(axes, test_sets, strict=False):
        mine = [row for row in rows if row["test_set"] == test_set]
        for number, (name, system) in enumerate(_systems(mine, len(recipes) > 1)):
            _line(axis, name, system, number)
        _label(axis, mine)
        axis.set_title(f"{', '.join(sorted(recipes))}: {test_set}", fontsize=10)
    axes[0].set_ylabel("word error rate, %")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def _systems(rows: Sequence[Row], with_recipe: bool) -> Iterable[tuple[str, list[Row]]]:
    for recipe, decoder in dict.fromkeys((r["recipe"], r["decoder"]) for r in rows):
        mine = [r for r in rows if (r["recipe"], r["decoder"]) == (recipe, decoder)]
        yield f"{recipe} {decoder}" if with_recipe else decoder, mine


def _line(axis: Axes, name: str, rows: Sequence[Row], number: int) -> None:
    """One system: a point with its interval per row, and a line through the means."""
    color, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
    nudge = 1 + 0.02 * number  # so that intervals of several systems do not hide each other
    hours = [nudge * row["budget_seconds"] / 3600 for row in rows]
    wer = [100 * row["wer"] for row in rows]
    below = [max(100 * (row["wer"] - row["wer_low"]), 0.0) for row in rows]
    above = [max(100 * (row["wer_high"] - row["wer"]), 0.0) for row in rows]
    axis.errorbar(hours, wer, [below, above], fmt=marker, color=color, capsize=3, markersize=5)
    at = sorted(set(hours))
    means = []
    for hour in at:
        there = [w for h, w in zip(hours, wer, strict=True) if h == hour]
        means.append(sum(there) / len(there))
    axis.plot(at, means, color=color, marker=marker, markersize=5, label=name)


def _label(axis: Axes, rows: Sequence[Row]) -> None:
    budgets = {row["budget_seconds"] / 3600: row["budget"] for row in rows}
    axis.set_xscale("log")
    ticks = sorted(budgets)
    names = [f"{budgets[h]}\n{h:.2g} h" for h in ticks]
    axis.set_xticks(ticks, names)
    axis.minorticks_off()
    axis.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
    axis.set_ylim(0, max(105.0 * row["wer_high"] for row in rows) or 1.0)
    axis.set_xlabel("labelled speech (hours, log axis)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
