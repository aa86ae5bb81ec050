"""RESULTS.md: the table by budget, and beside it all that is needed to judge the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from stages.acoustic.figures import duration, durations, interval, percent
from stages.acoustic.results import CONFUSIONS, Results
from stages.acoustic.summary import Errors, Metric, System, summarise, systems
from stages.acoustic.tables import deviations, published_beside

Row = Mapping[str, Any]
MOST_SPEAKERS = 20
MOST_CONFUSIONS = 10


def page(results: Results, plot: str) -> str:
    """The page for the results of one recipe; `plot` is the picture's file name."""
    from stages.acoustic.notes import notes

    rows = results.rows
    if not rows:
        return "# Results\n\nNone yet.\n"
    first = rows[0]
    parts = [f"# Results of {first['recipe']} (front-end {first['frontend']})"]
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        mine = [row for row in rows if row["test_set"] == test_set]
        scored = [s for s in systems([results]) if s.first["test_set"] == test_set]
        parts += [f"## Test set {test_set}", sizes(mine), _table(scored)]
        parts += _several(mine, scored)
        parts += published_beside([summarise(s) for s in scored], "md")
        parts += _speakers(scored)
        parts += _confusions(results, scored)
    parts += [f"![WER over hours of labels]({plot})", "## How to read this"]
    parts.append(notes(rows, [summarise(s) for s in systems([results])]))
    return "\n\n".join(parts) + "\n"


def sizes(rows: Sequence[Row]) -> str:
    """A line for each fold whose dev or test set differs from the others'."""
    told: dict[tuple[str, ...], list[str | None]] = {}
    by_fold = {row["fold"]: row for row in sorted(rows, key=lambda row: str(row["fold"]))}
    for fold, row in by_fold.items():
        heard = row["test_speakers"]
        line = (
            f"Test: {row['test_utterances']} utterances, {row['reference_words']} words, "
            f"{duration(row['test_seconds'])}, {heard} speaker{'' if heard == 1 else 's'}; "
            f"{row['test_rejected']} more were rejected and are not scored. "
            f"Dev: {row['dev_utterances']} utterances, {duration(row['dev_seconds'])}"
            f"{_without_pauses(row)}; "
            f"{row['dev_rejected']} more were rejected."
        )
        # Results of an older version do not tell which speech it is.
        speech = (str(row.get(key) or fold) for key in ("test_split", "dev_split"))
        told.setdefault((line, *speech), []).append(fold)
    if len(told) == 1:
        [((line, *_), folds)] = told.items()  # one fold alone is not the whole: it is named
        return f"{_folds(folds)}. {line}" if len(folds) == 1 and folds[0] else line
    return "\n".join(f"- {_folds(folds)}. {line}" for (line, *_), folds in told.items())


def _without_pauses(row: Row) -> str:
    """How long dev is as budgets are counted, where a corpus has put pauses in."""
    speech = row.get("dev_speech_seconds")
    if speech is None or duration(speech) == duration(row["dev_seconds"]):
        return ""
    return f" ({duration(speech)} without the pauses put in)"


def _fold_and_seed(row: Row) -> tuple[str, int]:
    """The order of rows that differ in these alone: a budget is not as long in every fold."""
    return str(row["fold"]), row["seed"]


def _folds(names: Sequence[str | None]) -> str:
    """`Fold 1`, `Folds 1, 2`; None is what has none."""
    named = [name for name in names if name is not None]
    if not named:
        return "Without folds"
    return f"Fold{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    from tabulate import tabulate

    return tabulate(body, header, tablefmt="github", disable_numparse=True)


def _table(scored: Sequence[System]) -> str:
    """A line per budget; for every decoder WER and CER with their intervals."""
    decoders = list(dict.fromkeys(s.first["decoder"] for s in scored))
    header = ["budget", "labels"]
    for decoder in decoders:
        header += [f"{decoder} WER %", f"{decoder} CER %"]
    body = []
    for budget in dict.fromkeys(s.first["budget"] for s in scored):
        mine = {s.first["decoder"]: s for s in scored if s.first["budget"] == budget}
        seconds = [row["budget_seconds"] for s in mine.values() for row in s.rows]
        line = [budget, durations(seconds)]
        for decoder in decoders:
            told = summarise(mine[decoder]) if decoder in mine else None
            line += [interval(told, "wer"), interval(told, "cer")] if told else ["-", "-"]
        body.append(line)
    return _markdown(header, body)


def _several(rows: Sequence[Row], scored: Sequence[System]) -> Iterator[str]:
    """Where there are several seeds or folds: each of them, and how they differ."""
    names = [k for k in ("fold", "seed") if len({row[k] for row in rows}) > 1]
    if not names:
        return
    yield "### Each " + " and ".join(names)
    header = ["budget", "decoder", *names, "WER %", "CER %"]
    body = []
    for row in (row for s in scored for row in sorted(s.rows, key=_fold_and_seed)):
        line = [row["budget"], row["decoder"]]
        line += ["-" if row[k] is None else str(row[k]) for k in names]
        body.append([*line, interval(row, "wer"), interval(row, "cer")])
    yield _markdown(header, body)
    yield deviations([summarise(s) for s in scored], "md")


def _speakers(scored: Sequence[System]) -> Iterator[str]:
    """WER of each speaker, a column per budget and decoder, errors averaged over seeds."""
    if any(s.counts is None for s in scored):
        return
    columns = [by_speaker(s) for s in scored]
    names = sorted({name for column in columns for name in column})
    if len(names) < 2:
        return
    title = "### Each speaker"
    if len(names) > MOST_SPEAKERS:
        title += f": the {MOST_SPEAKERS} with the highest WER of {len(names)}"
        last = columns[-1]
        names = sorted(sorted(names, key=lambda n: -_rate(last[n]))[:MOST_SPEAKERS])
    header = ["speaker", "utterances", "words"]
    header += [f"{s.first['budget']} {s.first['decoder']} WER %" for s in scored]
    body = []
    for name in names:
        utterances, words, _ = next(c[name] for c in columns if name in c)
        rates = [percent(_rate(c[name])) if name in c else "-" for c in columns]
        body.append([name, str(utterances), str(words), *rates])
    yield title
    yield _markdown(header, body)


def by_speaker(system: System, metric: Metric = "wer") -> dict[str, tuple[int, int, float]]:
    """Utterances, words (of CER: characters) and errors of each speaker.

    An utterance that several folds share counts once, with its errors averaged over them.
    """
    sums: dict[str, tuple[int, int, float]] = {}
    copies: dict[tuple[str, str], list[Errors]] = {}
    for (_, speaker, name), counted in system.utterances(metric).items():
        copies.setdefault((speaker, name), []).append(counted)
    for (speaker, _), seen in copies.items():
        utterances, length, wrong = sums.get(speaker, (0, 0, 0.0))
        errors = fmean(errors for errors, _ in seen)
        sums[speaker] = utterances + 1, length + seen[0][1], wrong + errors
    return sums


def _rate(sums: tuple[int, int, float]) -> float:
    return sums[2] / sums[1]


def _confusions(results: Results, scored: Sequence[System]) -> Iterator[str]:
    """The most frequent errors with the most labels, of all seeds and folds together."""
    from stages.acoustic.counts_file import Key

    budget = scored[-1].first["budget"]
    for system in scored:
        if system.first["budget"] != budget:
            continue
        pairs = [results.confusions.get(Key.of(row)) for row in system.rows]
        found = {
            kind: most_frequent([each[kind] for each in pairs if each])
            for kind in ("substitutions", "deletions", "insertions")
        }
        if any(found.values()):
            yield f"### Most frequent confusions, {budget} {system.first['decoder']}"
            told = [f"- {kind}: {', '.join(words)}." for kind, words in found.items() if words]
            yield "\n".join([*told, f"- More, and of each budget, in {CONFUSIONS}."])


def most_frequent(lists: Sequence[Sequence[Sequence[Any]]]) -> list[str]:
    """The most frequent of several lists of [words..., times], as text."""
    sums: Counter[tuple[str, ...]] = Counter()
    for each in lists:
        for *words, times in each:
            sums[tuple(words)] += times
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return [f"{' → '.join(words)} ({n})" for words, n in ordered[:MOST_CONFUSIONS]]
