"""The choice of encoder on features: as many parameters, old models as they were, a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.recipe import BertSettings
from stages.acoustic import on_features
from stages.acoustic.encoders import FeatureEncoder
from stages.acoustic.frontends import log_mel, wav2vec
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.acoustic.recurrent import RecurrentEncoder

BERT = BertSettings(layers=3, dim=128, ffn_dim=512, heads=4)


def test_lstms_have_as_many_parameters_as_the_transformer() -> None:
    with torch.device("meta"):
        made = [
            log_mel.new_encoder(log_mel.Settings(encoder=kind), BERT, {})
            for kind in ("transformer", "lstm")
        ]
    assert [type(m) for m in made] == [FeatureEncoder, RecurrentEncoder]
    counts = [sum(p.numel() for p in m.parameters()) for m in made]
    assert counts[1] == pytest.approx(counts[0], rel=0.015)
    assert (made[0].dim, made[0].stride) == (made[1].dim, made[1].stride)


def test_sinusoidal_positions_are_half_as_large_as_what_they_are_added_to() -> None:
    bert = BERT.model_copy(update={"position_init": "sinusoidal"})
    torch.manual_seed(1)
    encoder = on_features.transformer(40, 2, bert).eval()
    added: list[torch.Tensor] = []
    keep = encoder.bert.embeddings.register_forward_hook
    keep(
        lambda module, args, kwargs, output: added.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    encoder(torch.randn(1, 400, 40), torch.ones(1, 400, dtype=torch.bool))
    positions = encoder.bert.embeddings.position_embeddings.weight.detach()
    share = positions.square().mean().sqrt() / added[0].std()
    assert share.item() == pytest.approx(0.5, rel=0.1)


def test_the_transformer_is_signed_as_before_there_was_a_choice() -> None:
    assert "encoder" not in log_mel.Settings().signed()
    assert "encoder" not in wav2vec.Settings().signed()
    assert wav2vec.Settings(encoder="lstm").signed()["encoder"] == "lstm"


def test_a_saved_model_comes_back_with_its_own_encoder(tmp_path: Path) -> None:
    settings = log_mel.Settings(encoder="lstm", mel_bins=8)
    encoder = log_mel.new_encoder(settings, BertSettings(layers=1, dim=16, heads=2), {})
    made = AcousticModel(AcousticConfig(settings.signed(), encoder.config, targets=5), encoder)
    made.eval().save_pretrained(tmp_path)
    back = AcousticModel.from_pretrained(tmp_path).eval()
    feats, lengths_B = torch.randn(2, 30, 8), torch.tensor([30, 21])
    with torch.inference_mode():
        assert torch.equal(back(feats, lengths_B), made(feats, lengths_B))


def test_log_mel_on_lstms_runs_to_its_results(
    write_recipe: Callable[..., Path], values: dict[str, Any], tmp_path: Path
) -> None:
    frontend = {"name": "log_mel", "encoder": "lstm"}
    recipe = write_recipe(values | {"frontend": frontend, "budgets": ["all"]})
    args = ["run", str(recipe), "--exp", str(tmp_path / "exp")]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "exp" / "tiny" / "results.json").read_text())
    assert {r["frontend"] for r in rows} == {"log_mel"}
