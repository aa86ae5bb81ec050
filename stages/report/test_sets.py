"""What the page tells of each test set of each corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from stages.acoustic.corpora import Corpus, by_corpus, unequal
from stages.acoustic.results import Row
from stages.acoustic.summary import Metric
from stages.acoustic.tables import intervals
from stages.report import alignments, errors, rates, tables
from stages.report.charts import Chart
from stages.report.collect import Source
from stages.report.tables import Table


@dataclass(frozen=True)
class TestSet:
    """A test set of a corpus with all that is told of it.

    Attributes:
        corpus: what tells its corpus from the others of the page; empty where there is one.
        sizes: (whose, how much speech it holds); of all systems: no name.
        intervals: a line on how they were drawn.
        unequal: a line for each way in which systems are not alike, such as their folds.
        styles: of the systems that are drawn, the number of their colour and marker.
        published: WER of others, with ours; None where there is none, or the page is of CER.
        pairs, paired: comparisons of systems on the same utterances, and how to read them.
    """

    corpus: str
    name: str
    sizes: Sequence[tuple[str, str]]
    intervals: Sequence[str]
    unequal: Sequence[str]
    styles: Mapping[str, int]
    panels: Sequence[Chart]
    table: Table
    spread: Table | None
    published: Table | None
    counts: Table
    pairs: Sequence[Table]
    paired: str
    speakers: Sequence[Table]
    confusions: Table | None
    systems: Sequence[alignments.System]


def test_sets(
    sources: Sequence[Source], scored: rates.Told, styles: Mapping[str, int], metric: Metric
) -> list[TestSet]:
    """Of each corpus, its test sets: a budget, or a test set's name, of one is not of another.

    Args:
        scored: the systems of all sources, with their summaries.
        styles: the number of each recipe's colour and marker, in the order of the sources.
    """
    corpora = by_corpus([row for _, row in scored])
    places = [
        (corpus, name)
        for corpus in corpora
        for name in dict.fromkeys(row["test_set"] for row in corpus.rows)
    ]
    found = []
    for corpus, name in places:
        of_corpus = set(corpus.recipes)
        told = [
            (system, row)
            for system, row in scored
            if row["test_set"] == name and row["recipe"] in of_corpus
        ]
        mine = [s for s in sources if any(row["recipe"] in of_corpus for row in s.rows)]
        heard = alignments.systems(mine, name, len(places))
        found.append(_test_set((_named(corpus, corpora), name), told, mine, styles, metric, heard))
    return found


def _named(corpus: Corpus, corpora: Sequence[Corpus]) -> str:
    """What a heading calls it: nothing where it is alone; its recipes too where two are alike."""
    if len(corpora) == 1:
        return ""
    alike = [each for each in corpora if each.name == corpus.name]
    return corpus.name if len(alike) == 1 else corpus.title


def _test_set(
    named: tuple[str, str],
    told: rates.Told,
    sources: Sequence[Source],
    styles: Mapping[str, int],
    metric: Metric,
    heard: Sequence[alignments.System],
) -> TestSet:
    """What is told of a test set, `named` by corpus and name; `told` are its systems."""
    corpus, name = named
    rows = [row for system, _ in told for row in system.rows]
    summaries = [row for _, row in told]
    scored = [system for system, _ in told]
    confused = {source.name: source.results.confusions for source in sources}
    compared, how = errors.pairs(scored, next(iter(styles)), metric)
    panels = rates.panels(told, styles, metric)
    sure = {row["confidence"] for row in summaries}
    drawn = {line.name for chart in panels for line in chart.lines}
    return TestSet(
        corpus=corpus,
        name=name,
        sizes=_sizes(rows),
        intervals=intervals(summaries),
        unequal=unequal(summaries),
        styles={name: style for name, style in styles.items() if name in drawn},
        panels=panels,
        table=tables.by_budget(
            summaries, list(styles), sure.pop() if len(sure) == 1 else None, metric
        ),
        spread=tables.spread(summaries, metric),
        published=tables.published(summaries, name) if metric == "wer" else None,
        counts=tables.counts(rows),
        pairs=compared,
        paired=how,
        speakers=errors.speakers(scored, metric),
        confusions=errors.confusions(scored, confused),
        systems=heard,
    )


def _sizes(rows: Sequence[Row]) -> list[tuple[str, str]]:
    from stages.acoustic.report import sizes

    whose: dict[str, list[str]] = {}
    names = {row["recipe"]: None for row in rows}
    for name in names:
        mine = [row for row in rows if row["recipe"] == name]
        with suppress(KeyError):  # results of an older version
            for line in sizes(mine).split("\n"):
                whose.setdefault(line.removeprefix("- "), []).append(name)
    return with_names(whose, set(names))


def with_names(whose: Mapping[str, Sequence[str]], every: set[str]) -> list[tuple[str, str]]:
    """(names, text) for each text; no names where it is that of all."""
    return [
        ("" if set(names) == every else ", ".join(dict.fromkeys(names)), text)
        for text, names in whose.items()
    ]
