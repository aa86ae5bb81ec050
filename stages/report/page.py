"""The report as one page of HTML, which needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stages.acoustic.results import Row
from stages.acoustic.summary import Metric, summarise, systems
from stages.report import alignments, tables, training
from stages.report.charts import COLOURS, DASHES, MARKERS, Chart, svg
from stages.report.codebook import codebooks
from stages.report.collect import Piece, Source
from stages.report.tables import Cell, Table, head, word
from stages.report.template import environment
from stages.report.test_sets import test_sets, with_names

CURVES_OPEN = 4  # of trainings; of more, only the first are unfolded


def render(sources: Sequence[Source], metric: Metric = "wer") -> str:
    """The page of what was collected.

    Args:
        metric: of the charts, the tables by budget and by speaker, and the pairs. The table of
            every result has both.
    """
    styles = _styles(sources)
    scored = [(system, summarise(system)) for system in systems(s.results for s in sources)]
    number = _Numbers()
    return (
        environment()
        .get_template("page.html")
        .render(
            sources=sources,
            rate=tables.METRICS[metric],
            other_metric=next(other.upper() for other in tables.METRICS if other != metric),
            colours=COLOURS,
            markers=MARKERS,
            dashes=DASHES,
            test_sets=test_sets(sources, scored, styles, metric),
            codebooks=codebooks(sources),
            bert=training.berts(sources),
            ctc=training.ctc(sources),
            unfinished=[(s, _grouped(s.unfinished)) for s in sources if s.unfinished],
            unscored=[s for s in sources if not s.rows],
            steps=[(source, _steps(source)) for source in sources if source.pieces],
            notes=_notes(sources, [row for _, row in scored]),
            has_remarks=any(source.remarks for source in sources),
            curves_open=CURVES_OPEN,
            words_at_most=alignments.WORDS_AT_MOST,
            unique=number.next,
            svg=lambda chart: svg(chart, number.next()),
            curve_table=_curve_table,
            style=Markup(_style()),  # our own file
        )
    )


class _Numbers:
    """Ids of charts and tables, each once on the page."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> str:
        self._last += 1
        return f"id{self._last}"


def _style() -> str:
    environment_ = environment()
    assert environment_.loader is not None
    return environment_.loader.get_source(environment_, "style.css")[0]


def _styles(sources: Sequence[Source]) -> dict[str, int]:
    """The number of each system's colour and marker, in the order of the arguments."""
    names = [row["recipe"] for source in sources for row in source.rows]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _grouped(pieces: Sequence[Piece]) -> list[tuple[str, list[Piece]]]:
    """Steps by their state, in the order of the states' first."""
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.state, []).append(piece)
    return list(found.items())


def _steps(source: Source) -> Table:
    """Every step of a source, with its state and what it took."""
    header = [head("Step", figure=False), head("State", figure=False)]
    header += [head("Seconds"), head("Why", figure=False)]
    body = [
        [
            head(piece.title, figure=False),
            word(piece.state),
            Cell(f"{piece.stamp.seconds:,.0f}" if piece.stamp else "-"),
            word("; ".join(piece.reasons[:3])),
        ]
        for piece in source.pieces
    ]
    return Table(f"Steps of {source.name}", header, body)


def _notes(sources: Sequence[Source], summaries: Sequence[Row]) -> list[tuple[str, str]]:
    """(whose, note): what is needed to judge the figures; of all: no name."""
    from stages.acoustic.notes import notes

    whose: dict[str, list[str]] = {}
    scored = [source for source in sources if source.rows]
    for source in scored:
        mine = [row for row in summaries if row["recipe"] == source.name]
        try:
            told = notes(source.rows, mine)
        except KeyError:
            told = "Its results.json is of an older version, which told less beside the figures."
        for note in told.split("\n"):
            plain = note.removeprefix("- ").replace("**", "").replace("`", "")
            whose.setdefault(plain, []).append(source.name)
    return with_names(whose, {source.name for source in scored})


def _curve_table(chart: Chart) -> Table:
    """A few points of every line, for those who read tables rather than charts."""
    from stages.report.scales import thinned

    header = [head("updates", figure=False), *(head(line.name) for line in chart.lines)]
    at = sorted({x for line in chart.lines for x, _ in line.points})
    known = [dict(line.points) for line in chart.lines]
    body = [
        [
            head(f"{x:,.0f}", figure=False),
            *(Cell(f"{line[x]:.4g}" if x in line else "-") for line in known),
        ]
        for x in thinned(at, 10)
    ]
    return Table(f"{chart.title}, {chart.y_label}", header, body)
