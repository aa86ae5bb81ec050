"""Stage 2: units of every utterance, shards that survive a kill, and the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import audio
from pipeline.errors import RunError
from pipeline.manifest import Manifest, Utterance
from pipeline.stage import StepContext
from stages.quantizer import health, stage
from stages.quantizer.model import QuantizerConfig, QuantizerModel
from stages.units import discretize
from stages.units.corpus import FACTS, UnitCorpus, facts_text, shard_path, write_shard
from stages.units.vocabulary import SPECIAL, Vocabulary

MakeContext = Callable[..., StepContext]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Seven utterances, and an untrained quantizer of 2 x 6 codes."""
    rng, rows = np.random.RandomState(0), []
    for number in range(7):
        samples = (0.1 * rng.standard_normal(4000 + 160 * number)).astype(np.float32)
        audio.write(tmp_path / "manifest" / f"{number}.flac", samples)
        rows.append(Utterance(f"u{number}", "s", f"{number}.flac", True, len(samples), 0.3, None))
    Manifest(rows, tmp_path / "manifest").write()
    torch.manual_seed(0)
    config = QuantizerConfig(
        encoder_layers=[(8, 10, 5), (8, 8, 4), (8, 4, 4)],
        aggregator_layers=[(8, 2, 1)],
        groups=2,
        codes=6,
        input_norm=True,
        projection_init="normal",
        codebook_init="normal",
    )
    QuantizerModel(config).save_pretrained(tmp_path / "quantizer")
    return {"manifest": tmp_path / "manifest", "quantizer": tmp_path / "quantizer"}


def test_every_utterance_gets_the_units_of_the_model(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    ctx = context("units", inputs)
    discretize.discretize(ctx)
    corpus, manifest = UnitCorpus(ctx.folder), Manifest.load(inputs["manifest"])
    model = QuantizerModel.from_pretrained(inputs["quantizer"]).eval()
    assert list(corpus) == [u.id for u in manifest]
    for utterance in manifest:
        with torch.inference_mode():
            units_FG = model.units(torch.from_numpy(manifest.samples(utterance)))
        np.testing.assert_array_equal(corpus[utterance.id], units_FG.numpy())
        assert len(units_FG) == model.frames(utterance.samples)
    facts = json.loads((ctx.folder / FACTS).read_text())
    assert facts == {"utterances": 7, "groups": 2, "codes": 6, "hop_samples": 80}


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_step_keeps_its_shards_and_writes_the_same_bytes(
    context: MakeContext,
    inputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    monkeypatch.setattr(discretize, "UTTERANCES_PER_SHARD", 2)
    whole, killed = context("whole", inputs), context("killed", inputs)
    discretize.discretize(whole)
    units, asked = QuantizerModel.units, 0

    def until(model: QuantizerModel, samples_S: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += 1
        if asked == 2 * after:
            raise KeyboardInterrupt
        return units(model, samples_S)

    monkeypatch.setattr(QuantizerModel, "units", until)
    with pytest.raises(KeyboardInterrupt):
        discretize.discretize(killed)
    asked = 100
    discretize.discretize(killed)
    assert asked - 100 == 7 - 2 * (after - 1)
    names = sorted(p.name for p in whole.folder.iterdir())
    assert names == [*(f"units-0000{n}.parquet" for n in range(4)), FACTS]
    assert sorted(p.name for p in killed.folder.iterdir()) == names
    for name in names:
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()


def test_audio_that_changed_since_stage_0_is_refused(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    audio.write(inputs["manifest"] / "3.flac", np.full(1000, 0.1, np.float32))
    with pytest.raises(RunError, match=r"Utterance u3: .*has changed since stage 0"):
        discretize.discretize(context("units", inputs))


def units_of(folder: Path, units_FG: list[list[int]]) -> Path:
    folder.mkdir()
    write_shard(shard_path(folder, 0), ["u"], [np.array(units_FG, np.int16)])
    (folder / FACTS).write_text(facts_text({"utterances": 1, "groups": 2, "codes": 6}))
    return folder


def test_a_small_codebook_gives_all_pairs(
    context: MakeContext, inputs: dict[str, Path], tmp_path: Path
) -> None:
    given = {"units/train": units_of(tmp_path / "units", [[0, 1], [5, 5]])} | inputs
    ctx = context("vocabulary", given)
    discretize.build_vocabulary(ctx)
    vocabulary = Vocabulary.load(ctx.folder)
    assert len(vocabulary) == 36 + len(SPECIAL)
    model = QuantizerModel.from_pretrained(inputs["quantizer"])
    units_xG = torch.from_numpy(vocabulary.units_TG)
    expected = model.vectors(units_xG).detach().numpy()
    np.testing.assert_allclose(vocabulary.vectors_TD, expected, atol=1e-6)


def test_a_large_codebook_gives_the_pairs_of_pretraining_alone(
    context: MakeContext,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discretize, "ALL_PAIRS_UP_TO", 35)
    given = {
        "units/train": units_of(tmp_path / "one", [[5, 5], [0, 1], [5, 5]]),
        "units/unlabelled/0": units_of(tmp_path / "two", [[2, 3]]),
    }
    ctx = context("vocabulary", given | inputs)
    discretize.build_vocabulary(ctx)
    assert Vocabulary.load(ctx.folder).symbols[3:] == ["0-1", "2-3", "5-5"]


def test_a_collapsed_codebook_is_refused(
    context: MakeContext, inputs: dict[str, Path], tmp_path: Path
) -> None:
    given = {"units/train": units_of(tmp_path / "units", [[1, 1]] * 50)} | inputs
    with pytest.raises(RunError, match=r"(?s)collapsed.*1 unit in use.*diversity_weight"):
        discretize.build_vocabulary(context("vocabulary", given))


def test_a_quantizer_that_collapsed_is_not_used(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    report = health.report(np.full((50, 2), 3), 6)
    (inputs["quantizer"] / stage.CODEBOOK).write_text(json.dumps(report))
    ctx = context("units", inputs)
    with pytest.raises(RunError, match=r"(?s)collapsed.*1 of 6, 1 of 6 codes.*on_collapse"):
        discretize.discretize(ctx)
    assert not list(ctx.folder.iterdir())
