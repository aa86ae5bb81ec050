"""The quantized vectors of vq-wav2vec under a Transformer or LSTMs.

arXiv 1910.05453: the codebook's vectors of each frame's codes, groups side by side, in place of
filter banks. Units as real numbers: what sounds alike lies close together, no BERT is between.
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
    """The features; the quantizer section describes the model."""

    name: Literal["vq_wav2vec"] = "vq_wav2vec"


def refusal(settings: Settings, quantizer: QuantizerSettings) -> str | None:
    """Without a quantizer there are no such vectors."""
    return unfit(settings.name, quantizer, {"type": ("gumbel", "kmeans")})


def open_split(settings: Settings, folders: Mapping[str, Path], device: str = "cpu") -> Features:
    """Codebook vectors (F, D) of an utterance."""
    return pretrained.open_split(settings, folders, "quantized", device)


def open_audio(
    settings: Settings, folders: Mapping[str, Path], device: str = "cpu", precision: str = "fp32"
) -> FromAudio:
    """Codebook vectors (F, D) of any speech."""
    return pretrained.open_audio(settings, folders, "quantized", device)


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> FeatureEncoder | RecurrentEncoder:
    """A Transformer of the size of `bert`, or LSTMs, with random weights."""
    return pretrained.new_encoder(settings, bert, folders, "quantized")
