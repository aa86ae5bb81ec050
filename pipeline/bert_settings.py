"""The section `bert` of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.section import (
    ACCUMULATE,
    CHECKPOINT_ACTIVATIONS,
    CLIP_NORM,
    NO_RESULT,
    PRECISION,
    Precision,
    Section,
    heads_divide,
)

# BERT small and base of the vq-wav2vec paper (arXiv 1910.05453).
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"layers": 12, "dim": 512, "ffn_dim": 2048, "heads": 8, "dropout": 0.05},
    "base": {"layers": 12, "dim": 768, "ffn_dim": 3072, "heads": 12, "dropout": 0.1},
}
PRESET_KEYS = frozenset(PRESETS["base"])


class BertSettings(Section):
    """The BERT on units: size, masking, optimisation."""

    from_: Path | None = Field(None, alias="from", description="a pretrained BERT to use")
    preset: Literal["small", "base"] | None = Field(
        None,
        description="a size of the papers: layers, dim, ffn_dim, heads and dropout, in place of "
        "those of the recipe that this one is based on; what is set beside the preset wins",
        json_schema_extra=NO_RESULT,  # the sizes are signed
    )
    layers: int = Field(4, ge=1)
    dim: int = Field(192, ge=8)
    ffn_dim: int = Field(768, ge=8)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="of attention weights; absent: as dropout. On a CPU 0 saves about a fifth of "
        "an update, because torch's fast attention knows no dropout there",
    )
    positions: int = Field(2048, ge=16, description="longest utterance, frames")
    embedding_init: Literal["codebook", "random"] = Field(
        "codebook", description="codebook: units that sound alike start alike (not in the paper)"
    )
    position_init: Literal["random", "sinusoidal"] = Field(
        "random",
        description="sinusoidal: positions start as sines and cosines, so that how far frames lie "
        "apart need not be learnt from nothing (not in the paper); they are trained as others are. "
        "Also of Transformers without pretraining of this size; a BERT that is given has its own",
    )
    mask_start_probability: float = Field(0.05, gt=0, lt=1)
    mask_span: int = Field(10, ge=1, description="frames; with mask_span_std their mean")
    mask_span_std: float = Field(
        0.0, ge=0, description="standard deviation of the spans' lengths, frames; 0: all are alike"
    )
    updates: int = Field(600, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_updates: int = Field(60, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    batch_frames: int = Field(6_000, ge=100, description="frames per batch; there is no padding")
    accumulate: int = Field(1, ge=1, description=ACCUMULATE)
    clip_norm: float = Field(1.0, ge=0, description=CLIP_NORM)
    checkpoint_activations: bool = Field(
        False, description=CHECKPOINT_ACTIVATIONS, json_schema_extra=NO_RESULT
    )
    precision: Precision = Field("auto", description=PRECISION)
    validate_every: int = Field(
        100, ge=1, description="updates; the weights with the least loss on speech kept back stay"
    )
    checkpoint_every: int = Field(100, ge=1, description="updates", json_schema_extra=NO_RESULT)

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        """Sizes of the preset under those that are given; a wrong preset is left to its field."""
        if not isinstance(values, dict):
            return values
        return PRESETS.get(str(values.get("preset")), {}) | values

    def signed(self) -> dict[str, Any]:
        """Without what the recipe leaves as it is in the papers, and what does nothing."""
        values = super().signed()
        if self.attention_dropout is None:
            del values["attention_dropout"]
        if self.accumulate == 1:
            del values["accumulate"]
        if self.clip_norm == 1:
            del values["clip_norm"]
        if self.position_init == "random":
            del values["position_init"]
        return values

    _heads_divide = field_validator("heads")(heads_divide)
