"""Tables of results: error rates by system and budget, and the counts behind them.

Figures are formatted as everywhere else (stages/acoustic/tables.py); none is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stages.acoustic import published_wer
from stages.acoustic.figures import duration, durations, interval, percent
from stages.acoustic.results import Row
from stages.acoustic.summary import Metric
from stages.acoustic.tables import deviation_lines, published_lines

METRICS: Mapping[Metric, str] = {"wer": "word error rate", "cer": "character error rate"}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a smaller line below it, and what sort of cell it is."""

    text: str
    below: str = ""
    head: bool = False
    best: bool = False
    figure: bool = True


@dataclass(frozen=True)
class Table:
    """A table; `caption` says what its figures are."""

    caption: str
    header: Sequence[Cell]
    body: Sequence[Sequence[Cell]]


def decoder_name(decoder: str) -> str:
    """A decoder for people: `greedy`, or `with LM` with its own name."""
    return "greedy" if decoder == "greedy" else f"with LM ({decoder})"


def word(text: str, below: str = "") -> Cell:
    """A cell of words."""
    return Cell(text, below, figure=False)


def head(text: str, below: str = "", figure: bool = True) -> Cell:
    """A cell that heads a column or a line."""
    return Cell(text, below, head=True, figure=figure)


def of_words(
    caption: str, header: Sequence[str], body: Sequence[Sequence[str]], words: int
) -> Table:
    """A table of texts, whose first `words` columns are words and the others figures.

    An interval such as in `18.2 [15.0, 21.9]` goes below its figure.
    """

    def cell(text: str, number: int) -> Cell:
        figure, bracket, rest = text.partition(" [")
        if number >= words and bracket:
            return Cell(figure, f"[{rest}")
        return Cell(text, head=number == 0, figure=number >= words)

    return Table(
        caption,
        [head(name, figure=at >= words) for at, name in enumerate(header)],
        [[cell(text, number) for number, text in enumerate(line)] for line in body],
    )


def capital(names: Sequence[str]) -> list[str]:
    """With a capital letter each."""
    return [name[:1].upper() + name[1:] for name in names]


def by_budget(
    told: Sequence[Row], recipes: Sequence[str], confidence: float | None, metric: Metric
) -> Table:
    """Error rates of a test set: a line per system and decoder, a column per budget.

    The lowest of a column is marked, for each decoder by itself.

    Args:
        told: of systems, from `summary.summarise`.
        recipes: in the order of the lines.
        confidence: of the intervals, where it is known.
    """
    seconds: dict[str, list[float]] = {}
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in told:
        seconds.setdefault(row["budget"], []).append(row["budget_seconds"])
        lines.setdefault((row["recipe"], row["decoder"]), {})[row["budget"]] = row
    budgets = sorted(seconds, key=lambda budget: (fmean(seconds[budget]), budget))
    lowest = _lowest(told, metric)
    header = [head("System", "decoder", figure=False)]
    header += [head(budget, durations(seconds[budget])) for budget in budgets]
    body = [
        [
            head(recipe, decoder_name(decoder), figure=False),
            *(_rate(found.get(budget), lowest, metric) for budget in budgets),
        ]
        for (recipe, decoder), found in sorted(lines.items(), key=lambda x: recipes.index(x[0][0]))
    ]
    named = f"{100 * confidence:g} % interval" if confidence else "interval"
    caption = (
        f"{metric.upper()} in %, with its {named} below. Bold and underlined: the lowest of a "
        "decoder with this budget on the same speech."
    )
    return Table(caption, header, body)


def _lowest(told: Sequence[Row], metric: Metric) -> set[int]:
    """By id, the systems of the lowest rate among several that can be compared.

    They are of one budget, decoder and folds, and were scored on as many words: other speech may
    bear the same name.
    """
    found: set[int] = set()
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in told:
        if row[metric] is None:
            continue
        key = row["budget"], row["decoder"], tuple(row["folds"]), row["reference_words"]
        groups.setdefault(key, []).append(row)
    for mine in groups.values():
        least = min(row[metric] for row in mine)
        if len(mine) > 1:
            found |= {id(row) for row in mine if row[metric] == least}
    return found


def _rate(row: Row | None, lowest: set[int], metric: Metric) -> Cell:
    if row is None:
        return Cell("-")
    rate, _, told = interval(row, metric).partition(" ")
    return Cell(rate, told, best=id(row) in lowest)


def counts(rows: Sequence[Row]) -> Table:
    """WER, CER and what the errors are, a line for every row of a test set."""
    beside = [key for key in ("fold", "seed") if len({row[key] for row in rows}) > 1]
    header = [head("System", "decoder", figure=False), head("Budget", figure=False)]
    header += [head(key.capitalize(), figure=False) for key in beside]
    header += [head(name) for name in ("WER %", "CER %", "Sub.", "Del.", "Ins.", "Words")]
    header += [head(name) for name in ("Empty %", "LM weight", "Word score", "Beam", "Dev WER %")]
    body = []
    for row in sorted(rows, key=_place):
        line = [head(row["recipe"], decoder_name(row["decoder"]), figure=False)]
        line.append(word(row["budget"], duration(row["budget_seconds"])))
        line += [word("-" if row[key] is None else str(row[key])) for key in beside]
        for metric in METRICS:
            rate, _, told = interval(row, metric).partition(" ")
            line.append(Cell(rate, told))
        for key in ("substitutions", "deletions", "insertions", "reference_words"):
            line.append(Cell(f"{row[key]:,}" if key in row else "-"))
        line.append(Cell(percent(row.get("empty_share"))))
        for key in ("lm_weight", "word_score", "beam"):
            known = row.get(key) is not None
            line.append(Cell(f"{row[key]:g}" if known else "-"))
        body.append([*line, Cell(percent(row.get("dev_wer")))])
    caption = (
        "Errors over the whole test set: substitutions, deletions and insertions of words; share "
        "of empty hypotheses; the decoder's weights, its beam, and their WER on dev, where they "
        "were tuned."
    )
    return Table(caption, header, body)


def _place(row: Row) -> tuple[Any, ...]:
    """Of joined runs, a seed is a text: `digits:1`."""
    seed = isinstance(row["seed"], str), row["seed"]
    greedy = row["decoder"] != "greedy", row["decoder"]
    return row["recipe"], row["budget_seconds"], str(row["fold"]), *seed, *greedy


def spread(told: Sequence[Row], metric: Metric) -> Table | None:
    """Means and deviations of systems with several seeds or folds; None where none has."""
    several = [row for row in told if len(row["seeds"]) > 1 or len(row["folds"]) > 1]
    if not several:
        return None
    header, body = deviation_lines(several, metric)
    name = metric.upper()
    caption = f"{name} in % over seeds and folds, with the standard deviations (of a sample)."
    return of_words(caption, capital(header), body, 3)


def published(told: Sequence[Row], test_set: str) -> Table | None:
    """What others have published of the same corpus, test set and budgets; None where nothing."""
    found = published_wer.beside(told, test_set)
    if not found:
        return None
    header, body = published_lines(told, found)
    sources = " ".join(published_wer.sources(found))
    caption = f"{published_wer.HEADING}: WER in %, below ours. {sources}"
    return of_words(caption, capital(header), body, 2)
