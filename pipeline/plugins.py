"""Corpora, front-ends and decoders are files in a folder, found by their name."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from pipeline.errors import UserError, nearest


def names(package: str) -> list[str]:
    """The plug-ins of `package`, without importing one; a leading underscore hides a file."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def find(package: str, name: str, what: str) -> ModuleType:
    """Import plug-in `name` of `package`; `what` says in words what it is.

    Raises:
        UserError: there is none of that name; those there are get listed.
    """
    known = names(package)
    if name not in known:
        raise UserError(f"Unknown {what} '{name}'.", remedy=nearest(name, known))
    return importlib.import_module(f"{package}.{name}")
