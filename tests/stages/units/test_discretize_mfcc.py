"""Stage 2 on k-means of MFCC: the units of the model, and shards that survive a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.manifest import Manifest, Utterance
from pipeline.stage import StepContext
from stages.quantizer import health
from stages.quantizer.kmeans_mfcc import CODEBOOK, MfccKmeans
from stages.units import discretize_mfcc
from stages.units.corpus import FACTS, UnitCorpus

MakeContext = Callable[..., StepContext]


@pytest.fixture
def inputs(tmp_path: Path, write_noise: Callable[..., Path]) -> dict[str, Path]:
    rows = []
    for number in range(5):
        samples = 4000 + 160 * number
        write_noise(tmp_path / "manifest" / f"{number}.wav", samples / 16_000, number)
        rows.append(Utterance(f"u{number}", "s", f"{number}.wav", True, samples, 0.3, None))
    Manifest(rows, tmp_path / "manifest").write()
    (tmp_path / "quantizer").mkdir()
    centres_GVD = np.random.default_rng(0).standard_normal((2, 6, 20)).astype(np.float32)
    centres_GVD[1, :, -1] = 0
    MfccKmeans(centres_GVD, 320, 4000).save(tmp_path / "quantizer")
    return {"manifest": tmp_path / "manifest", "quantizer": tmp_path / "quantizer"}


def test_every_utterance_gets_the_units_of_the_model(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    ctx = context("units", inputs)
    discretize_mfcc.discretize(ctx)
    corpus, manifest = UnitCorpus(ctx.folder), Manifest.load(inputs["manifest"])
    model = MfccKmeans.load(inputs["quantizer"])
    assert list(corpus) == [u.id for u in manifest]
    for utterance in manifest:
        units_FG = model.units(manifest.samples(utterance))
        np.testing.assert_array_equal(corpus[utterance.id], units_FG)
        assert units_FG.shape == (utterance.samples // 320 + 1, 2)
    facts = json.loads((ctx.folder / FACTS).read_text())
    assert facts == {"utterances": 5, "groups": 2, "codes": 6, "hop_samples": 320}


def test_a_killed_step_keeps_its_shards_and_writes_the_same_bytes(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discretize_mfcc, "UTTERANCES_PER_SHARD", 2)
    whole, killed = context("whole", inputs), context("killed", inputs)
    discretize_mfcc.discretize(whole)
    units, asked = MfccKmeans.units, 0

    def until(model: MfccKmeans, samples: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise KeyboardInterrupt
        return units(model, samples)

    monkeypatch.setattr(MfccKmeans, "units", until)
    with pytest.raises(KeyboardInterrupt):
        discretize_mfcc.discretize(killed)
    asked = 100
    discretize_mfcc.discretize(killed)
    assert asked - 100 == 5 - 2  # the first shard was there
    for path in whole.folder.iterdir():
        assert path.read_bytes() == (killed.folder / path.name).read_bytes()


def test_centres_that_collapsed_are_not_used(context: MakeContext, inputs: dict[str, Path]) -> None:
    report = health.report(np.full((50, 2), 3), 6)
    (inputs["quantizer"] / CODEBOOK).write_text(json.dumps(report))
    ctx = context("units", inputs)
    with pytest.raises(RunError, match=r"(?s)collapsed.*1 of 6, 1 of 6 codes.*other, speech"):
        discretize_mfcc.discretize(ctx)
    assert not list(ctx.folder.iterdir())
