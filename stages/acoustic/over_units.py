"""Settings of what stands on units: a Transformer, pretrained or not, and layers on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.section import Section, heads_divide
from stages.acoustic.on_features import ATTENTION_FRAMES

if TYPE_CHECKING:
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.stacked import StackedEncoder


class AcousticSettings(Section):
    """Layers on the hidden vectors of a Transformer on units, without pretraining."""

    kind: Literal["transformer", "lstm"] = Field(
        "transformer", description="lstm: bidirectional ones, as the front-end mfcc has"
    )
    layers: int = Field(2, ge=1)
    dim: int = Field(192, ge=8, description="of vectors; of an LSTM's directions too")
    ffn_dim: int = Field(768, ge=8, description="of a Transformer")
    heads: int = Field(4, ge=1, description="of a Transformer")
    dropout: float = Field(0.1, ge=0, lt=1)
    stride: int = Field(1, ge=1, le=8, description="frames joined before these layers")

    @field_validator("heads")
    @classmethod
    def _heads_divide(cls, heads: int, info: ValidationInfo) -> int:
        return heads if info.data.get("kind") == "lstm" else heads_divide(heads, info)


class OverUnits(Section):
    """How a Transformer on units is used, whether it was pretrained or not."""

    layer_weights: bool = Field(
        False, description="a learnt weighted mean of its layers instead of the last one"
    )
    attention_frames: int = ATTENTION_FRAMES
    acoustic: AcousticSettings | None = Field(
        None, description="an encoder between it and the CTC layer; none: the paper's"
    )

    def signed(self) -> dict[str, Any]:
        """Without what is not used: one as it is in the paper signs by its name alone."""
        values = super().signed()
        return {n: v for n, v in values.items() if v or n not in OverUnits.model_fields}

    def under(self) -> dict[str, Any]:
        """What the UnitEncoder's config says of it, beside its BERT."""
        told = {"layer_weights": self.layer_weights, "attention_frames": self.attention_frames}
        return {name: value for name, value in told.items() if value}

    def stacked(self, under: UnitEncoder) -> UnitEncoder | StackedEncoder:
        """`under`, and on it what `acoustic` asks for."""
        from stages.acoustic.stacked import StackedEncoder, over_config

        if self.acoustic is None:
            return under
        config = over_config(self.acoustic, under)
        return StackedEncoder({"under": under.config, "over": config}, under)
