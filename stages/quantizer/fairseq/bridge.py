"""The only way to fairseq: makes fairseq 0.12.2 (2022) import on today's Python and libraries.

What stands in the way, and what is done about it for as long as the import takes:
- Python >= 3.11 refuses a dataclass default whose class has no hash, which dataclasses with an
  `__eq__` have not: such a class is given `object.__hash__`.
- `fairseq_cli.train` takes the root logger over, to print on the terminal.
`np.int` and `np.float`, which numpy dropped, are named only in functions that we never call.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from pipeline.errors import RunError


def import_fairseq(module: str = "fairseq") -> ModuleType:
    """Import fairseq or a module of it (`fairseq_cli.train`), leaving nothing else changed.

    Raises:
        RunError: it is not installed, or it does not import here.
    """
    if module in sys.modules:
        return sys.modules[module]
    with ExitStack() as patches:
        for patch in (_hashable_defaults, _root_logger_kept, _quiet):
            patches.enter_context(patch())
        try:
            importlib.import_module("fairseq")
            return importlib.import_module(module)
        except ImportError as error:
            raise RunError(
                f"fairseq cannot be imported: {error}",
                remedy="make setup, which installs fairseq 0.12.2; then: vqasr check",
            ) from error


@contextmanager
def _hashable_defaults() -> Iterator[None]:
    get_field = dataclasses._get_field  # type: ignore[attr-defined]

    def get_field_of_hashable(cls: type, name: str, *rest: Any) -> Any:
        default = cls.__dict__.get(name)
        if isinstance(default, dataclasses.Field):
            default = default.default
        kind = type(default)
        if dataclasses.is_dataclass(kind) and kind.__hash__ is None:
            kind.__hash__ = object.__hash__
        return get_field(cls, name, *rest)

    dataclasses._get_field = get_field_of_hashable  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dataclasses._get_field = get_field  # type: ignore[attr-defined]


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    held = logging.NullHandler()  # logging.basicConfig does nothing where there is a handler
    root.addHandler(held)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings that fairseq's old code gives rise to: no user can act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
