"""Exact resume of stage 1: kill -9 at random moments, then compare with an uninterrupted run.

    python -m tests.faults.kills_quantizer --kills 30 --seed 1

Gumbel and k-means are trained by `vqasr run`, `none` (which no recipe takes yet) by the stage's
function, all with dropout. The kills are shared out over them: five in a row at one place, the
others spread over the training, half of those in the saving of a checkpoint; one more comes
after the last update. Compared are the artifact's files and every tensor of the last checkpoint,
which has the predictor and the optimizer too. The exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from tabulate import tabulate

from tests.faults import kills
from tests.faults.child import Moment, program
from tests.faults.kills import Job, Told

KINDS = ("gumbel", "kmeans", "none")
UPDATES = 60
BURST = 5
LAST = "last.pt"  # the last checkpoint, which the program removes
QUANTIZER: dict[str, Any] = {
    "encoder_layers": [[128, 10, 5], [128, 8, 4], [128, 4, 4], [128, 4, 2]],
    "aggregator_layers": [[128, 2, 1], [128, 3, 1]],
    "codes": 16,
    "prediction_steps": 4,
    "negatives": 4,
    "cross_sample_negatives": 2,
    "dropout": 0.1,
    "dropout_features": 0.2,
    "dropout_aggregator": 0.1,
    "restart_dead_codes_every": 3,
    "restart_dead_codes_until": 0.8,
    "warmup_updates": 5,
    "crop_samples": 16_000,
    "batch_samples": 64_000,
    "checkpoint_every": 5,
}


@dataclass(frozen=True)
class Outcome:
    """A quantizer's row of the table; the last three are of the comparison."""

    kind: str
    told: Told
    tensors: int
    differing: int
    files: int
    files_differing: int

    @property
    def same(self) -> bool:
        return self.tensors > 0 and not self.differing and not self.files_differing


def recipe(kind: str, updates: int) -> dict[str, Any]:
    """A recipe with a small quantizer and 40 spoken sentences: epochs of 14 updates or so."""
    return {
        "corpus": {
            "kind": "synthetic",
            "train_sentences": 40,
            "dev_sentences": 2,
            "test_sentences": 2,
            "lm_sentences": 10,
        },
        "budgets": ["all"],
        "quantizer": QUANTIZER | {"type": kind, "updates": updates},
        "frontend": "unit_bert",
        "machine": {"device": "cpu", "threads": 1},
    }


class Trial:
    """One training in a folder of its own."""

    def __init__(self, folder: Path, kind: str, updates: int, train: Path | None = None) -> None:
        self.folder, self.kind, self.updates = folder, kind, updates
        folder.mkdir(parents=True)
        self.job = Job(program, (), "quantizer", self._checkpoints, self._keep_last)
        if kind == "none":
            self.job = replace(self.job, work=stage_alone, arguments=(folder, train, updates))
        else:
            path = folder / "small.yaml"
            path.write_text(yaml.safe_dump(recipe(kind, updates)), "utf-8")
            exp = str(folder / "exp")
            told = ("run", str(path), "--stop-stage", "1", "--exp", exp)
            self.job = replace(self.job, arguments=told)

    def run(self, moments: list[Moment]) -> Told:
        return kills.run(self.job, moments, self.folder / "trace.txt")

    @property
    def artifact(self) -> Path:
        return self.folder / ("alone" if self.kind == "none" else "exp/small/1-quantizer")

    @property
    def train(self) -> Path:
        """The manifest of the training speech."""
        return self.folder / "exp" / "small" / "0-prepare-train"

    def _scratch(self) -> Iterator[Path]:
        if self.kind == "none":
            yield self.artifact / "scratch"
        else:
            yield from (self.folder / "exp" / "store").glob("quantizer-*.partial/scratch")

    def _checkpoints(self) -> Iterator[Path]:
        for scratch in self._scratch():
            try:
                names = os.listdir(scratch)
            except FileNotFoundError:
                continue
            yield from (scratch / name for name in names if "sha256" not in name)

    def _keep_last(self) -> None:
        kept = self.folder / LAST
        for scratch in self._scratch() if not kept.exists() else ():
            try:
                os.link(scratch / f"checkpoint-{self.updates:08d}.pt", kept)
            except FileNotFoundError:
                continue

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the last checkpoint, by its path: weights and optimizer."""
        state = torch.load(self.folder / LAST, weights_only=True)
        found: dict[str, torch.Tensor] = {}
        _collect(state["model"], "model", found)
        _collect(state["last_optimizer_state"], "optimizer", found)
        return found

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the artifact's files; not of its stamp, which tells the seconds."""
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.artifact.iterdir()
            if path.is_file() and path.name != "stamp.json"
        }


def stage_alone(folder: Path, train: Path, updates: int) -> None:
    """Stage 1 without a quantizer, on a manifest of a run before."""
    from pipeline.recipe import QuantizerSettings
    from pipeline.stage import StepContext
    from stages.quantizer import stage

    torch.set_num_threads(1)
    out = folder / "alone"
    out.mkdir(exist_ok=True)
    settings = QuantizerSettings(**QUANTIZER | {"type": "none", "updates": updates})
    stage.run(StepContext(out, {"train": train}, "cpu", folder / "tb"), settings, ["train"], 1)


def _collect(value: Any, name: str, found: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found[name] = value
    elif isinstance(value, dict):
        for key, part in value.items():
            _collect(part, f"{name}.{key}", found)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            _collect(part, f"{name}.{number}", found)


def differing(a: dict[str, Any], b: dict[str, Any]) -> int:
    """How many names are missing on a side or have other content; tensors bit for bit."""

    def same(x: Any, y: Any) -> bool:
        if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
            return bool(x == y)
        bits = [t.contiguous().flatten().view(torch.uint8) for t in (x, y)]
        return x.shape == y.shape and x.dtype == y.dtype and torch.equal(*bits)

    return sum(not (name in a and name in b and same(a[name], b[name])) for name in a | b)


def measure(
    root: Path, kills_by_kind: dict[str, int], seed: int, updates: int = UPDATES
) -> Iterator[Outcome]:
    """Train each kind twice, once killed so often, and compare."""
    rng = random.Random(seed)
    train: Path | None = None
    for kind, count in kills_by_kind.items():
        whole = Trial(root / kind / "whole", kind, updates, train)
        once = whole.run([])
        if kind != "none":
            train = whole.train
        moments = moments_of(rng, count, updates, once)
        killed = Trial(root / kind / "killed", kind, updates, train)
        told = killed.run(moments)
        tensors, files = whole.tensors(), whole.hashes()
        told.most_files = max(told.most_files, once.most_files)
        yield Outcome(
            kind,
            told,
            len(tensors),
            differing(tensors, killed.tensors()),
            len(files),
            differing(files, killed.hashes()),
        )


def moments_of(rng: random.Random, count: int, updates: int, once: Told) -> list[Moment]:
    """Five in a row at one place where there are as many, the others spread; one at the end."""
    in_a_row = BURST if count >= BURST else 0
    moments = kills.spread(rng, count - in_a_row, updates, once)
    at, second = rng.randrange(1, updates), once.seconds / updates
    moments += [Moment(at, rng.uniform(0, second)) for _ in range(in_a_row)]
    after = Moment(updates, rng.uniform(0, 2 * second))  # it may come too late to hit
    return [*sorted(moments, key=lambda moment: moment.unit), after]


def table(outcomes: list[Outcome]) -> str:
    """For people."""
    rows = [
        [
            o.kind,
            o.told.kills,
            o.told.in_saves,
            o.told.repeated,
            o.told.most_files,
            f"{o.differing} of {o.tensors}",
            f"{o.files_differing} of {o.files}",
        ]
        for o in outcomes
    ]
    headers = [
        "quantizer",
        "kills",
        "in a save",
        "updates done again",
        "most checkpoint files",
        "tensors differing",
        "files differing",
    ]
    return tabulate(rows, headers)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    shares = {kind: chosen.kills // len(KINDS) for kind in KINDS}
    shares["gumbel"] += chosen.kills - sum(shares.values())
    with tempfile.TemporaryDirectory(prefix="vqasr-kills-") as folder:
        outcomes = []
        for outcome in measure(Path(folder), shares, chosen.seed):
            outcomes.append(outcome)
            print(f"{outcome.kind}: {'same' if outcome.same else 'DIFFERENT'}", flush=True)
    print(table(outcomes))
    print(f"seed {chosen.seed}, {UPDATES} updates, a checkpoint every 5")
    return 0 if all(outcome.same for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
