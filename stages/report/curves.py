"""The curve of a training as a line of a chart, from the history that its step left."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.report.charts import Chart, Line, Point, Rule
from stages.report.collect import Piece, Source
from stages.report.scales import linear, thinned, updates

POINTS = 120  # of a line; more are not seen

Record = Mapping[str, Any]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of an artifact; an empty one where the artifact has no such file."""
    if not path.is_file():
        return {}
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return told


def so_far(piece: Piece) -> list[dict[str, float]]:
    """What a training that was interrupted, or is at work, has logged to TensorBoard."""
    if piece.curves is None:
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(piece.curves), size_guidance={"scalars": 0})
    events.Reload()
    records: dict[int, dict[str, float]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            record = records.setdefault(event.step, {"update": float(event.step)})
            record[tag.rpartition("/")[2]] = event.value
    return [records[step] for step in sorted(records)]


def points(history: Sequence[Record], figure: str, factor: float = 1.0) -> list[Point]:
    """(update, figure) of the records that have it, thinned."""
    known = [
        (float(r["update"]), factor * float(r[figure]))
        for r in history
        if r.get(figure) is not None and math.isfinite(r[figure])
    ]
    return thinned(known, POINTS)


def chart(
    title: str,
    y_label: str,
    lines: Sequence[Line],
    rules: Sequence[Rule] = (),
    low: float | None = None,
    moments: Sequence[float] = (),
) -> Chart | None:
    """A chart over updates; None where no line has a point.

    Args:
        low: the lowest value of the axis; that of the lines if not given.
        moments: updates to mark.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None
    values = [y for line in drawn for _, y in line.points] + [rule.value for rule in rules]
    last = max(x for line in drawn for x, _ in line.points)
    told = "; ".join(f"{line.name}: {line.points[-1][1]:.4g}" for line in drawn[:12])
    return Chart(
        title=title,
        told=f"{title} over {last:,.0f} updates. At the end {told}.",
        x_label="updates",
        y_label=y_label,
        x=updates(last),
        y=linear(min(values) if low is None else low, max(values), 5),
        lines=drawn,
        rules=rules,
        moments=moments,
        legend=len(drawn) > 1,
    )


def at_work(sources: Iterable[Source], stage: str) -> list[tuple[str, list[dict[str, float]]]]:
    """The names and records of those trainings of a stage that are not finished."""
    found = []
    for source in sources:
        for piece in source.unfinished:
            if piece.stage == stage and piece.state == "interrupted" and (told := so_far(piece)):
                found.append((f"{source.name} {piece.label}".rstrip() + ", not finished", told))
    return found


def by_folder(sources: Iterable[Source], stage: str) -> list[tuple[str, Piece]]:
    """The finished steps of a stage, each artifact once, with the names of whose it is."""
    found: dict[Path, tuple[list[str], Piece]] = {}
    for source in sources:
        for piece in source.done(stage):
            assert piece.folder is not None  # it is done
            names, _ = found.setdefault(piece.folder.resolve(), ([], piece))
            names.append(f"{source.name} {piece.label}".rstrip())
    return [(", ".join(dict.fromkeys(names)), piece) for names, piece in found.values()]
