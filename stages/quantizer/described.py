"""What kind of model stage 1 makes or takes over, as a recipe tells it: JSON alone is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.quantizer_settings import MOST_UNITS_LOG2, QuantizerSettings, too_many_units

# Settings of a recipe, and what an exported model calls them; what it does not tell is not here.
EXPORTED = {"type": "quantizer_type", "aggregator": "aggregator"}
DEFAULTS = {"quantizer_type": "gumbel", "aggregator": "cnn"}  # of QuantizerConfig, left out there


def described(quantizer: QuantizerSettings) -> dict[str, Any]:
    """The settings `type`, `aggregator` and `infonce` of the model, as far as they are known."""
    if quantizer.from_ is None:
        return {name: getattr(quantizer, name) for name in (*EXPORTED, "infonce")}
    told = _config(quantizer.from_)
    if told is None:
        return {}  # the plan says what is wrong with such a folder
    found = {name: told.get(theirs, DEFAULTS[theirs]) for name, theirs in EXPORTED.items()}
    if found["aggregator"] == "gru" and not told.get("gru_over_time", False):
        found["aggregator"] = "gru over the batch (fairseq's)"
    return found


def unfit(
    front_end: str, quantizer: QuantizerSettings, wanted: Mapping[str, tuple[Any, ...]]
) -> str | None:
    """Why a front-end cannot do with this quantizer, in one line; None if it can.

    Args:
        wanted: by name of a setting, the values that will do.
    """
    found = described(quantizer)
    wrong = [name for name, values in wanted.items() if name in found and found[name] not in values]
    if not wrong:
        return None
    needs = ", ".join(f"{name} {' or '.join(_yaml(v) for v in wanted[name])}" for name in wrong)
    has = ", ".join(f"{name} {_yaml(found[name])}" for name in wrong)
    where = "the quantizer" if quantizer.from_ is None else f"quantizer.from, {quantizer.from_},"
    return f"front-end {front_end} needs quantizer {needs}; {where} has {has}"


def innumerable(
    front_end: str,
    quantizer: QuantizerSettings,
    groups: int | None = None,
    codes: int | None = None,
) -> str | None:
    """Why the units of so many codes cannot be told apart, in one line; None if they can.

    Args:
        groups, codes: those of the units, where they are not the quantizer's.
    """
    told: Mapping[str, Any] = {"groups": quantizer.groups, "codes": quantizer.codes}
    if quantizer.from_ is not None:
        told = _config(quantizer.from_) or {}
    groups, codes = groups or told.get("groups"), codes or told.get("codes")
    if not (isinstance(groups, int) and isinstance(codes, int) and too_many_units(groups, codes)):
        return None
    return (
        f"front-end {front_end} needs at most 2 ** {MOST_UNITS_LOG2} combinations of codes, which "
        f"are numbered in int64; there are {codes} codes in each of {groups} groups: "
        "set fewer groups or codes"
    )


def _config(exported: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((exported / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
