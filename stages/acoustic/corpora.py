"""Which systems were scored on the same corpus, as belongs in one table, and what is not alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.acoustic.results import Row

Place = tuple[str, tuple[Any, ...]]  # a test set and its folds


@dataclass(frozen=True)
class Corpus:
    """The rows of one corpus, in their order."""

    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """Its kind, which another one may bear as well."""
        kinds = [str(row["corpus"]) for row in self.rows if row.get("corpus")]
        return f"Corpus {kinds[0]}" if kinds else "A corpus that is not named"

    @property
    def recipes(self) -> list[str]:
        """What was scored on it, each once."""
        return list(dict.fromkeys(row["recipe"] for row in self.rows))

    @property
    def title(self) -> str:
        """Its name with its recipes, as no other has it."""
        return f"{self.name} ({', '.join(self.recipes)})"


def by_corpus(rows: Sequence[Row]) -> list[Corpus]:
    """The rows of each corpus.

    Recipes have one corpus where they do not name two kinds, and have as many words in each test
    set that both were scored on, with the same folds: lists of one's own are all of kind `tsv`.

    Args:
        rows: from `summary.summarise`.
    """
    recipes: dict[str, list[Row]] = {}
    for row in rows:
        recipes.setdefault(row["recipe"], []).append(row)
    groups: list[list[str]] = []
    for name, mine in recipes.items():
        for group in groups:
            if all(_can_be_one(mine, recipes[other]) for other in group):
                group.append(name)
                break
        else:
            groups.append([name])
    return [Corpus([row for row in rows if row["recipe"] in group]) for group in groups]


def _can_be_one(first: Sequence[Row], second: Sequence[Row]) -> bool:
    kinds = [{row["corpus"] for row in rows if row.get("corpus")} for rows in (first, second)]
    if len(kinds[0] | kinds[1]) > 1:
        return False
    ours, theirs = _words(first), _words(second)
    common = ours.keys() & theirs.keys()
    if not common and kinds[0] != kinds[1]:  # only one tells its corpus, and nothing shows it
        return False
    return all(ours[place] == theirs[place] for place in common)


def _words(rows: Sequence[Row]) -> dict[Place, int]:
    return {(row["test_set"], tuple(row["folds"])): row["reference_words"] for row in rows}


def unequal(rows: Sequence[Row]) -> list[str]:
    """A line for each way in which systems are not alike that no column tells.

    Args:
        rows: as of `by_corpus`, of one corpus.
    """
    return [*unequal_folds(rows), *_unequal_precision(rows)]


def _unequal_precision(rows: Sequence[Row]) -> list[str]:
    """`precision: auto` may come to one on one machine and to another on the next."""
    by: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["precisions"]:  # results of an older version do not tell
            by.setdefault(tuple(row["precisions"]), []).append(f"{row['recipe']} {row['budget']}")
    if len(set().union(*by)) < 2:
        return []
    each = (f"{', '.join(dict.fromkeys(names))} in {' and '.join(p)}" for p, names in by.items())
    return [f"Not fine-tuned in the same precision: {'; '.join(each)}."]


def unequal_folds(rows: Sequence[Row]) -> list[str]:
    """A line for each test set whose systems were scored on other folds than each other.

    Args:
        rows: as of `by_corpus`, of one corpus.
    """
    told = []
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        sets: dict[tuple[str, ...], list[str]] = {}
        by_budget: dict[str, set[tuple[str, ...]]] = {}
        for row in rows:
            if row["test_set"] == test_set:
                folds = tuple(sorted(str(f) for f in row["folds"] if f is not None))
                sets.setdefault(folds, []).append(f"{row['recipe']} {row['budget']}")
                by_budget.setdefault(row["budget"], set()).add(folds)
        # A budget may have folds where the others have none: it is so for all systems.
        differ = any(len(found) > 1 for found in by_budget.values())
        if differ or len([folds for folds in sets if folds]) > 1:
            each = (
                f"{', '.join(dict.fromkeys(names))}: {', '.join(folds) or 'no folds'}"
                for folds, names in sets.items()
            )
            told.append(f"Not on the same folds of {test_set}: {'; '.join(each)}.")
    return told
