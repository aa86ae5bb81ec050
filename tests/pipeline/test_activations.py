"""Activation checkpointing: the same gradients to the last bit, with dropout, from less kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from pipeline.activations import checkpoint_activations
from pipeline.recipe import BertSettings
from stages.acoustic.embedded import EmbeddedUnits
from stages.acoustic.encoders import FeatureEncoder, UnitEncoder, attended
from stages.acoustic.recurrent import RecurrentEncoder
from stages.acoustic.stacked import StackedEncoder
from stages.units.attention import packed
from stages.units.bert import bert_config

LAYERS, FRAMES, CHANNELS = 4, 30, 12
BERT = bert_config(
    BertSettings(layers=LAYERS, dim=16, ffn_dim=32, heads=2, positions=64, dropout=0.2), 20
)
LSTM = {"channels": 16, "stride": 1, "layers": LAYERS, "hidden": 8, "dim": 16, "dropout": 0.2}
UNITS = {"bert": BERT}
ENCODERS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "units": (UnitEncoder, UNITS, LAYERS),
    "units, all layers": (UnitEncoder, UNITS | {"layer_weights": True}, LAYERS),
    "features": (FeatureEncoder, {"channels": CHANNELS, "stride": 2, "bert": BERT}, LAYERS),
    "units, near": (UnitEncoder, UNITS | {"attention_frames": 3}, LAYERS),
    "LSTMs on units": (EmbeddedUnits, {"tokens": 20, "over": LSTM}, LAYERS),
    "LSTMs": (RecurrentEncoder, LSTM | {"channels": CHANNELS}, LAYERS),
    "LSTMs on a BERT": (StackedEncoder, {"under": UNITS, "over": LSTM}, 2 * LAYERS),
    "LSTMs on a frozen BERT": (
        StackedEncoder,
        {"under": UNITS | {"frozen": True}, "over": LSTM},
        2 * LAYERS,
    ),
}


class Run:
    """Gradients of one pass in training mode, and how many values were kept for it."""

    def __init__(self, model: nn.Module, *args: Tensor, precision: torch.dtype, **kwargs: Any):
        self.kept = 0
        model.train()
        torch.manual_seed(3)
        with (
            torch.autograd.graph.saved_tensors_hooks(self._keep, lambda x: x),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16),
        ):
            out = model(*args, **kwargs)
            out = getattr(out, "logits", out)
        (out.float() ** 2).mean().backward()
        self.gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    def _keep(self, value: Tensor) -> Tensor:
        self.kept += math.prod(value.shape)
        return value


def made(name: str) -> tuple[nn.Module, Tensor]:
    kind, config, _ = ENCODERS[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = kind(config)
    if name in ("features", "LSTMs"):
        return model, torch.randn(3, FRAMES, CHANNELS)
    return model, torch.randint(3, 20, (3, FRAMES))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_are_the_same_to_the_last_bit_and_less_is_kept(
    name: str, precision: torch.dtype
) -> None:
    runs = []
    for again in (False, True):
        model, feats = made(name)
        if again:
            assert checkpoint_activations(model) == ENCODERS[name][2]
        lengths_B = torch.tensor([FRAMES, 21, 9])
        time_BF = torch.rand(3, FRAMES, generator=torch.Generator().manual_seed(1)) < 0.2
        runs.append(Run(model, feats, attended(lengths_B, FRAMES), time_BF, precision=precision))
    plain, again = runs
    assert plain.gradients.keys() == again.gradients.keys() and plain.gradients
    assert all(torch.equal(plain.gradients[n], again.gradients[n]) for n in plain.gradients)
    assert again.kept < plain.kept / 2


def test_rows_of_utterances_are_computed_again_too() -> None:
    """As stage 3 trains: attention within the utterances of a row."""
    runs = []
    for again in (False, True):
        torch.manual_seed(0)
        model = BertForMaskedLM(BertConfig(**BERT))
        if again:
            assert checkpoint_activations(model) == LAYERS
        row = torch.randint(3, 20, (1, FRAMES))
        with packed(model):
            runs.append(Run(model, row, utterance_frames=[12, 18], precision=torch.float32))
    plain, again = runs
    assert all(torch.equal(plain.gradients[n], again.gradients[n]) for n in plain.gradients)
    assert again.kept < plain.kept / 2


def test_without_training_nothing_is_different() -> None:
    model, feats = made("units")
    checkpoint_activations(model)
    plain, _ = made("units")
    told = feats, attended(torch.tensor([FRAMES] * 3), FRAMES)
    with torch.inference_mode():
        assert torch.equal(model.eval()(*told), plain.eval()(*told))
