"""Stage 1 as a step: the artifact, its reproducibility, and what it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.recipe import QuantizerSettings
from pipeline.stage import StepContext
from stages.quantizer import stage
from stages.quantizer.contrast import PREDICTOR
from stages.quantizer.model import QuantizerModel

MakeSpeech = Callable[..., Manifest]
SMALL: dict[str, Any] = {
    "type": "gumbel",
    "encoder_layers": [(8, 10, 5), (8, 8, 4), (8, 4, 2)],
    "aggregator_layers": [(8, 2, 1), (8, 3, 1)],
    "codes": 4,
    "prediction_steps": 3,
    "negatives": 3,
    "updates": 6,
    "crop_samples": 3000,
    "batch_samples": 9000,
    "checkpoint_every": 2,
}


@pytest.fixture
def run(make_speech: MakeSpeech, tmp_path: Path) -> Callable[..., Path]:
    speech = make_speech([4000, 3500, 2500, 200, 5000])
    speech.write()

    def run(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        ctx = StepContext(folder, {"train": speech.folder}, "cpu", tmp_path / f"tb-{name}")
        stage.run(ctx, QuantizerSettings(**(SMALL | changes)), ["train"], 1)
        return folder

    return run


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["gumbel", "kmeans", "none"])
def test_artifact_is_bitwise_reproducible(run: Callable[..., Path], kind: str) -> None:
    first, second = run("first", type=kind), run("second", type=kind)
    assert contents(first) == contents(second)
    drawn = set() if kind == "none" else {stage.PLOT}
    assert set(contents(first)) == drawn | {
        "config.json",
        "model.safetensors",
        PREDICTOR,
        stage.CODEBOOK,
        stage.HISTORY,
    }


def test_second_run_in_the_folder_of_a_finished_one_changes_nothing(
    run: Callable[..., Path],
) -> None:
    before = contents(run("first"))
    assert contents(run("first")) == before


def test_report_tells_of_the_codebook(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((run("first") / stage.CODEBOOK).read_text())
    # receptive field 105, hop 40
    assert report["frames"] == sum((n - 105) // 40 + 1 for n in (4000, 3500, 2500, 200, 5000))
    assert report["chance_bits"] == 2.0
    assert report["utterances_too_short"] == 1
    assert len(report["groups"]) == 2
    for group in report["groups"]:
        assert group["codes_in_use"] + len(group["dead_codes"]) == 4
    assert report["repairs"] == report["collapses"] == []
    assert report["history"]["update"] == [6]
    assert len(report["history"]["perplexity"]) == 2
    said = capsys.readouterr().out
    assert "chance is 2.00" in said and "codes in use per group" in said


def test_exported_model_gives_units(run: Callable[..., Path]) -> None:
    model = QuantizerModel.from_pretrained(run("first"))
    units_FG = model.units(torch.randn(4000))
    assert units_FG.shape == (model.frames(4000), 2)
    assert not model.training


def test_without_updates_the_quantizer_is_exported_untrained(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("first", updates=0)
    assert "UNTRAINED" in capsys.readouterr().out
    assert contents(first) == contents(run("second", updates=0))
    assert (first / stage.HISTORY).read_text() == ""
    report = json.loads((first / stage.CODEBOOK).read_text())
    assert (report["updates"], report["loss_bits"], report["chance_bits"]) == (0, None, 2.0)
    assert QuantizerModel.from_pretrained(first).units(torch.randn(4000)).shape[1] == 2


def test_an_earlier_quantizer_is_taken_over(run: Callable[..., Path], tmp_path: Path) -> None:
    first = run("first")
    second = run("second", from_=first)
    assert contents(second)["model.safetensors"] == contents(first)["model.safetensors"]
    with pytest.raises(UserError, match="not an exported quantizer"):
        run("third", from_=tmp_path)


def test_importing_the_stage_imports_nothing_heavy() -> None:
    code = (
        "import sys, stages.quantizer.stage;"
        "print([m for m in ('torch', 'transformers', 'fairseq', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
