"""Models in HuggingFace form that a user gives: their files are looked at before one is built.

The header of a safetensors file is checked by its library against the file's size; here it is
compared with the model that the settings stand for, of which only sizes are made for that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UserError, VqasrError, brief

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_CONFIG_BYTES = 2**20
Read = TypeVar("Read")


def reading(what: str, path: Path, read: Callable[[], Read], remedy: str) -> Read:
    """What `read` returns.

    Raises:
        UserError: it failed, on a file that is damaged, hostile or of another kind.
    """
    try:
        return read()
    except VqasrError:
        raise
    except Exception as error:  # such a file can end in an exception of any kind
        raise UserError(
            f"{what}: {path} cannot be read.", found=brief(error), remedy=remedy
        ) from error


def config_of(folder: Path) -> dict[str, Any]:
    """The settings of the model in `folder`.

    Raises:
        ValueError, OSError: there are none.
    """
    with open(folder / CONFIG, "rb") as file:
        content = file.read(MOST_CONFIG_BYTES + 1)
    if len(content) > MOST_CONFIG_BYTES:
        raise ValueError(f"{CONFIG} is larger than {MOST_CONFIG_BYTES // 2**20} MiB")
    told = json.loads(content)
    if not isinstance(told, dict):
        raise ValueError(f"{CONFIG} is no mapping")
    return told


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a safetensors file. Reads the header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def check_fit(
    found: Mapping[str, tuple[int, ...]], make: Callable[[], nn.Module], only: str = ""
) -> None:
    """Compare tensors with those of the model that `make` builds, without their memory.

    Args:
        only: how the names begin of tensors that may not be missing.

    Raises:
        ValueError: names or shapes differ.
    """
    import torch

    with torch.device("meta"):
        expected = {name: tuple(w.shape) for name, w in make().state_dict().items()}
    for name in expected:
        if name not in found and name.startswith(only):
            raise ValueError(f"{name} is missing")
    for name, shape in found.items():
        if name not in expected:
            raise ValueError(f"{name[:80]} is not known")
        if shape != expected[name]:
            raise ValueError(f"{name} of {shape} where the settings ask for {expected[name]}")
