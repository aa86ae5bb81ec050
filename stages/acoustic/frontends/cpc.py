"""Contexts of CPC under a Transformer or LSTMs.

arXiv 1807.03748: as wav2vec 1.0, with a GRU over the features and the InfoNCE loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.recipe import BertSettings, QuantizerSettings
from stages.acoustic import pretrained
from stages.acoustic.on_features import empty_encoder as empty_encoder
from stages.acoustic.pretrained import STAGES as STAGES
from stages.quantizer.described import unfit

if TYPE_CHECKING:
    from stages.acoustic.encoders import FeatureEncoder
    from stages.acoustic.features import Features, FromAudio
    from stages.acoustic.recurrent import RecurrentEncoder


class Settings(pretrained.PretrainedSettings):
    """The features; the quantizer section, with a GRU and type none, describes the model."""

    name: Literal["cpc"] = "cpc"


def refusal(settings: Settings, quantizer: QuantizerSettings) -> str | None:
    """What makes it CPC."""
    return unfit(
        settings.name, quantizer, {"type": ("none",), "aggregator": ("gru",), "infonce": (True,)}
    )


def open_split(settings: Settings, folders: Mapping[str, Path], device: str = "cpu") -> Features:
    """Contexts (F, D) of an utterance."""
    return pretrained.open_split(settings, folders, "context", device)


def open_audio(
    settings: Settings, folders: Mapping[str, Path], device: str = "cpu", precision: str = "fp32"
) -> FromAudio:
    """Contexts (F, D) of any speech."""
    return pretrained.open_audio(settings, folders, "context", device)


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> FeatureEncoder | RecurrentEncoder:
    """A Transformer of the size of `bert`, or LSTMs, with random weights."""
    return pretrained.new_encoder(settings, bert, folders, "context")
