"""MFCC and their LSTMs: the features from their definition, sizes, a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline import audio
from pipeline.cli import cli
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import BertSettings, Recipe
from pipeline.stage import Step
from stages.acoustic.frontends import log_mel, mfcc
from stages.acoustic.model import AcousticConfig, AcousticModel

LENGTHS = {"a": 1600, "b": 1759, "c": 9000}
SIZES = [
    BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=32),
    BertSettings(layers=3, dim=128, ffn_dim=512, heads=4),
    BertSettings(layers=12, dim=768, ffn_dim=3072, heads=12),
]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    rows = []
    for number, (name, samples) in enumerate(LENGTHS.items()):
        noise = np.random.RandomState(number).standard_normal(samples)
        loud = np.linspace(0.02, 0.2, samples)
        audio.write(tmp_path / f"{name}.flac", (loud * noise).astype(np.float32))
        rows.append(Utterance(name, "s", f"{name}.flac", True, samples, 0.1, "go"))
    Manifest(rows, tmp_path).write()
    return tmp_path


def hz_to_mel(hz: float) -> float:
    """Slaney's scale: linear to 1000 Hz (15 mel), then 27 steps for a factor of 6.4."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def by_definition(samples: np.ndarray, highest_hz: int) -> np.ndarray:
    """MFCC in sums and loops: windows, bands, a cosine transform, regressions, normalisation."""
    edges = np.linspace(0, hz_to_mel(highest_hz), 42)
    edges_hz = np.where(edges < 15, edges * 200 / 3, 1000 * 6.4 ** ((edges - 15) / 27))
    bins_hz = np.arange(201) * 16_000 / 400
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    cepstra = []
    for frame in range(1 + len(samples) // 160):
        x = padded[160 * frame : 160 * frame + 400]
        x = np.append(x[0] * (1 - 0.97), x[1:] - 0.97 * x[:-1])
        power = np.abs(np.fft.rfft(window * x)) ** 2
        logs = []
        for low, middle, high in zip(edges_hz, edges_hz[1:], edges_hz[2:], strict=False):
            rise, fall = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
            triangle = np.maximum(0, np.minimum(rise, fall)) * 2 / (high - low)
            logs.append(np.log(max(triangle @ power, 1e-10)))
        k = np.arange(13)[:, None]
        cosines = np.cos(np.pi * k * (2 * np.arange(40) + 1) / 80) * np.sqrt(2 / 40)
        cosines[0] /= np.sqrt(2)
        cepstra.append(cosines @ np.array(logs))

    def slopes(rows: np.ndarray) -> np.ndarray:
        around = np.pad(rows, ((2, 2), (0, 0)), mode="edge")
        return sum(n * around[2 + n : len(rows) + 2 + n] for n in range(-2, 3)) / 10

    first = np.array(cepstra)
    feats = np.concatenate([first, slopes(first), slopes(slopes(first))], axis=1)
    return (feats - feats.mean(axis=0)) / feats.std(axis=0)


@pytest.mark.parametrize("highest_hz", [4000, 8000])
def test_features_are_mfcc_by_their_definition(split: Path, highest_hz: int) -> None:
    features = mfcc.open_split(mfcc.Settings(highest_hz=highest_hz), {"manifest": split})
    manifest = Manifest.load(split)
    for name in LENGTHS:
        expected = by_definition(manifest.samples(manifest[name]), highest_hz)
        found = features(name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_frames_are_counted_without_reading_audio(split: Path) -> None:
    features = mfcc.open_split(mfcc.Settings(), {"manifest": split})
    assert {n: len(features(n)) for n in LENGTHS} == {"a": 11, "b": 11, "c": 57}
    for path in split.glob("*.flac"):
        path.unlink()
    fresh = mfcc.open_split(mfcc.Settings(), {"manifest": split})
    assert {n: fresh.frames(n) for n in LENGTHS} == {"a": 11, "b": 11, "c": 57}


@pytest.mark.parametrize("layers", [1, 3, 5])
@pytest.mark.parametrize("bert", SIZES, ids=["tiny", "digits", "base"])
def test_as_many_parameters_as_the_transformer_on_log_mel(bert: BertSettings, layers: int) -> None:
    with torch.device("meta"):
        ours = mfcc.new_encoder(mfcc.Settings(layers=layers), bert, {})
        theirs = log_mel.new_encoder(log_mel.Settings(mel_bins=39), bert, {})
    counts = [sum(p.numel() for p in made.parameters()) for made in (ours, theirs)]
    apart = 0.05 if bert.dim < 100 else 0.015
    assert counts[0] == pytest.approx(counts[1], rel=apart)
    assert (ours.dim, ours.stride, ours.mask_channels) == (theirs.dim, theirs.stride, 39)
    assert not list(ours.pretrained_parameters())


def test_the_number_of_units_can_be_set() -> None:
    made = mfcc.new_encoder(mfcc.Settings(hidden=9, layers=2), SIZES[0], {})
    assert (made.layers[1].onward.hidden_size, len(made.layers)) == (9, 2)


def test_a_saved_model_gives_the_same_log_probabilities(tmp_path: Path) -> None:
    settings = mfcc.Settings(layers=2)
    torch.manual_seed(0)
    encoder = mfcc.new_encoder(settings, SIZES[0], {})
    config = AcousticConfig(settings.model_dump(mode="json"), encoder.config, targets=5)
    made = AcousticModel(config, encoder).eval()
    made.save_pretrained(tmp_path)
    back = AcousticModel.from_pretrained(tmp_path).eval()
    feats, lengths_B = torch.randn(2, 30, 39), torch.tensor([30, 21])
    with torch.inference_mode():
        expected = made(feats, lengths_B)
        assert torch.equal(back(feats, lengths_B), expected)
        alone = made(feats[1:, :21], lengths_B[1:])
    torch.testing.assert_close(expected[1:, :11], alone, atol=1e-5, rtol=0)


def test_it_reads_no_pretraining_and_shares_text_and_speech(
    make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]]
) -> None:
    ours, theirs = (make_plan(make_recipe(f"frontend={f}")) for f in ("mfcc", "log_mel"))
    assert {s.number for s in ours} == {0, 4, 5, 6, 7}
    shared = {s.artifact_name for s in ours} & {s.artifact_name for s in theirs}
    assert shared == {s.artifact_name for s in ours if s.number in (0, 4)}


def test_every_stage_runs(
    write_recipe: Callable[..., Path], values: dict[str, Any], tmp_path: Path
) -> None:
    recipe = write_recipe(values | {"frontend": "mfcc", "budgets": ["all"]})
    args = ["run", str(recipe), "--exp", str(tmp_path / "exp")]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "exp" / "tiny" / "results.json").read_text())
    assert {r["frontend"] for r in rows} == {"mfcc"}
    assert "nothing to do" in CliRunner().invoke(cli, args).output
