"""MFCC under bidirectional LSTMs, nothing pretrained: a recogniser as before Transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.recipe import BertSettings, Section

if TYPE_CHECKING:
    from stages.acoustic.features import Features
    from stages.acoustic.recurrent import RecurrentEncoder

STAGES: frozenset[str] = frozenset()
# LSTMs have no attention; the sizes are those that a Transformer's parameters are counted by.
BERT_KEYS = frozenset({"layers", "dim", "ffn_dim", "dropout", "positions"})
HOP_SAMPLES = 160  # 10 ms


class Settings(Section):
    """The cepstra and the LSTMs."""

    name: Literal["mfcc"] = "mfcc"
    highest_hz: int = Field(8000, ge=1000, le=8000, description="upper edge of the mel bands")
    stride: int = Field(2, ge=1, le=8, description="frames joined before the LSTMs")
    layers: int = Field(3, ge=1, le=9, description="bidirectional LSTMs")
    hidden: int | None = Field(
        None,
        ge=1,
        description="units of each direction; none: as many as give the encoder the parameters "
        "that a Transformer of the BERT's size has on these features",
    )


def open_split(settings: Settings, folders: Mapping[str, Path], device: str = "cpu") -> Features:
    """13 cepstra, their slopes and the slopes of those (F, 39), each normalised, every 10 ms."""
    from pipeline.manifest import Manifest
    from stages.acoustic.features import Features
    from stages.quantizer.mfcc import mfcc

    return Features(
        Manifest.load(folders["manifest"]),
        lambda samples: mfcc(samples, hop_samples=HOP_SAMPLES, highest_hz=settings.highest_hz),
        lambda samples: 1 + samples // HOP_SAMPLES,
    )


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> RecurrentEncoder:
    """LSTMs with random weights; what comes out has the size of `bert`."""
    from stages.acoustic.recurrent import RecurrentEncoder, hidden_for
    from stages.quantizer.mfcc import DIM

    hidden = settings.hidden
    if hidden is None:
        goal = _transformer_parameters(settings, bert)
        hidden = hidden_for(goal, channels=DIM, layers=settings.layers, dim=bert.dim)
    return RecurrentEncoder(
        {
            "channels": DIM,
            "stride": settings.stride,
            "layers": settings.layers,
            "hidden": hidden,
            "dim": bert.dim,
            "dropout": bert.dropout,
        }
    )


def _transformer_parameters(settings: Settings, bert: BertSettings) -> int:
    """Of the encoder that the front-end log_mel would have on features like these."""
    import torch

    from stages.acoustic.encoders import FeatureEncoder
    from stages.quantizer.mfcc import DIM
    from stages.units.bert import bert_config

    with torch.device("meta"):  # sizes alone: no memory, no random numbers
        made = FeatureEncoder(
            {"channels": DIM, "stride": settings.stride, "bert": bert_config(bert, 1)}
        )
    return sum(parameter.numel() for parameter in made.parameters())


def empty_encoder(config: Mapping[str, Any]) -> RecurrentEncoder:
    """The encoder of a saved model, before its weights are loaded."""
    from stages.acoustic.recurrent import RecurrentEncoder

    return RecurrentEncoder(dict(config))
