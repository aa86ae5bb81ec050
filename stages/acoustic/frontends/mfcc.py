"""MFCC under bidirectional LSTMs, nothing pretrained: a recogniser as before Transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.recipe import BertSettings, Section
from stages.acoustic import on_features
from stages.acoustic.on_features import empty_encoder as empty_encoder

if TYPE_CHECKING:
    from stages.acoustic.features import Features, FromAudio
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
    layers: int = Field(on_features.LSTM_LAYERS, ge=1, le=9, description="bidirectional LSTMs")
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

    return Features.of(Manifest.load(folders["manifest"]), open_audio(settings, folders))


def open_audio(
    settings: Settings, folders: Mapping[str, Path], device: str = "cpu", precision: str = "fp32"
) -> FromAudio:
    """The same of any speech."""
    from stages.acoustic.features import FromAudio
    from stages.quantizer.mfcc import mfcc

    sizes = {"hop_samples": HOP_SAMPLES, "highest_hz": settings.highest_hz}
    return FromAudio(
        lambda utterances: [mfcc(samples, **sizes) for samples in utterances],
        lambda samples: 1 + samples // HOP_SAMPLES,
    )


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> RecurrentEncoder:
    """LSTMs with random weights; what comes out has the size of `bert`."""
    from stages.quantizer.mfcc import DIM

    return on_features.lstms(DIM, settings.stride, bert, settings.layers, settings.hidden)
