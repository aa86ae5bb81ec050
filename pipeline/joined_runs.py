"""Runs of one system as one: such as `digits+digits_seed2`, whose pretraining had another seed.

A mean over runs, and their deviation, say something only where the runs differ in seeds alone. So
runs are refused that differ in what results.json tells of them:

- all rows: the front-end and the kind of corpus;
- a test set and fold: what was scored, and the text of the language model;
- a budget: the settings of stages 0 to 5, which stand in a row as hashes without seeds. Where one
  of two runs does not tell them, as results of older versions do not: parameters and updates.
  Settings that are equal allow other parameters, since a vocabulary holds the units that were
  observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.errors import UserError

if TYPE_CHECKING:
    from stages.acoustic.results import Results, Row

OF_ALL_ROWS = {"frontend": "front-end", "corpus": "kind of corpus"}
OF_A_TEST_SET = ("reference_words", "test_utterances", "lm_text")  # and fold
OF_A_MODEL = ("parameters", "updates")


def join(runs: Mapping[str, Results]) -> Results:
    """The runs, by name, as seeds of the first one's recipe: `digits:1`, `digits_seed2:1`.

    Raises:
        UserError: the runs are not of one system; it names what differs.
    """
    from stages.acoustic.counts_file import Key
    from stages.acoustic.results import Results

    _check_one_system(runs)
    rows, counts, confusions = [], {}, {}
    for name, results in runs.items():
        for row in results.rows:
            joined = {**row, "seed": f"{name}:{row['seed']}"}
            rows.append(joined)
            if results.counts and Key.of(row) in results.counts:
                counts[Key.of(joined)] = results.counts[Key.of(row)]
            if Key.of(row) in results.confusions:
                confusions[Key.of(joined)] = results.confusions[Key.of(row)]
    for row in rows:
        row["recipe"] = rows[0]["recipe"]
    remarks = _of_some_only(runs)
    if confusions:
        remarks.append(
            f"{'+'.join(runs)}: the most frequent errors are counted among those that are the most "
            "frequent of each run."
        )
    return Results(rows, counts, confusions, remarks)


def _check_one_system(runs: Mapping[str, Results]) -> None:
    def refuse(constraint: str, found: str) -> NoReturn:
        raise UserError(
            f"{'+'.join(runs)} are not runs of one system.",
            constraint=constraint,
            found=found,
            remedy="name them apart, with a space between",
        )

    for key, what in OF_ALL_ROWS.items():
        told = [row.get(key) for results in runs.values() for row in results.rows]
        values = sorted({str(value) for value in told if value})
        if len(values) > 1:
            refuse(f"one {what}", ", ".join(values))
    for difference in _differences_of_tests(runs):
        refuse(*difference)
    for (name, first), (other, second) in combinations(runs.items(), 2):
        for where, ours, theirs in _same_budget(first.rows, second.rows):
            for difference in _differences_of_models((name, ours), (other, theirs), where):
                refuse(*difference)


def _differences_of_tests(runs: Mapping[str, Results]) -> Iterator[tuple[str, str]]:
    """(constraint, found) for each fact of a test set and fold in which runs differ."""
    first: dict[tuple[Any, ...], tuple[str, Any]] = {}
    for name, results in runs.items():
        for row in results.rows:
            for fact in OF_A_TEST_SET:
                if fact not in row:  # results of an older version
                    continue
                place = row["test_set"], row["fold"], fact
                known, value = first.setdefault(place, (name, row[fact]))
                if value != row[fact]:
                    fold = "" if row["fold"] is None else f" of fold {row['fold']}"
                    yield (
                        f"the same {fact} on test set {row['test_set']}{fold}",
                        f"{value} in {known}, {row[fact]} in {name}",
                    )


def _same_budget(
    first: Sequence[Row], second: Sequence[Row]
) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """The rows of two runs for each budget that both have: where they are, and they.

    Where there is none, the rows of both runs as far as they tell parameters: those are the same
    for every budget.
    """
    common = [b for b in dict.fromkeys(r["budget"] for r in first) if b in _budgets(second)]
    for budget in common:
        ours, theirs = ([r for r in rows if r["budget"] == budget] for rows in (first, second))
        yield f" with budget {budget}", ours, theirs
    if not common:
        ours, theirs = (
            [{"parameters": r.get("parameters")} for r in rows] for rows in (first, second)
        )
        yield "", ours, theirs


def _budgets(rows: Sequence[Row]) -> set[str]:
    return {row["budget"] for row in rows}


def _differences_of_models(
    first: tuple[str, Sequence[Row]], second: tuple[str, Sequence[Row]], where: str
) -> Iterator[tuple[str, str]]:
    """(constraint, found) for each fact of a training in which two runs, by name, differ."""
    (name, mine), (other, theirs) = first, second
    settings = _settings(mine), _settings(theirs)
    differ = [s for s in settings[0] | settings[1] if settings[0].get(s) != settings[1].get(s)]
    if all(settings) and not differ:
        return
    for fact in OF_A_MODEL:
        values = [_told(rows, fact) for rows in (mine, theirs)]
        if all(values) and values[0] != values[1]:
            yield f"the same {fact}{where}", f"{values[0]} in {name}, {values[1]} in {other}"
    if all(settings):
        stages = f"stage{'s' if len(differ) > 1 else ''} {', '.join(differ)}"
        yield (
            f"the same settings of {stages}{where}, seeds apart",
            f"others in {name} than in {other}",
        )


def _told(rows: Sequence[Row], fact: str) -> str:
    """The values of a fact; empty where no row has one."""
    return ", ".join(sorted({str(row[fact]) for row in rows if row.get(fact) is not None}))


def _settings(rows: Sequence[Row]) -> dict[str, str]:
    """By stage, as `trained_with.settings_by_stage` hashes them; nothing where no row tells."""
    told = [row.get("settings") for row in rows]
    return next((each for each in told if isinstance(each, dict)), {})


def _of_some_only(runs: Mapping[str, Results]) -> list[str]:
    """What the mean of the runs is not of all of them: a line for each budget, fold, test set."""
    told = []
    for key, what in (("test_set", "test set"), ("fold", "fold"), ("budget", "budget")):
        having: dict[Any, list[str]] = {}
        for name, results in runs.items():
            for value in dict.fromkeys(row[key] for row in results.rows):
                having.setdefault(value, []).append(name)
        told += [
            f"{'+'.join(runs)}: {f'{what} {value}' if value is not None else 'rows without folds'} "
            f"only in {', '.join(names)}."
            for value, names in having.items()
            if len(names) < len(runs)
        ]
    return told
