"""A stored BERT, measured again, has the figures that stage 3 wrote beside it; and those of dev."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.stage import StepContext
from stages.units import bert
from stages.units.vocabulary import Vocabulary, combinations
from tests.benchmarks.masked_accuracy import dev_sets, measure
from tests.stages.units.small_bert import SETTINGS, units


def stamped(folder: Path, **stamp: Any) -> None:
    (folder / "stamp.json").write_text(json.dumps(stamp))


@pytest.fixture
def stored(context: Callable[..., StepContext], tmp_path: Path) -> Path:
    """A BERT in a store: two utterances of fifty were kept back from it."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    rows = {f"u{n}": rng.integers(0, 5, (40, 2)).astype(np.int16) for n in range(50)}
    train, vocabulary = units(tmp_path / "discretize-01", rows), tmp_path / "discretize-02"
    vocabulary.mkdir()
    codebook_GVD = rng.standard_normal((2, 5, 4)).astype(np.float32)
    known = [pair for pair in combinations(2, 5) if pair != (4, 4)]
    Vocabulary.create(known, codebook_GVD).save(vocabulary)
    ctx = context("bert", {"units/train": train, "vocabulary": vocabulary})
    bert.pretrain(ctx, settings=SETTINGS, seed=3)
    folder = tmp_path / "bert-03"
    ctx.folder.rename(folder)
    stamped(
        folder,
        settings=SETTINGS.signed() | {"seed": 3},
        input_signatures={"units/train": "01", "vocabulary": "02"},
    )
    return folder


def test_the_figures_of_stage_3_come_out_again(stored: Path) -> None:
    told = measure(stored)
    assert (told["speech"], told["utterances"]) == ("kept back", 2)
    assert len(told["pretraining.json"]) == 7
    assert told["furthest_from_pretraining.json"] < 2e-5


def test_figures_of_before_are_compared_over_all_chosen_frames(stored: Path) -> None:
    path = stored / "pretraining.json"
    facts: dict[str, Any] = json.loads(path.read_text())
    before = {k: v for k, v in facts.items() if "_mask_" not in k}
    before |= {"kept_back_loss": before["kept_back_loss"] + 0.5}
    path.write_text(json.dumps(before))
    told = measure(stored)
    assert set(told["pretraining.json"]) == {"kept_back_loss", "kept_back_accuracy"}
    assert told["furthest_from_pretraining.json"] == pytest.approx(0.5, abs=2e-5)


def test_the_dev_sets_of_all_folds_are_taken_together(stored: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for fold, frames, accuracy in (("lucas", 30, 0.2), ("george", 10, 0.4)):
        (run / f"3-bert-{fold}-dev").mkdir(parents=True)
        told = {"frames": frames, "accuracy": accuracy}
        facts = {"utterances": 2, "left_out": 1, "figures": {"all": told, "mask": told}}
        (run / f"3-bert-{fold}-dev" / "dev.json").write_text(json.dumps(facts))
    (run / "3-bert").mkdir()
    told = measure(stored, dev_sets(run))["dev"]
    assert (told["sets"], told["utterances"], told["left_out"]) == (2, 4, 2)
    assert told["figures"]["mask"] == {"frames": 40, "accuracy": 0.25}
    assert told["by_set"] == {
        "george-dev": {"frames": 10, "accuracy": 0.4},
        "lucas-dev": {"frames": 30, "accuracy": 0.2},
    }
    assert "dev" not in measure(stored, dev_sets(tmp_path))
