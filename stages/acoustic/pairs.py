"""Paired comparisons: systems, decoders and budgets on the same utterances.

`kind` says what differs, all else being equal: `system` (each recipe against one), `decoder`
(each against the first, greedy where it is there) or `budget` (each against the next smaller).
Only utterances that both have are compared, and how many are left out is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from statistics import fmean
from typing import Literal

from pipeline.errors import UserError, nearest
from stages.acoustic import bootstrap
from stages.acoustic.results import Row
from stages.acoustic.summary import (
    LENGTHS,
    Errors,
    Metric,
    System,
    Utterance,
    by_voice,
)

Kind = Literal["system", "decoder", "budget"]
Pair = tuple[Kind, System, System]
FIELDS = (
    "kind",
    "test_set",
    "recipe",
    "budget",
    "decoder",
    "against",
    "metric",
    "rate",
    "rate_against",
    "difference",
    "low",
    "high",
    "probability_of_improvement",
    "utterances",
    "left_out",
    "resampled",
    "speakers",
    "speakers_better",
)
DIFFERS = {"system": "recipe", "decoder": "decoder", "budget": "budget"}


def compare_pairs(systems: Sequence[System], metric: Metric, against: str) -> list[Row]:
    """A row (FIELDS) for each pair of systems that differ in one thing, in the order of the kinds.

    A pair without a common utterance has none: `without_partner` tells it. `difference` is the
    first's rate less that of what it is compared `against`, with its interval; `left_out` counts
    utterances that one has alone, if only in one fold; `speakers_better` those of the `speakers`
    with fewer errors by the first.

    Args:
        systems: as `summary.systems` sorts them.
        against: the recipe that others are compared with.

    Raises:
        UserError: no recipe is called so; a system lacks its counts; or two counted another
            number of words in one utterance.
    """
    for system in systems:
        if system.counts is None:
            raise UserError(
                f"{_described(system)} has no errors of single utterances to be paired.",
                constraint="counts.jsonl beside results.json, for each of its rows",
                remedy="run the recipe again: vqasr run RECIPE",
            )
    pairs = _pairs(systems, against)
    return [row for pair in pairs if (row := _compared(*pair, metric)) is not None]


def without_partner(systems: Sequence[System], against: str) -> list[str]:
    """A line for each system or pair that `compare_pairs` has nothing to say of, and why."""
    told = []
    if len({s.first["recipe"] for s in systems}) > 1:
        of_base = [s for s in systems if s.first["recipe"] == against]
        others = [s for s in systems if s.first["recipe"] != against]
        for mine, theirs, whose in ((others, of_base, against), (of_base, others, "any other")):
            places = {_place(s, "budget", "decoder") for s in theirs}
            told += [
                f"{_described(s)} has no partner: {_lacking(s, theirs, whose)}."
                for s in mine
                if _place(s, "budget", "decoder") not in places
            ]
    for _, first, second in _pairs(systems, against):
        of_first, of_second = _of_both(first, second, "wer")
        if not of_first.keys() & of_second.keys():
            sides = f"{_described(first)} and {_described(second)}"
            folds = [", ".join(map(str, s.folds)) for s in (first, second)]
            why = f": folds {folds[0]} and {folds[1]}" if folds[0] != folds[1] else ""
            told.append(f"{sides} have no utterance in common{why}.")
    return told


def _lacking(system: System, theirs: Sequence[System], whose: str) -> str:
    """What of the system's place nobody has among `theirs`."""
    there = [s for s in theirs if s.first["test_set"] == system.first["test_set"]]
    if not there:
        return f"no results of {whose} on test set {system.first['test_set']}"
    for name in ("budget", "decoder"):
        known = list(dict.fromkeys(s.first[name] for s in there))
        if system.first[name] not in known:
            return f"no {name} {system.first[name]} of {whose} there, but {', '.join(known)}"
    return f"{whose} has not this budget with this decoder"


Told = dict[Utterance, Errors]


def _of_both(first: System, second: System, metric: Metric) -> tuple[Told, Told]:
    """Errors of the utterances of both.

    Folds that all score the same speech cut the training set. Where one of the two has other
    folds than the other, or none, an utterance counts with its errors averaged over them.
    """
    ours, theirs = first.utterances(metric), second.utterances(metric)
    splits = {row.get("test_split") for system in (first, second) for row in system.rows}
    if first.folds == second.folds or len(splits) > 1 or not all(splits):
        return ours, theirs
    return _over_folds(ours), _over_folds(theirs)


def _over_folds(told: Told) -> Told:
    seen: dict[Utterance, list[Errors]] = {}
    for (_, speaker, name), errors in told.items():
        seen.setdefault((None, speaker, name), []).append(errors)
    return {key: (fmean(e for e, _ in each), each[0][1]) for key, each in seen.items()}


def _pairs(systems: Sequence[System], against: str) -> list[Pair]:
    return [*_by_recipe(systems, against), *_by_decoder(systems), *_by_budget(systems)]


def _by_recipe(systems: Sequence[System], against: str) -> Iterator[Pair]:
    recipes = list(dict.fromkeys(s.first["recipe"] for s in systems))
    if against not in recipes:
        raise UserError(f"--against: there is no system '{against}'; {nearest(against, recipes)}")
    base = {_place(s, "budget", "decoder"): s for s in systems if s.first["recipe"] == against}
    for system in systems:
        other = base.get(_place(system, "budget", "decoder"))
        if other is not None and other is not system:
            yield "system", system, other


def _by_decoder(systems: Sequence[System]) -> Iterator[Pair]:
    for same in _groups(systems, "recipe", "budget"):
        for system in same[1:]:
            yield "decoder", system, same[0]


def _by_budget(systems: Sequence[System]) -> Iterator[Pair]:
    for same in _groups(systems, "recipe", "decoder"):
        for smaller, system in pairwise(same):
            yield "budget", system, smaller


def _groups(systems: Sequence[System], *names: str) -> Iterator[list[System]]:
    ordered = sorted(systems, key=lambda s: _place(s, *names))  # stable: the order within stays
    for _, same in groupby(ordered, key=lambda s: _place(s, *names)):
        yield list(same)


def _place(system: System, *names: str) -> tuple[str, ...]:
    return (system.first["test_set"], *(system.first[name] for name in names))


def _compared(kind: Kind, first: System, second: System, metric: Metric) -> Row | None:
    """The row of a pair; None where they have no utterance in common."""
    ours, theirs = _of_both(first, second, metric)
    common = ours.keys() & theirs.keys()
    if not common:
        return None
    for key in sorted(common, key=str):
        if ours[key][1] != theirs[key][1]:
            raise UserError(
                f"{_described(first)} and {_described(second)} have other references of "
                f"utterance {key[2]}.",
                constraint="the same transcripts, made by the same rule of text",
                found=f"{ours[key][1]} and {theirs[key][1]} in {LENGTHS[metric]}",
                remedy="compare recipes with the same corpus and text.alphabet",
            )
    errors, lengths, speakers = by_voice({key: ours[key] for key in common})
    other_errors, _, _ = by_voice({key: theirs[key] for key in common})
    samples = max(first.samples, second.samples)
    found = bootstrap.compare(errors, other_errors, lengths, speakers, samples, first.confidence)
    better = _better(errors, other_errors, speakers)
    row = first.first
    return {
        "kind": kind,
        **{name: row[name] for name in ("test_set", "recipe", "budget", "decoder")},
        "against": second.first[DIFFERS[kind]],
        "metric": metric,
        "rate": sum(errors) / sum(lengths),
        "rate_against": sum(other_errors) / sum(lengths),
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "probability_of_improvement": found.probability,
        "utterances": _unique(common),
        "left_out": _unique(ours.keys() ^ theirs.keys()),
        "resampled": found.resampled,
        "speakers": len(better),
        "speakers_better": sum(better.values()),
    }


def _better(
    errors: Sequence[float], other_errors: Sequence[float], speakers: Sequence[str]
) -> dict[str, bool]:
    """Of each speaker, whether the first has fewer errors; all three are by utterance."""
    extra = dict.fromkeys(speakers, 0.0)
    for ours, theirs, speaker in zip(errors, other_errors, speakers, strict=True):
        extra[speaker] += ours - theirs
    return {speaker: sum_ < -bootstrap.LEVEL for speaker, sum_ in extra.items()}


def _unique(keys: Iterable[Utterance]) -> int:
    """Utterances, each once however many folds share it."""
    return len({key[1:] for key in keys})


def _described(system: System) -> str:
    return "{recipe} ({test_set}, {budget}, {decoder})".format_map(system.first)
