"""WER or CER over labelled speech: a panel per decoder, a line per system, bands of interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.acoustic.figures import duration, interval
from stages.acoustic.results import Row
from stages.acoustic.summary import Metric, System
from stages.report.charts import Chart, Line, Mark
from stages.report.scales import linear, speech
from stages.report.tables import decoder_name

Told = Sequence[tuple[System, Row]]


def panels(told: Told, styles: Mapping[str, int], metric: Metric) -> list[Chart]:
    """The charts of a test set, all on the same axes; none where no system has such a rate.

    Args:
        told: its systems with their summaries, by hours of labels.
        styles: the number of each recipe's colour and marker.
    """
    told = [pair for pair in told if pair[1][metric] is not None]  # CER of several folds, of old
    rows = [row for _, row in told]
    if not rows:
        return []
    x = speech([row["budget_seconds"] for row in rows])
    each = [single[metric] for system, _ in told for single in system.rows]
    y = linear(0.0, 100 * max([*each, *(row[f"{metric}_high"] or 0.0 for row in rows)]))
    charts = []
    for decoder in dict.fromkeys(row["decoder"] for row in rows):
        mine = [pair for pair in told if pair[1]["decoder"] == decoder]
        lines = [
            _line(name, [pair for pair in mine if pair[1]["recipe"] == name], style, metric)
            for name, style in styles.items()
        ]
        name = decoder_name(decoder)
        charts.append(
            Chart(
                title=f"{name[:1].upper()}{name[1:]}",
                told=f"{metric.upper()} over labelled speech, {name}. {_in_words(mine, metric)}",
                x_label="labelled speech, log scale",
                y_label=f"{metric.upper()}, %",
                x=x,
                y=y,
                lines=[line for line in lines if line.points],
                legend=False,  # one for all panels
            )
        )
    return charts


def _line(name: str, told: Told, style: int, metric: Metric) -> Line:
    """A system: a point with its interval per budget, and faint ones for seeds and folds."""
    marks, band, faint = [], [], []
    for system, row in told:
        seconds, rate = row["budget_seconds"], 100 * row[metric]
        ends = (row[f"{metric}_low"], row[f"{metric}_high"])
        low, high = (rate if end is None else 100 * end for end in ends)
        marks.append(Mark(seconds, rate, low, high))
        band.append((seconds, low, high))
        if len(system.rows) > 1:
            faint += [(seconds, 100 * single[metric]) for single in system.rows]
    return Line(name, style, [(m.x, m.y) for m in marks], marks, band, faint)


def _in_words(told: Told, metric: Metric) -> str:
    """The figures, for those who do not see the chart; the table has them too."""
    each = [
        f"{row['recipe']} {duration(row['budget_seconds'])}: {interval(row, metric)}"
        for _, row in told
    ]
    return "; ".join(each[:24]) + ("; more in the table." if len(each) > 24 else ".")
