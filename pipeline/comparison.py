"""Results that `vqasr compare` reads: found by recipe, checked before they are shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, shown
from pipeline.folders import exp_option
from pipeline.joined_runs import join

if TYPE_CHECKING:
    from stages.acoustic.counts_file import Key
    from stages.acoustic.results import Confusions, Results

RECIPE_FILES = (".yaml", ".yml")
MOST_TOLD = 3  # wrong values of a row


def read(named: str, exp: Path) -> Results:
    """Results by a name; names with a plus between them are runs of one system.

    A name is a results.json, its folder, a recipe's file, or a folder in `exp`.

    Raises:
        UserError: as of `_read_one`; or the runs are not of one system (see `joined_runs`).
    """
    parts = named.split("+")
    if len(parts) == 1 or Path(named).exists() or (exp / named).is_dir():
        return _read_one(named, exp)
    return join({part: _read_one(part, exp) for part in parts})


def _read_one(named: str, exp: Path) -> Results:
    """One run; errors of single utterances and confusions are read along where they lie beside.

    Raises:
        UserError: there are none, or the file is not one of results.
    """
    from stages.acoustic import counts_file
    from stages.acoustic.results import CONFUSIONS, Results

    path = _file_of(named, exp)
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        there = ", ".join(sorted(p.parent.name for p in exp.glob("*/results.json"))) or "none"
        raise UserError(
            f"{named} has no results ({path} is not there).",
            remedy=f"{_run_of(named, exp)}; there are results of: {there}",
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.", remedy=_run_of(named, exp)) from error
    _check(rows, path)
    counts = path.with_name(counts_file.COUNTS)
    counted = counts_file.read(counts) if counts.exists() else None
    return Results(rows, counted, _confusions(path.with_name(CONFUSIONS)))


def _confusions(path: Path) -> dict[Key, Confusions]:
    """The most frequent confusions of each row, where the file lies beside."""
    from stages.acoustic.counts_file import Key

    if not path.exists():
        return {}
    try:
        lines = json.loads(path.read_text("utf-8"))
        return {
            Key.of(line): {kind: pairs for kind, pairs in line.items() if kind not in Key._fields}
            for line in lines
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no confusions: {error}.") from error


def _run_of(named: str, exp: Path) -> str:
    """The command that makes the results: only a recipe's file can be run."""
    is_recipe = Path(named).suffix in RECIPE_FILES
    if is_recipe:
        return f"vqasr run {shlex.quote(named)}{exp_option(exp)}"
    return f"run the recipe (vqasr run RECIPE{exp_option(exp)})"


def tell_apart(found: Mapping[str, Results]) -> None:
    """Name recipes by their source where several sources have results of one name."""
    sources: dict[str, set[str]] = {}
    for source, results in found.items():
        for row in results.rows:
            sources.setdefault(row["recipe"], set()).add(source)
    for source, results in found.items():
        for row in results.rows:
            if len(sources[row["recipe"]]) > 1:
                row["recipe"] = f"{row['recipe']} ({source})"


def _file_of(named: str, exp: Path) -> Path:
    from pipeline.recipe_file import load

    path = Path(named)
    if path.suffix == ".json":
        return path
    if path.suffix in RECIPE_FILES and path.is_file():
        named = load(path).name
    folder = exp / named
    return (path if path.is_dir() and not folder.is_dir() else folder) / "results.json"


def _check(rows: Any, path: Path) -> None:
    """Refuse what holds no results, before a key or a value of it would end in a traceback."""
    from pydantic import ValidationError

    from stages.acoustic.row_fields import REQUIRED, RowFields

    made_by = "give the results.json that vqasr run wrote"
    if not rows or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no results.", constraint="a list of rows", remedy=made_by)
    for number, row in enumerate(rows, 1):
        try:
            RowFields.model_validate(row)
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
            missing = [one["type"] == "missing" for one in mistakes]
            keys = [".".join(map(str, one["loc"])) for one in mistakes]
            lacks = [key for key, is_so in zip(keys, missing, strict=True) if is_so]
            told = [f"row {number} without {', '.join(lacks)}"] if lacks else []
            told += [
                f"{key} of row {number} is {shown(one['input'])}: {one['msg'].lower()}"
                for key, one, is_so in zip(keys, mistakes, missing, strict=True)
                if not is_so
            ][:MOST_TOLD]
            raise UserError(
                f"{path} holds no results that can be shown.",
                constraint=f"rows with {', '.join(REQUIRED)}" if lacks else "",
                found="; ".join(told),
                remedy=made_by,
            ) from error
