"""Contexts of wav2vec 1.0, a model without quantizer, under a Transformer or LSTMs.

arXiv 1904.05862: the aggregator's output c in place of filter banks.
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
    """The features; the quantizer section, with type none, describes the model."""

    name: Literal["wav2vec"] = "wav2vec"


def refusal(settings: Settings, quantizer: QuantizerSettings) -> str | None:
    """A quantizer, or a GRU, makes another model of it."""
    return unfit(settings.name, quantizer, {"type": ("none",), "aggregator": ("cnn",)})


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
