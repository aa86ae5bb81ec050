"""Log-mel filter banks under a Transformer or LSTMs, nothing pretrained: the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.audio import SAMPLE_RATE_HZ
from pipeline.recipe import BertSettings
from stages.acoustic import on_features
from stages.acoustic.on_features import empty_encoder as empty_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from stages.acoustic.encoders import FeatureEncoder
    from stages.acoustic.features import Features, FromAudio
    from stages.acoustic.recurrent import RecurrentEncoder

STAGES: frozenset[str] = frozenset()
FFT_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FLOOR = 1e-10


class Settings(on_features.EncoderSettings):
    """The filter bank."""

    name: Literal["log_mel"] = "log_mel"
    mel_bins: int = Field(80, ge=8, le=128)
    stride: int = Field(2, ge=1, le=8, description="frames joined before the encoder")
    highest_hz: int = Field(8000, ge=1000, le=8000, description="upper edge of the filter bank")


def open_split(settings: Settings, folders: Mapping[str, Path], device: str = "cpu") -> Features:
    """Log-mel energies (F, mel_bins) of an utterance."""
    from pipeline.manifest import Manifest
    from stages.acoustic.features import Features

    return Features.of(Manifest.load(folders["manifest"]), open_audio(settings, folders))


def open_audio(
    settings: Settings, folders: Mapping[str, Path], device: str = "cpu", precision: str = "fp32"
) -> FromAudio:
    """Log-mel energies (F, mel_bins) of any speech."""
    from stages.acoustic.features import FromAudio

    return FromAudio(
        lambda utterances: [log_mel(samples, settings) for samples in utterances],
        lambda samples: 1 + samples // HOP_SAMPLES,
    )


def log_mel(samples: Samples, settings: Settings) -> NDArray[np.float32]:
    """Log energies of a mel filter bank (F, mel_bins), each bin to mean 0 and variance 1.

    25 ms Hann windows every 10 ms, centred; mel scale of Slaney, as in librosa.
    """
    import numpy as np
    from transformers.audio_utils import spectrogram, window_function

    from stages.acoustic.features import normalised

    energies_DF = spectrogram(
        samples,
        window=window_function(FFT_SAMPLES, "hann"),
        frame_length=FFT_SAMPLES,
        hop_length=HOP_SAMPLES,
        power=2.0,
        mel_filters=_filters(settings.mel_bins, settings.highest_hz),
        mel_floor=FLOOR,
        log_mel="log",
    )
    return normalised(energies_DF.T.astype(np.float32))


def _filters(mel_bins: int, highest_hz: int) -> NDArray[np.float64]:
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(
        num_frequency_bins=FFT_SAMPLES // 2 + 1,
        num_mel_filters=mel_bins,
        min_frequency=0.0,
        max_frequency=float(highest_hz),
        sampling_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> FeatureEncoder | RecurrentEncoder:
    """A Transformer of the size of `bert`, or LSTMs, with random weights."""
    return on_features.new_encoder(settings, settings.mel_bins, settings.stride, bert)
