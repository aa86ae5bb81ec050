"""A tiny recipe run to its end, of a model that babbles: its hypotheses are not empty."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from pipeline.cli import cli
from pipeline.manifest import Manifest
from pipeline.recipe_file import load
from pipeline.runner import Run
from pipeline.stage import Step
from pipeline.store import Store
from stages.acoustic import finetune
from stages.plan import plan
from stages.prepare.sources import FileHashes
from stages.use.chosen import choose, command_of
from stages.use.export import export
from stages.use.folder import Hearing
from tests.babbling import babbling

LONG, LONG_SECONDS = "test-long", 5.0  # of test, where the model has positions for 2.6 s
SENTENCES = ["turn left", "go home now", "stop", "turn right", "go left", "stop right now"]
QUANTIZER = {
    "type": "gumbel",
    "encoder_layers": [[8, 10, 5], [8, 8, 4], [8, 4, 4], [8, 4, 2]],
    "aggregator_layers": [[8, 2, 1], [8, 3, 1]],
    "codes": 4,
    "prediction_steps": 2,
    "negatives": 2,
    "updates": 6,
    "crop_samples": 4000,
    "batch_samples": 12_000,
}
BERT = {"layers": 1, "dim": 16, "ffn_dim": 16, "heads": 2, "updates": 4, "warmup_updates": 2}
RECIPE: dict[str, Any] = {
    "corpus": {"kind": "tsv", "train": "train.tsv", "dev": "dev.tsv", "test": {"test": "test.tsv"}},
    "budgets": ["2s", "all"],
    "quantizer": QUANTIZER,
    "bert": BERT | {"batch_frames": 400, "positions": 256},
    "lm": {"order": 2},
    "frontend": "unit_bert",
    "finetune": {"updates": 2, "learning_rate": 1e-6, "batch_frames": 400, "subsample": 1},
    "decode": {"lm_weights": [0.5], "word_scores": [-0.5, 0.5], "beam": 20},
    "machine": {"device": "cpu", "threads": 1},
}


def speech(seconds: float, seed: int, rate_hz: int = 16_000) -> np.ndarray:
    """Tones that change, with pauses between them, and some noise."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate_hz)
    step = rate_hz // 20
    count = samples // step + 1
    pitches_hz = np.repeat(rng.uniform(100, 3000, count), step)[:samples]
    loudness = np.repeat(rng.choice([0.0, 0.2, 0.4], count), step)[:samples]
    tone = loudness * np.sin(2 * np.pi * np.cumsum(pitches_hz) / rate_hz)
    return (tone + 0.003 * rng.standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="session")
def make_speech() -> Callable[..., np.ndarray]:
    """`make_speech(seconds, seed, rate_hz)`: see `speech`."""
    return speech


@dataclass(frozen=True)
class Finished:
    """A run that is done."""

    recipe_path: Path
    exp: Path
    changes: tuple[str, ...] = ()

    @property
    def store(self) -> Store:
        return Store(self.exp / "store")

    def job(self) -> Run:
        recipe = load(self.recipe_path, self.changes)
        steps = plan(recipe, FileHashes(self.exp / "store" / "files.json", "look"))
        command = command_of(self.recipe_path, self.changes, self.exp)
        links = self.exp / recipe.name
        return Run(steps, self.store, links, None, 7, False, "cpu", command)

    def step(self, stage: str, label: str) -> Step:
        return next(s for s in self.job().steps if (s.stage, s.label) == (stage, label))

    def export(self, folder: Path, budget: str | None = "all") -> Path:
        job = self.job()
        recipe = load(self.recipe_path, self.changes)
        export(choose(recipe, job.steps, budget, None, None), job, folder)
        return folder

    def hypotheses(self, decoder: str, label: str = "test/all") -> dict[str, str]:
        """Of stage 6, by utterance."""
        trn = self.store.path(self.step("decode", label)) / f"{decoder}.trn"
        rows = (line.rpartition("(") for line in trn.read_text("utf-8").splitlines())
        return {name.removesuffix(")"): words.strip() for words, _, name in rows}

    def audio(self, split: str = "test/test") -> dict[str, Path]:
        """The recordings of a split, by utterance."""
        manifest = Manifest.load(self.store.path(self.step("prepare", split)))
        return {u.id: manifest.audio_path(u) for u in manifest}


@pytest.fixture(scope="session")
def finish(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Finished]:
    """`finish("section.key=value", ...)`: the tiny recipe, run so, in one folder of results."""
    folder = tmp_path_factory.mktemp("use")
    _write_corpus(folder / "corpus")
    path = folder / "tiny.yaml"
    values = RECIPE | {"corpus": RECIPE["corpus"] | {"root": str(folder / "corpus")}}
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")

    def run(*changes: str) -> Finished:
        before = torch.get_num_threads()
        words = [word for change in changes for word in ("--set", change)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetune, "_new_model", babbling(finetune._new_model))
            args = ["run", str(path), "--exp", str(folder / "exp"), *words]
            cli.main(args, standalone_mode=False)
        torch.set_num_threads(before)
        return Finished(path, folder / "exp", changes)

    return run


@pytest.fixture(scope="session")
def finished(finish: Callable[..., Finished]) -> Finished:
    return finish()


@pytest.fixture(scope="session")
def exported(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the largest budget's model; read only."""
    return finished.export(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="session")
def often_cut(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder, but that recordings are cut at 4 s instead of 60: read only."""
    folder = tmp_path_factory.mktemp("often") / "cut"
    shutil.copytree(exported, folder)
    Hearing(longest_samples=64_000).write(folder)
    return folder


def _write_corpus(root: Path) -> None:
    seed = 0
    for split, speakers in (("train", "abcd"), ("dev", "e"), ("test", "f")):
        rows: Sequence[str] = []
        for number in range(3 * len(speakers)):
            seed += 1
            name, speaker = f"{split}-{number:02d}", speakers[number % len(speakers)]
            path = root / "audio" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speech(0.6 + 0.1 * (seed % 7), seed), 16_000, "PCM_16")
            words = SENTENCES[seed % len(SENTENCES)]
            rows = [*rows, f"{name}\t{speaker}\taudio/{name}.wav\t{words}\n"]
        if split == "test":  # longer than the model has positions: read in windows
            soundfile.write(root / "audio" / "long.wav", speech(LONG_SECONDS, 99), 16_000, "PCM_16")
            rows = [*rows, f"{LONG}\tf\taudio/long.wav\tstop\n"]
        header = "utt_id\tspeaker\tpath\ttranscript\n"
        (root / f"{split}.tsv").write_text(header + "".join(rows), "utf-8")
