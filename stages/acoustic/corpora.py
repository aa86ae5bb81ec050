"""Which systems were scored on the same corpus: only those belong in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.acoustic.results import Row

Place = tuple[str, tuple[Any, ...]]  # a test set and its folds


def by_corpus(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each corpus, under a title that names it and its recipes, in their order.

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
    return {
        _title([row for name in group for row in recipes[name]]): [
            row for row in rows if row["recipe"] in group
        ]
        for group in groups
    }


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


def _title(rows: Sequence[Row]) -> str:
    kinds = [str(row["corpus"]) for row in rows if row.get("corpus")]
    named = f"Corpus {kinds[0]}" if kinds else "A corpus that is not named"
    return f"{named} ({', '.join(dict.fromkeys(row['recipe'] for row in rows))})"
