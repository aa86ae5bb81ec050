"""The acoustic model: frames, padding, and the way to disk and back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.recipe import BertSettings
from stages.acoustic.encoders import FeatureEncoder, UnitEncoder
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.units.bert import bert_config

BERT = bert_config(BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=64), 28)
TARGETS = 9


def model(kind: str = "log_mel", subsample: int = 2, stride: int = 2) -> AcousticModel:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder: Any
    if kind == "log_mel":
        encoder = FeatureEncoder({"channels": 12, "stride": stride, "bert": BERT})
        frontend = {"name": "log_mel", "mel_bins": 12, "stride": stride, "highest_hz": 8000}
    else:
        encoder, frontend = UnitEncoder({"bert": BERT}), {"name": "unit_bert"}
    config = AcousticConfig(frontend, encoder.config, TARGETS, subsample)
    return AcousticModel(config, encoder).eval()


def speech(kind: str, frames: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(frames)
    if kind == "log_mel":
        return torch.randn(1, frames, 12, generator=draw)
    return torch.randint(3, 28, (1, frames), generator=draw)


@pytest.mark.parametrize("subsample", [1, 2, 3])
@pytest.mark.parametrize(("kind", "stride"), [("log_mel", 1), ("log_mel", 2), ("unit_bert", 1)])
@pytest.mark.parametrize("frames", [1, 6, 13, 17])
def test_padding_changes_no_log_probability(
    kind: str, stride: int, subsample: int, frames: int
) -> None:
    made, alone = model(kind, subsample, stride), speech(kind, frames)
    noise = torch.full((1, 40 - frames, *alone.shape[2:]), 5, dtype=alone.dtype)
    batch = torch.cat([torch.cat([alone, noise], dim=1), speech(kind, 40)])
    lengths_B = torch.tensor([frames, 40])
    with torch.inference_mode():
        expected = made(alone, lengths_B[:1])
        found = made(batch, lengths_B)
    kept = math.ceil(math.ceil(frames / stride) / subsample)
    assert made.frames(lengths_B).tolist() == [kept, found.shape[1]]
    assert expected.shape == (1, kept, TARGETS)
    torch.testing.assert_close(found[:1, :kept], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(found.shape[:2]))


@pytest.mark.parametrize("kind", ["log_mel", "unit_bert"])
def test_it_comes_back_from_disk_to_the_same_values(kind: str, tmp_path: Path) -> None:
    made = model(kind)
    made.save_pretrained(tmp_path)
    back, told = AcousticModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.inference_mode():
        feats, lengths_B = speech(kind, 21), torch.tensor([21])
        assert torch.equal(made(feats, lengths_B), back.eval()(feats, lengths_B))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["frontend"]["name"]) == ("vqasr_acoustic", kind)


def test_the_same_model_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        model().save_pretrained(tmp_path / name)
        AcousticModel.from_pretrained(tmp_path / name).save_pretrained(tmp_path / f"{name} again")
    contents = [(p / "model.safetensors").read_bytes() for p in tmp_path.iterdir()]
    assert len(contents) == 4
    assert len(set(contents)) == 1
