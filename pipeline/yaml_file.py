"""YAML as recipes use it: plain values, read such that a hostile text costs next to nothing.

Refused are tags that name code, keys that stand twice (of which YAML would keep the last), texts
far larger than a recipe, and references that unfold into millions of values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import brief, shown

MOST_BYTES = 2**18
MOST_VALUES = 50_000  # with what is referred to counted each time


class _Loader(yaml.SafeLoader):
    """Also refuses a mapping that has a key twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line}: the key {shown(name)} stands twice")
            if name is not None:
                seen.add(name)
        return node


def read(path: Path) -> Any:
    """The values of a YAML file.

    Raises:
        ValueError: it is no such file; the reason in one line.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES // 1024} KiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8") from error
    return parse(text)


def parse(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        ValueError: it is none; the reason in one line.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    # Beside its own errors, PyYAML lets through what the making of numbers and dates raises.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(_reason(error)) from error
    except (ArithmeticError, RecursionError) as error:
        raise ValueError(brief(error)) from error
    waiting, seen = [values], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
        if seen + len(waiting) > MOST_VALUES:
            raise ValueError(f"it comes to more than {MOST_VALUES} values")
    return values


def _reason(error: Exception) -> str:
    told = " ".join(str(error).split())
    return told[:300] if told and isinstance(error, yaml.YAMLError | ValueError) else brief(error)
