"""A small corpus on disk, recipes over it, and the context of a step, for tests of all parts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import soundfile
import yaml

from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.runner import Run
from pipeline.stage import Step, StepContext
from pipeline.store import Store

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A busy machine is no fault of the code.
hypothesis.settings.register_profile(
    "no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no clock")

HEADER = "utt_id\tspeaker\tpath\ttranscript\n"
SENTENCES = ["turn left", "turn right", "go home now", "stop", "go left", "stop right now"]


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., StepContext]:
    """`context("name", role=folder)`: what a step is given, working in the folder `name`."""

    def make(name: str, inputs: Mapping[str, Path] | None = None) -> StepContext:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        return StepContext(folder, dict(inputs or {}), "cpu", tmp_path / "tensorboard" / name)

    return make


@pytest.fixture
def write_noise() -> Callable[..., Path]:
    """`write_noise(path, seconds, seed)`: a WAV of noise, the same for the same seed."""

    def write(path: Path, seconds: float = 0.4, seed: int = 0, rate_hz: int = 16_000) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.RandomState(seed).standard_normal(round(seconds * rate_hz))
        soundfile.write(path, 0.1 * noise, rate_hz, "PCM_16")
        return path

    return write


@pytest.fixture
def corpus(tmp_path: Path, write_noise: Callable[..., Path]) -> Path:
    """Lists train, dev, test and more, of four, one, one and one speakers, with their audio."""
    root = tmp_path / "corpus"
    seed = 0
    for split, speakers in (("train", "abcd"), ("dev", "e"), ("test", "f"), ("more", "g")):
        rows = []
        for number in range(3 * len(speakers)):
            seed += 1
            name, speaker = f"{split}-{number:02d}", speakers[number % len(speakers)]
            write_noise(root / "audio" / f"{name}.wav", 0.4 + 0.01 * (seed % 7), seed)
            words = SENTENCES[seed % len(SENTENCES)]
            rows.append(f"{name}\t{speaker}\taudio/{name}.wav\t{words}\n")
        (root / f"{split}.tsv").write_text(HEADER + "".join(rows), "utf-8")
    return root


@pytest.fixture
def values(corpus: Path) -> dict[str, Any]:
    """A recipe's sections, small enough for a test that runs every stage."""
    return {
        "corpus": {
            "kind": "tsv",
            "root": str(corpus),
            "train": "train.tsv",
            "dev": "dev.tsv",
            "test": {"test": "test.tsv"},
        },
        "budgets": ["2s", "all"],
        "quantizer": {
            "type": "gumbel",
            "encoder_layers": [[8, 10, 5], [8, 8, 4], [8, 4, 4], [8, 4, 2]],
            "aggregator_layers": [[8, 2, 1], [8, 3, 1]],
            "codes": 4,
            "prediction_steps": 2,
            "negatives": 2,
            "updates": 6,
            "crop_samples": 4000,
            "batch_samples": 12_000,
            "checkpoint_every": 2,
        },
        "bert": {
            "layers": 1,
            "dim": 16,
            "ffn_dim": 16,
            "heads": 2,
            "updates": 6,
            "warmup_updates": 2,
            "batch_frames": 100,
            "checkpoint_every": 2,
        },
        "lm": {"order": 2},
        "frontend": "unit_bert",
        "finetune": {"updates": 6, "batch_frames": 100, "subsample": 1, "checkpoint_every": 2},
        "decode": {"lm_weights": [0.0, 1.0], "word_scores": [0.0], "beam": 5},
        "machine": {"device": "cpu", "threads": 1},
    }


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    """`write_recipe(values, "name")`: a recipe file in the test's folder."""

    def write(values: Mapping[str, Any], name: str = "tiny") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(values), sort_keys=False), "utf-8")
        return path

    return write


@pytest.fixture
def make_recipe(write_recipe: Callable[..., Path], values: dict[str, Any]) -> Callable[..., Recipe]:
    """`make_recipe("section.key=value", ...)`: the small recipe, changed as `--set` does."""
    return lambda *changes: load(write_recipe(values), changes)


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., list[Step]]:
    """`make_plan(recipe, mode)`: its steps, with the audio hashes of a run in the test's exp."""
    from stages.plan import plan
    from stages.prepare.sources import FileHashes

    def make(recipe: Recipe, mode: str = "look") -> list[Step]:
        return plan(recipe, FileHashes(tmp_path / "exp" / "store" / "files.json", mode))

    return make


class Fakes:
    """Steps that only write down that they ran.

    Attributes:
        ran: titles, in the order of work.
        content: what a step writes, by title; otherwise its title.
        raises: what a step raises, by title, once.
    """

    def __init__(self, exp: Path) -> None:
        self.exp = exp
        self.ran: list[str] = []
        self.content: dict[str, str] = {}
        self.raises: dict[str, BaseException] = {}

    def steps(self, steps: Sequence[Step]) -> list[Step]:
        """The same plan with fake work."""
        fakes: dict[int, Step] = {}
        for step in steps:
            inputs = {role: fakes[id(source)] for role, source in step.inputs.items()}
            run = partial(self.work, title=step.title)
            fakes[id(step)] = replace(step, inputs=inputs, run=run)
        return list(fakes.values())

    def work(self, ctx: StepContext, *, title: str) -> None:
        self.ran.append(title)
        if error := self.raises.pop(title, None):
            (ctx.folder / "half.txt").write_text("half")
            raise error
        (ctx.folder / "out.txt").write_text(self.content.get(title, title))
        (ctx.folder / "half.txt").unlink(missing_ok=True)

    def run(self, steps: Sequence[Step], **named: Any) -> Run:
        told: dict[str, Any] = {
            "steps": steps,
            "store": Store(self.exp / "store"),
            "links": self.exp / "tiny",
            "first": None,
            "last": 7,
            "force": False,
            "device": "cpu",
            "command": "vqasr run tiny.yaml",
        }
        return Run(**(told | named))

    def carry_out(self, steps: Sequence[Step], **named: Any) -> list[str]:
        """Run what is pending; the titles of what ran."""
        self.ran.clear()
        self.run(steps, **named).carry_out()
        return list(self.ran)


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path / "exp")


@pytest.fixture
def sclite() -> Callable[[Path, Path], dict[str, tuple[int, int, int, int]]]:
    """What sclite counts in TRN files of references and of hypotheses, utterance by utterance:
    substitutions, deletions, insertions, words. Skips where there is no sclite.
    """
    program = shutil.which("sclite") or shutil.which("/usr/lib/sctk/bin/sclite")
    if program is None:
        pytest.skip("sclite is not there (Debian: apt-get install sctk)")
    command = [program, "-i", "spu_id", "-s", "-e", "utf-8", "-o", "pralign", "stdout"]

    def run(references: Path, hypotheses: Path) -> dict[str, tuple[int, int, int, int]]:
        files = ["-r", str(references), "trn", "-h", str(hypotheses), "trn"]
        done = subprocess.run([*command, *files], capture_output=True, text=True, check=True)
        found = r"^id: \((.*)\)$|^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$"
        told = {}
        for (name, *_), (_, *counts) in pairwise(re.findall(found, done.stdout, re.MULTILINE)):
            if name:
                correct, substituted, deleted, inserted = map(int, counts)
                words = correct + substituted + deleted
                told[name] = substituted, deleted, inserted, words
        return told

    return run
