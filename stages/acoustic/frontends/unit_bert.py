"""Units of vq-wav2vec under the BERT that was pretrained on them (Discrete BERT).

As it is, the BERT is fine-tuned under the CTC layer (Baevski, Auli, Mohamed 2019). With `freeze`
and `acoustic` its hidden vectors are the features of an acoustic model that learns from the
labelled speech alone, and the BERT never changes (vq-wav2vec, Baevski et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from pipeline.recipe import BertSettings, Section
from pipeline.section import heads_divide
from stages.acoustic.frontends.units import open_audio as open_audio
from stages.acoustic.frontends.units import open_split as open_split
from stages.acoustic.frontends.units import refusal as refusal
from stages.acoustic.on_features import ATTENTION_FRAMES

if TYPE_CHECKING:
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.stacked import StackedEncoder

STAGES = frozenset({"quantizer", "discretize", "bert"})


class AcousticSettings(Section):
    """Layers on the BERT's hidden vectors, without pretraining."""

    kind: Literal["transformer", "lstm"] = Field(
        "transformer", description="lstm: bidirectional ones, as the front-end mfcc has"
    )
    layers: int = Field(2, ge=1)
    dim: int = Field(192, ge=8, description="of vectors; of an LSTM's directions too")
    ffn_dim: int = Field(768, ge=8, description="of a Transformer")
    heads: int = Field(4, ge=1, description="of a Transformer")
    dropout: float = Field(0.1, ge=0, lt=1)
    stride: int = Field(1, ge=1, le=8, description="frames joined before these layers")

    _heads_divide = field_validator("heads")(heads_divide)


class Settings(Section):
    """How the BERT is used; the quantizer and bert sections say what it is."""

    name: Literal["unit_bert"] = "unit_bert"
    freeze: bool = Field(
        False, description="the BERT never changes; masks then hide its hidden vectors, not units"
    )
    layer_weights: bool = Field(
        False, description="a learnt weighted mean of the BERT's layers instead of its last one"
    )
    attention_frames: int = ATTENTION_FRAMES
    acoustic: AcousticSettings | None = Field(
        None, description="an encoder between the BERT and the CTC layer; none: the paper's"
    )

    def signed(self) -> dict[str, Any]:
        """Without what is not used: a plain BERT signs by its name alone."""
        return {name: value for name, value in super().signed().items() if value}


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> UnitEncoder | StackedEncoder:
    """The pretrained BERT, all of whose weights count as pretrained, and what stands on it."""
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.stacked import StackedEncoder, over_config

    under = UnitEncoder.pretrained(
        folders["bert"],
        frozen=settings.freeze,
        layer_weights=settings.layer_weights,
        attention_frames=settings.attention_frames,
    )
    if settings.acoustic is None:
        return under
    config = over_config(settings.acoustic, under)
    return StackedEncoder({"under": under.config, "over": config}, under)


def empty_encoder(config: Mapping[str, Any]) -> UnitEncoder | StackedEncoder:
    """The encoder of a saved model, before its weights are loaded."""
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.stacked import StackedEncoder

    return StackedEncoder(dict(config)) if "over" in config else UnitEncoder(dict(config))
