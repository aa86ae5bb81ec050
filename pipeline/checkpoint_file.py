"""Checkpoints that other programs wrote, read such that nothing in the file is run.

A torch checkpoint is a pickle, and a pickle may name any function to be called. Here torch's
restricted reader is used, which makes tensors, numbers, texts and containers alone, with what
fairseq's files hold beside them: `argparse.Namespace`, and meters, of which nothing is kept.
"""

from __future__ import annotations

import argparse
import errno
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import checkpoint_zip
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# Objects that fairseq's trainer of 2019 and 2020 saved beside the model.
METERS = [
    f"{module}.{name}"
    for module in ("fairseq.meters", "fairseq.logging.meters")
    for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
]
NUMBERS = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"]
MOST_MEMORY = 16  # fp32 weights over the file's size; tied ones stand in it once, fp16 is half
BEGINNINGS = (b"PK", b"\x80")  # of a zip, and of a pickle that states its protocol
EXPECTED = "a checkpoint of fairseq: a torch file with `args` or `cfg`, and `model`"


@dataclass(frozen=True)
class Checkpoint:
    """What a fairseq checkpoint says of its model.

    Attributes:
        settings: fairseq's settings of the model, by name.
        weights: fp32 tensors on the CPU, by the parameters' names.
    """

    path: Path
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def architecture(self) -> str:
        """What fairseq calls the model, such as `wav2vec` or `roberta_base`."""
        told = self.settings.get("arch") or self.settings.get("_name")
        return told[:40] if isinstance(told, str) else "unnamed"


class _Ignored:
    """Stands where a file holds an object that nobody needs; keeps nothing of it."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_fairseq(path: Path) -> Checkpoint:
    """Read a checkpoint of fairseq, of 2019's form (`args`) or today's (`cfg`).

    Raises:
        UserError: it is not there, damaged, no checkpoint of fairseq, or asks to run code.
    """
    if not path.is_file():
        raise UserError(f"No such checkpoint: {path}")
    with open(path, "rb") as file:
        if not file.read(2).startswith(BEGINNINGS):  # a text's letters would be read as a pickle's
            raise _no_checkpoint(path, "neither a zip nor a pickle by its first bytes")
    state = _load(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise _no_checkpoint(path, "no `model`")
    told = state.get("args")
    if told is None and isinstance(state.get("cfg"), dict):
        told = state["cfg"].get("model")
    settings = vars(told) if isinstance(told, argparse.Namespace) else told
    if not isinstance(settings, dict):
        raise _no_checkpoint(path, "neither `args` nor `cfg` with the settings of a model")
    return Checkpoint(path, settings, _weights(path, state["model"]))


def check_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor]) -> None:
    """Raise UserError unless there is each expected tensor in its shape, and nothing more."""
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is not known" for name in found if name not in expected]
    wrong += [
        f"{name} of {tuple(found[name].shape)} where {shape} belongs"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise UserError(
            "The checkpoint's weights are not those that its settings ask for.",
            constraint=f"{len(expected)} tensors",
            found="; ".join(wrong[:3]) + more,
        )


def unsupported(name: str, constraint: str, value: Any) -> UserError:
    """The error for a setting of a checkpoint's model that cannot be taken over."""
    return UserError(
        f"The checkpoint's setting {name} is not supported.",
        constraint=constraint,
        found=repr(value)[:80],
    )


def _load(path: Path) -> Any:
    import torch

    ignored = [(_Ignored, name) for name in [*METERS, *NUMBERS]]
    try:
        if zipfile.is_zipfile(path):
            checkpoint_zip.check(path)
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([argparse.Namespace, *ignored]),
        ):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can end in an exception of any kind
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of an offset that lies
            raise
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise UserError(
                f"{path} asks for more than weights, and is not read.",
                constraint="tensors, numbers, texts and argparse.Namespace",
                found=asked[1][:80],
                remedy="take a file from its publisher; nothing of this one was run",
            ) from error
        found = f"a file that is damaged or of another kind ({_kind(error)})"
        raise _no_checkpoint(path, found) from error


def _kind(error: Exception) -> str:
    lines = str(error).splitlines()
    told = lines[0][:80] if lines else ""
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _no_checkpoint(path: Path, found: str) -> UserError:
    return UserError(
        f"{path} is no checkpoint that can be imported.",
        constraint=EXPECTED,
        found=found,
        remedy="get the file again, and compare its size with the publisher's",
    )


def _weights(path: Path, model: Mapping[Any, Any]) -> dict[str, Tensor]:
    import torch

    weights: dict[str, Tensor] = {}
    left = MOST_MEMORY * path.stat().st_size
    for name, value in model.items():
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not isinstance(name, str) or not plain or value.is_meta or value.is_quantized:
            raise _no_checkpoint(path, f"`model` holds {str(name)[:80]!r}, which is no tensor")
        # A view may show a storage many times over, and so may many names.
        left -= 4 * value.numel()
        if left < 0 or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise _no_checkpoint(path, f"{name[:80]} is larger than what the file holds of it")
        weights[name] = value.detach().float()
        if not torch.isfinite(weights[name]).all():
            raise _no_checkpoint(path, f"{name} holds values that are not finite")
    return weights
