"""Which recipe may be meant where there is none of the name given."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import UserError, closest

FOLDER = "recipes"
MOST_LISTED = 4


def no_such_recipe(path: Path) -> UserError:
    """The error of a recipe that was asked for by the user and is not there.

    Its folder is looked through, and recipes/ in it: so `digits` finds recipes/digits.yaml.
    """
    return UserError(f"No such recipe: {path}; {_suggested(path)}")


def no_such_base(asking: Path, base: str) -> UserError:
    """The error of a recipe that the recipe `asking` names as its base and that is not there."""
    path = asking.parent / base
    told = f"{base} is not beside it" if path.parent == asking.parent else f"there is no {path}"
    like = closest(_stem(path), _recipes_in(path.parent))
    meant = f"; did you mean {Path(base).with_name(f'{like[0]}.yaml')}?" if like else ""
    return UserError(
        f"{asking}: base: {told}{meant}",
        remedy=f"copy {path.name} beside it, or write a path, absolute or relative to its folder",
    )


def _suggested(path: Path) -> str:
    # Of two with the same name the one that lies where it was looked for.
    found = _recipes_in(path.parent / FOLDER) | _recipes_in(path.parent)
    if not found:
        return "check the path"
    like = closest(_stem(path), found, MOST_LISTED)
    listed = [_shortest(found[name]) for name in like or sorted(found)[:MOST_LISTED]]
    if like:
        also = f" There are also: {', '.join(listed[1:])}" if listed[1:] else ""
        return f"did you mean {listed[0]}?{also}"
    more = len(found) - len(listed)
    return f"there are {', '.join(listed)}{f' and {more} more' if more else ''}"


def _recipes_in(folder: Path) -> dict[str, Path]:
    """By name without its suffix: ".yaml" would make any two names alike."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _stem(path: Path) -> str:
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def _shortest(path: Path) -> str:
    """The path as given, or relative to the working directory where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
