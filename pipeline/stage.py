"""Stage and Step: number, name, the settings it depends on, what it reads and writes, run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.console import Progress, say


def in_links(name: str) -> str:
    """A title, or a part of one, as the names of links have it."""
    return name.replace(" ", "-").replace("/", "-")


@dataclass(frozen=True)
class StepContext:
    """What a running step is given.

    Attributes:
        folder: where it writes. What lies there from a killed run is its own, to go on from;
            what is to be gone at the end goes under `scratch`.
        inputs: finished artifacts by role, as named in `Step.inputs`.
        device: what to compute on, "cpu" or "cuda".
        tensorboard: the folder for TensorBoard logs, outside of the artifact.
    """

    folder: Path
    inputs: Mapping[str, Path]
    device: str
    tensorboard: Path
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("vqasr"))

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints: kept when a run is killed, removed when it is done."""
        path = self.folder / "scratch"
        path.mkdir(exist_ok=True)
        return path

    def say(self, text: str) -> None:
        """A line for the user and the log."""
        say(f"  {text}")

    def progress(self, total: int, what: str, unit: str = "it", done: int = 0) -> Progress:
        """A bar or plain lines; see pipeline.console.Progress."""
        return Progress(total, what, unit, done)


@dataclass(frozen=True)
class Step:
    """One unit of work that makes one artifact.

    Attributes:
        stage, number: the stage that it belongs to, by name and number.
        label: what tells it from its siblings, such as `train` or `10min`; may be empty.
        version: raised by hand when the same settings are to give another result.
        settings: JSON values that the result depends on.
        inputs: the steps whose artifacts it reads, by role.
        run: does the work, in the folder that it is given.
        fold: the cut of the corpus that it belongs to, where a recipe has several and it is not
            the same for all of them.
        audio_root: where audio that the artifact leaves in place lies (stage 0 only).
        audio_files: its files by utterance, relative to there.
        unknown: content is not known yet (nobody has read the corpus): never fresh.
        shared: several processes may run it at once in the same folder; `run` then has to
            share the work out, and returns when all of it is done, by whomever.
        beside: it tells of other artifacts and nothing reads it. Where what it reads is not there
            any more, nothing is made again for its sake.
    """

    stage: str
    number: int
    label: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, Step]
    run: Callable[[StepContext], None]
    budget: str | None = None
    seed: int | None = None
    fold: str | None = None
    audio_root: Path | None = None
    audio_files: Mapping[str, str] = field(default_factory=dict)
    unknown: bool = False
    shared: bool = False
    beside: bool = False

    @property
    def place(self) -> str:
        """The label behind the fold: `10min`, `lucas/10min`, `lucas`; may be empty."""
        return "/".join(part for part in (self.fold, self.label) if part)

    @property
    def title(self) -> str:
        """For people: `5 finetune 10min`, `5 finetune lucas/10min`."""
        return f"{self.number} {self.stage} {self.place}".rstrip()

    @property
    def link_name(self) -> str:
        """The readable name under exp/<recipe>: `5-finetune-10min`, `5-finetune-lucas-10min`."""
        return in_links(self.title)

    @cached_property
    def signature(self) -> str:
        """16 hex digits that settings, version and the signatures of all inputs determine."""
        told = {
            "stage": self.stage,
            "version": self.version,
            "settings": self.settings,
            "inputs": {role: step.signature for role, step in self.inputs.items()},
        }
        if self.unknown:
            told["unknown"] = True
        text = json.dumps(told, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def artifact_name(self) -> str:
        return f"{self.stage}-{self.signature}"
