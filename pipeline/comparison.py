"""Results that `vqasr compare` reads: found by recipe, checked before they are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

RECIPE_FILES = (".yaml", ".yml")
NUMBERS = ("budget_seconds", "wer", "wer_low", "wer_high")


def read(named: str, exp: Path) -> list[dict[str, Any]]:
    """The rows of a results.json, of a recipe's file, or of what is called so in `exp`.

    Raises:
        UserError: there are none, or the file is not one of results.
    """
    path = _file_of(named, exp)
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        there = ", ".join(sorted(p.parent.name for p in exp.glob("*/results.json"))) or "none"
        raise UserError(
            f"{named} has no results ({path} is not there).",
            remedy=f"{_run_of(named)}; there are results of: {there}",
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    _check(rows, path)
    found: list[dict[str, Any]] = rows
    return found


def _run_of(named: str) -> str:
    """The command that makes the results: only a recipe's file can be run."""
    is_recipe = Path(named).suffix in RECIPE_FILES
    return f"vqasr run {named}" if is_recipe else "run the recipe first (vqasr run RECIPE)"


def tell_apart(found: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Name recipes by their source where several sources have results of one name."""
    sources: dict[str, set[str]] = {}
    for source, rows in found.items():
        for row in rows:
            sources.setdefault(row["recipe"], set()).add(source)
    for source, rows in found.items():
        for row in rows:
            if len(sources[row["recipe"]]) > 1:
                row["recipe"] = f"{row['recipe']} ({source})"


def _file_of(named: str, exp: Path) -> Path:
    from pipeline.recipe_file import load

    path = Path(named)
    if path.suffix == ".json":
        return path
    if path.suffix in RECIPE_FILES and path.is_file():
        named = load(path).name
    return exp / named / "results.json"


def _check(rows: Any, path: Path) -> None:
    """Refuse what holds no results, before a missing key would end in a traceback."""
    from stages.acoustic.results import COMPARED

    made_by = "give the results.json that vqasr run wrote"
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no results.", constraint="a list of rows", remedy=made_by)
    for row in rows:
        lacks = [key for key in COMPARED if key not in row]
        lacks += [k for k in NUMBERS if k in row and not isinstance(row[k], int | float)]
        if lacks:
            raise UserError(
                f"{path} holds no results.",
                constraint=f"rows with {', '.join(COMPARED)}",
                found=f"a row without (or with a wrong) {', '.join(lacks)}",
                remedy=made_by,
            )
