"""What the errors of a test set are: by speaker, the most frequent confusions, and in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.errors import UserError
from stages.acoustic.counts_file import Key
from stages.acoustic.figures import percent
from stages.acoustic.pair_tables import KINDS, how_paired, paired_lines
from stages.acoustic.report import by_speaker, most_frequent
from stages.acoustic.results import Confusions
from stages.acoustic.summary import Metric, System
from stages.report.tables import Table, capital, decoder_name, of_words

SPEAKERS_AT_ALL_BUDGETS = 12  # more are told for the largest budget alone
SPEAKERS_AT_MOST = 150
CONFUSIONS = ("substitutions", "deletions", "insertions")


def _of(system: System) -> tuple[str, str]:
    return system.first["budget"], system.first["decoder"]


def speakers(scored: Sequence[System], metric: Metric) -> list[Table]:
    """Rates by speaker of a test set, a table per budget and decoder, errors averaged over seeds.

    Args:
        scored: the systems of a test set by hours of labels.
    """
    rates = {id(system): _rates(system, metric) for system in scored}
    told = [system for system in scored if rates[id(system)]]
    names = sorted({name for system in told for name in rates[id(system)]})
    places = list(dict.fromkeys(map(_of, told)))
    if len(names) > SPEAKERS_AT_ALL_BUDGETS:
        places = [place for place in places if place[0] == places[-1][0]]
    tables = []
    for budget, decoder in places:
        mine = [system for system in told if _of(system) == (budget, decoder)]
        header = ["Speaker", *(system.first["recipe"] for system in mine)]
        body = [
            [name, *(percent(rates[id(system)].get(name)) for system in mine)]
            for name in names[:SPEAKERS_AT_MOST]
        ]
        body.append(["all", *(percent(system.rate(metric)) for system in mine)])
        caption = f"{metric.upper()} in % by speaker: {budget}, {decoder_name(decoder)}."
        if len(names) > SPEAKERS_AT_MOST:
            caption += f" The first {SPEAKERS_AT_MOST} of {len(names)} speakers."
        tables.append(of_words(caption, header, body, 1))
    return tables


def _rates(system: System, metric: Metric) -> Mapping[str, float]:
    """The rate of each speaker; where only results.json is at hand, the WER its single row has."""
    if system.counts is not None:
        sums = by_speaker(system, metric)
        return {name: wrong / length for name, (_, length, wrong) in sums.items()}
    found: Mapping[str, float] = system.first.get("per_speaker", {})
    return found if len(system.rows) == 1 and metric == "wer" else {}


def confusions(
    scored: Sequence[System], told: Mapping[str, Mapping[Key, Confusions]]
) -> Table | None:
    """The most frequent errors of each system with its largest budget, seeds and folds together.

    Args:
        scored: the systems of a test set by hours of labels.
        told: by recipe, the confusions of its rows.
    """
    largest = {(s.first["recipe"], s.first["decoder"]): s for s in scored}
    body = []
    for system in largest.values():
        mine = told.get(system.first["recipe"], {})
        pairs = [found for row in system.rows if (found := mine.get(Key.of(row)))]
        if not pairs:
            continue
        lists = [most_frequent([each[kind] for each in pairs]) for kind in CONFUSIONS]
        row = system.first
        line = [row["recipe"], row["budget"], decoder_name(row["decoder"])]
        body.append([*line, *("; ".join(words) or "-" for words in lists)])
    if not body:
        return None
    header = ["System", "Budget", "Decoder", "Heard for said", "Not heard", "Heard for nothing"]
    caption = "The most frequent errors, with how often, of each system's largest budget."
    return of_words(caption, header, body, len(header))


def pairs(scored: Sequence[System], against: str, metric: Metric) -> tuple[list[Table], str]:
    """Systems, decoders and budgets against each other on the same utterances; and what to say.

    Args:
        against: the recipe that others are compared with, where it has counts.
    """
    from stages.acoustic.pairs import compare_pairs, without_partner

    counted = [system for system in scored if system.counts is not None]
    names = list(dict.fromkeys(system.first["recipe"] for system in counted))
    if not names:
        return [], "The errors of single utterances (counts.jsonl) are not there."
    base = against if against in names else names[0]
    try:
        rows = compare_pairs(counted, metric, base)
    except UserError as error:
        return [], error.text()
    tables = []
    for kind, title in KINDS.items():
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            title = title.format(against=base)
            caption = f"{title}: {metric.upper()} on the same utterances."
            tables.append(of_words(caption, *_narrowed(*paired_lines(mine)), 3))
    alone = " ".join(without_partner(counted, base))
    if not tables:
        return [], alone or "There is one system, budget and decoder: nothing to compare it with."
    return tables, f"{how_paired(rows)} {alone}".strip()


def _narrowed(
    header: Sequence[str], body: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Without the column of the test set, which is one."""
    at = header.index("test set")
    header = ["its %" if n == "against's" else n for n in header]
    return capital([*header[:at], *header[at + 1 :]]), [
        [*line[:at], *line[at + 1 :]] for line in body
    ]
