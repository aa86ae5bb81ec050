"""What is done, stale, missing or interrupted, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.provenance import sources_hash
from pipeline.stage import Step
from pipeline.store import Stamp, Store, read_stamp

State = Literal["done", "stale", "missing", "interrupted", "not used"]


@dataclass
class StepState:
    """Where a step stands. `reasons` say why it is not done, `notes` what else to know."""

    step: Step
    state: State
    path: Path
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stamp: Stamp | None = None


def examine(steps: Sequence[Step], store: Store, links: Path) -> list[StepState]:
    """The state of every step, in order. Reads stamps only; `links` is exp/<recipe>."""
    found: dict[int, StepState] = {}
    states = []
    for step in steps:
        state = _examine_one(step, store, links, found)
        found[id(step)] = state
        states.append(state)
    return states


def _examine_one(
    step: Step, store: Store, links: Path, found: Mapping[int, StepState]
) -> StepState:
    path, stamp = store.path(step), store.stamp(step)
    if stamp is not None:
        reasons = _rebuilt_inputs(step, stamp, found)
        state = StepState(step, "stale" if reasons else "done", path, reasons, stamp=stamp)
        if stamp.sources != sources_hash(step):
            state.notes.append("made by other code")
        return state
    reasons = _changes_since(step, links)
    if store.partial(step).exists():
        return StepState(step, "interrupted", path, ["goes on where it stopped", *reasons])
    return StepState(step, "stale" if reasons else "missing", path, reasons)


def _rebuilt_inputs(step: Step, stamp: Stamp, found: Mapping[int, StepState]) -> list[str]:
    """Inputs of the same settings that were rebuilt and came out differently."""
    reasons = []
    for role, source in step.inputs.items():
        upstream = found[id(source)].stamp
        if upstream is not None and upstream.digest != stamp.inputs.get(role):
            reasons.append(f"{source.title} was made anew and differs")
    return reasons


def _changes_since(step: Step, links: Path) -> list[str]:
    """Why the artifact that this recipe used before no longer serves; none: no artifact."""
    old = read_stamp(links / step.link_name)
    if old is None:
        return []
    reasons = []
    if old.version != step.version:
        reasons.append(f"version: {old.version} -> {step.version}")
    before, now = _flat(old.settings), _flat(step.settings)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key, "absent") != now.get(key, "absent"):
            was, is_now = (_short(v.get(key, "absent")) for v in (before, now))
            reasons.append(f"{key}: {was} -> {is_now}")
    for role in sorted(old.input_signatures.keys() | step.inputs.keys()):
        source = step.inputs.get(role)
        if source is None:
            reasons.append(f"no longer reads {role}")
        elif role not in old.input_signatures:
            reasons.append(f"now reads {source.title}")
        elif source.signature != old.input_signatures[role]:
            reasons.append(f"reads {source.title}, which changes")
    return reasons


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    # Through JSON, as the stamp went: a tuple of the recipe is a list there.
    flat: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(values)).items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
