"""Charts as SVG: lines with bands, points with their intervals, reference lines.

A chart is drawn for a width of 400 units and stretched to its column, so that its text keeps a
readable size in a narrow window. Colours are classes of the page's style sheet, which knows light
and dark; what is told by colour is told by a marker or a dash as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.scales import Scale
from stages.report.template import environment

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 46
COLOURS = 10
# Paths around (0, 0), of about the same weight to the eye.
MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "M-3.7 -3.7H3.7V3.7H-3.7Z",
    "M0 -5L4.7 3.4H-4.7Z",
    "M0 -5.2L5.2 0L0 5.2L-5.2 0Z",
    "M0 5L4.7 -3.4H-4.7Z",
    "M-1.7 -5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "M-4.5 -2.6L0 -5.2L4.5 -2.6V2.6L0 5.2L-4.5 2.6Z",
    "M0 -5.6L1.5 -1.6L5.6 -1.5L2.4 1L3.5 5L0 2.7L-3.5 5L-2.4 1L-5.6 -1.5L-1.5 -1.6Z",
)
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2")

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A value with its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        style: number of its colour, and of its marker (where there are marks) or dash.
        points: what the line joins.
        marks: single values; none for the curve of a training.
        band: (x, low, high) in order of x.
        faint: single results that a mark stands for.
    """

    name: str
    style: int
    points: Sequence[Point]
    marks: Sequence[Mark] = ()
    band: Sequence[tuple[float, float, float]] = ()
    faint: Sequence[Point] = ()

    @property
    def colour(self) -> int:
        return self.style % COLOURS

    @property
    def marker(self) -> str:
        return MARKERS[self.style % len(MARKERS)] if self.marks else ""

    @property
    def dash(self) -> str:
        return "" if self.marks else DASHES[self.style % len(DASHES)]


@dataclass(frozen=True)
class Rule:
    """A horizontal line at a value that others are to be seen beside, such as chance."""

    value: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart of lines over x.

    Attributes:
        told: what it shows in a sentence or two, for those who do not see it.
        moments: places on x that are marked by a vertical line.
    """

    title: str
    told: str
    x_label: str
    y_label: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    rules: Sequence[Rule] = ()
    moments: Sequence[float] = ()
    legend: bool = True


@dataclass(frozen=True)
class _Drawn:
    """A line as SVG: the paths of its band and of itself, and of each mark."""

    line: Line
    path: str
    band: str
    bars: str
    marks: Sequence[Point]
    faint: Sequence[Point]
    alone: Sequence[Point]


def svg(chart: Chart, name: str) -> Markup:
    """The chart as an `<svg>` element.

    Args:
        name: an id that nothing else on the page has.
    """
    box = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT}
    box |= {"top": TOP, "bottom": HEIGHT - BOTTOM}
    template = environment().get_template("chart.svg")
    text = template.render(
        chart=chart,
        name=name,
        box=box,
        lines=[_drawn(chart, line) for line in chart.lines],
        x_ticks=[(_x(chart, t.value), t.label) for t in chart.x.ticks],
        y_ticks=[(_y(chart, t.value), t.label) for t in chart.y.ticks],
        moments=[_x(chart, value) for value in chart.moments],
        rules=[(_y(chart, rule.value), rule.label) for rule in chart.rules],
    )
    return Markup(text)  # of a template that escapes


def _x(chart: Chart, value: float) -> float:
    return round(LEFT + chart.x.place(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(chart: Chart, value: float) -> float:
    return round(HEIGHT - BOTTOM - chart.y.place(value) * (HEIGHT - TOP - BOTTOM), 1)


def _drawn(chart: Chart, line: Line) -> _Drawn:
    upper = [(x, high) for x, _, high in line.band]
    lower = [(x, low) for x, low, _ in reversed(line.band)]
    is_alone = len(line.points) == 1 and not line.marks  # one point joins nothing
    bars = "".join(
        f"M{_x(chart, m.x):g} {_y(chart, m.low):g}V{_y(chart, m.high):g}" for m in line.marks
    )
    return _Drawn(
        line=line,
        path=_path(chart, line.points),
        band=f"{_path(chart, [*upper, *lower])}Z" if len(line.band) > 1 else "",
        bars=bars,
        marks=[(_x(chart, m.x), _y(chart, m.y)) for m in line.marks],
        faint=[(_x(chart, x), _y(chart, y)) for x, y in line.faint],
        alone=[(_x(chart, x), _y(chart, y)) for x, y in line.points] if is_alone else [],
    )


def _path(chart: Chart, points: Sequence[Point]) -> str:
    """Joined by straight lines."""
    places = [f"{_x(chart, x):g} {_y(chart, y):g}" for x, y in points]
    return f"M{'L'.join(places)}" if places else ""
