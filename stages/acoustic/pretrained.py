"""Real-valued features that a model of stage 1 gives, for the front-ends that take them.

The model rests: it is pretrained and then used as it is, as in the papers of wav2vec and
vq-wav2vec; only what stands on the features is trained with labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.recipe import BertSettings
from stages.acoustic import on_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from stages.acoustic.encoders import FeatureEncoder
    from stages.acoustic.features import Features, FromAudio
    from stages.acoustic.recurrent import RecurrentEncoder
    from stages.quantizer.model import QuantizerConfig

Kind = Literal["context", "quantized"]
STAGES = frozenset({"quantizer"})


class PretrainedSettings(on_features.EncoderSettings):
    """What the features of a pretrained model have in common."""

    stride: int = Field(
        1, ge=1, le=8, description="frames joined before the encoder; 2 for those of 10 ms"
    )
    normalise: bool = Field(
        True,
        description="each dimension to mean 0 and variance 1 over the utterance, as log_mel's",
    )


def open_split(
    settings: PretrainedSettings, folders: Mapping[str, Path], kind: Kind, device: str
) -> Features:
    """Features (F, D) of an utterance, not cut however long; F may be 0.

    Raises:
        RunError: quantized vectors of a codebook that has collapsed.
    """
    from pipeline.manifest import Manifest
    from stages.acoustic.features import Features
    from stages.quantizer.health import refuse_collapsed

    if kind == "quantized":
        refuse_collapsed(folders["quantizer"])
    audio = open_audio(settings, folders, kind, device)
    return Features.of(Manifest.load(folders["manifest"]), audio)


def open_audio(
    settings: PretrainedSettings, folders: Mapping[str, Path], kind: Kind, device: str
) -> FromAudio:
    """Features (F, D) of any speech, not cut however long; F may be 0. They are in fp32."""
    import numpy as np
    import torch

    from stages.acoustic.features import FromAudio, normalised
    from stages.quantizer.inference import Inference
    from stages.quantizer.model import read

    model = read(folders["quantizer"])
    torch.nn.Module.to(model, device)
    ready = Inference(model)
    make = ready.context if kind == "context" else ready.quantized

    def compute(samples: Samples) -> NDArray[np.float32]:
        if not model.frames(len(samples)):
            return np.zeros((0, _channels(model.config, kind)), dtype=np.float32)
        feats_FD = np.ascontiguousarray(make(torch.from_numpy(samples)).cpu().numpy())
        return normalised(feats_FD) if settings.normalise else feats_FD

    def compute_each(utterances: Sequence[Samples]) -> list[NDArray[np.float32]]:
        return [compute(samples) for samples in utterances]

    return FromAudio(compute_each, model.frames)


def new_encoder(
    settings: PretrainedSettings, bert: BertSettings, folders: Mapping[str, Path], kind: Kind
) -> FeatureEncoder | RecurrentEncoder:
    """A Transformer of the size of `bert` on these features, or LSTMs, with random weights."""
    from stages.quantizer.model import QuantizerConfig

    channels = _channels(QuantizerConfig.from_pretrained(folders["quantizer"]), kind)
    return on_features.new_encoder(settings, channels, settings.stride, bert)


def _channels(config: QuantizerConfig, kind: Kind) -> int:
    """D of the features."""
    return config.context_dim if kind == "context" else config.dim
