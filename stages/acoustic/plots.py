"""WER over hours of labels, as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # drawn by Agg, without a display

from pipeline.store import write_atomically
from stages.acoustic.results import Results, Row
from stages.acoustic.summary import System, summarise, systems

MARKERS = "osD^vP*X"


def wer_over_hours(results: Sequence[Results], path: Path) -> None:
    """Draw WER with its intervals over hours of labels, a line per system, a panel per test set.

    A system is a recipe and a decoder. Its line joins what seeds and folds come to together; each
    of them is a faint point.
    """
    rows = [row for each in results for row in each.rows]
    scored = systems(results)
    test_sets = list(dict.fromkeys(row["test_set"] for row in rows))
    recipes = {row["recipe"] for row in rows}
    panels = max(len(test_sets), 1)
    figure = Figure(figsize=(5.2 * panels + 0.8, 4.2), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axis, test_set in zip(axes, test_sets, strict=False):
        mine = [system for system in scored if system.first["test_set"] == test_set]
        for number, (name, line) in enumerate(_lines(mine, len(recipes) > 1)):
            _line(axis, name, line, number)
        _label(axis, [summarise(system) for system in mine])
        axis.set_title(f"{', '.join(sorted(recipes))}: {test_set}", fontsize=10)
    axes[0].set_ylabel("word error rate, %")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def _lines(scored: Sequence[System], with_recipe: bool) -> Iterable[tuple[str, Sequence[System]]]:
    names = dict.fromkeys((s.first["recipe"], s.first["decoder"]) for s in scored)
    for recipe, decoder in names:
        mine = [s for s in scored if (s.first["recipe"], s.first["decoder"]) == (recipe, decoder)]
        yield f"{recipe} {decoder}" if with_recipe else decoder, mine


def _line(axis: Axes, name: str, scored: Sequence[System], number: int) -> None:
    """One line: a point with its interval per budget, and faint ones where there are several."""
    color, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
    nudge = 1 + 0.02 * number  # so that intervals of several systems do not hide each other
    told = [summarise(system) for system in scored]
    hours = [nudge * row["budget_seconds"] / 3600 for row in told]
    wer = [100 * row["wer"] for row in told]
    bars = [_reach(row, "wer_low") for row in told], [_reach(row, "wer_high") for row in told]
    axis.errorbar(hours, wer, bars, color=color, marker=marker, markersize=5, capsize=3, label=name)
    for hour, system in zip(hours, scored, strict=True):
        if len(system.rows) > 1:
            each = [100 * row["wer"] for row in system.rows]
            axis.plot([hour] * len(each), each, ".", color=color, alpha=0.4, markersize=5)


def _reach(row: Row, end: str) -> float:
    """How far the interval reaches from the rate, in per cent; 0 where there is none."""
    return 0.0 if row[end] is None else abs(100 * (row[end] - row["wer"]))


def _label(axis: Axes, rows: Sequence[Row]) -> None:
    budgets = {row["budget_seconds"] / 3600: row["budget"] for row in rows}
    axis.set_xscale("log")
    ticks = sorted(budgets)
    names = [f"{budgets[h]}\n{h:.2g} h" for h in ticks]
    axis.set_xticks(ticks, names)
    axis.minorticks_off()
    axis.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
    highest = max(axis.get_ylim()[1], *(105.0 * (row["wer_high"] or 0) for row in rows))
    axis.set_ylim(0, highest or 1.0)
    axis.set_xlabel("labelled speech (hours, log axis)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
