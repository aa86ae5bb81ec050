"""The recipe's section for stage 1, with what its values must agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.section import NO_RESULT, PRECISION, Precision, Section

MOST_CODES = 32_767  # units are stored as int16
MOST_UNITS_LOG2 = 63  # combinations of codes, which are numbered from 0 in int64
Layer = tuple[int, int, int]  # (channels, kernel, stride)
OF_THE_CODEBOOK = (  # settings that count for nothing where there is none
    "groups",
    "codes",
    "combine_groups",
    "projection_depth",
    "temperature",
    "temperature_reached",
    "kmeans_gamma",
    "input_norm",
    "projection_init",
    "codebook_init",
    "diversity_weight",
)


def too_many_units(groups: int, codes: int) -> bool:
    """Whether there are more combinations of codes than can be numbered; codes are 2 at least."""
    bounded = min(groups, MOST_UNITS_LOG2 + 1)  # a damaged file may say 10 ** 9
    return bool(codes**bounded > 2**MOST_UNITS_LOG2)


class AugmentSettings(Section):
    """Changes of the crops that stage 1 trains on; see stages/quantizer/augment.py."""

    speed: float = Field(0.1, ge=0, le=0.5, description="faster and slower by up to this share")
    response_db: float = Field(
        4.0, ge=0, le=20, description="deviation of the frequency response, dB"
    )
    noise_probability: float = Field(0.5, ge=0, le=1, description="share of crops with noise")
    snr_db: tuple[float, float] = Field((5.0, 30.0), description="of the noise: from, to")

    @field_validator("snr_db")
    @classmethod
    def _ascends(cls, snr_db: tuple[float, float]) -> tuple[float, float]:
        if snr_db[0] > snr_db[1]:
            raise ValueError("two numbers, the smaller first")
        return snr_db


class QuantizerSettings(Section):
    """vq-wav2vec. The defaults suit a short run; `recipes/` says where the paper departs."""

    type: Literal["gumbel", "kmeans", "none"] = Field(
        "kmeans",
        description="kmeans keeps its codes on real speech in short runs, where Gumbel collapsed "
        "in two of six; none: wav2vec 1.0",
    )
    from_: Path | None = Field(None, alias="from", description="an exported quantizer to use")
    encoder_layers: list[Layer] = Field(
        [(128, 10, 5), (128, 8, 4), *[(128, 4, 2)] * 3, (128, 1, 1)],
        description="(channels, kernel, stride); the strides' product is the hop in samples",
    )
    aggregator_layers: list[Layer] = Field(
        [(128, k, 1) for k in range(2, 8)], description="(channels, kernel, stride)"
    )
    aggregator: Literal["cnn", "gru"] = Field(
        "cnn", description="what makes contexts: convolutions, or a GRU over time (CPC)"
    )
    gru_dim: int = Field(128, ge=1, description="of the GRU's contexts")
    activation: Literal["relu", "gelu"] = "gelu"
    groups: int = Field(2, ge=1, le=8)
    codes: int = Field(64, ge=2, le=MOST_CODES, description="codebook entries per group")
    combine_groups: bool = Field(True, description="one codebook shared by the groups")
    projection_depth: int = Field(1, ge=1, description="layers of the Gumbel projection")
    temperature: tuple[float, float] = Field((2.0, 0.5), description="Gumbel, first and last")
    temperature_reached: float = Field(
        0.7, gt=0, le=1, description="share of the updates after which the last is reached"
    )
    kmeans_gamma: float = Field(0.25, ge=0, description="weight of the commitment loss")
    input_norm: bool = Field(True, description="LayerNorm before the projection (not in fairseq)")
    projection_init: Literal["fairseq", "normal"] = Field(
        "normal", description="normal: N(0, 1) weights, so that logits are spread from the start"
    )
    codebook_init: Literal["fairseq", "normal"] = Field("normal", description="normal: N(0, 1)")
    quantize_after: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="k-means: share of the updates on unquantized features, before the codebook "
        "is set to their centres; 0: as fairseq, quantized from the start",
    )
    restart_dead_codes_every: int = Field(
        10,
        ge=0,
        description="k-means, updates: unused codes move onto speech; 0: as fairseq, never",
    )
    restart_dead_codes_until: float = Field(
        0.5, ge=0, le=1, description="share of the updates after which they move no more"
    )
    diversity_weight: float = Field(
        0.5, ge=0, description="of (codes - perplexity) / codes, which fairseq leaves unnormalised"
    )
    on_collapse: Literal["stop", "warn", "repair"] = Field(
        "repair",
        description="what a collapse of the codebook leads to: the run stops, goes on with a "
        "warning, or is repaired (and stops where repairs do not help)",
    )
    prediction_steps: int = Field(12, ge=1)
    negatives: int = Field(10, ge=0)
    cross_sample_negatives: int = Field(0, ge=0)
    infonce: bool = Field(True, description="InfoNCE; otherwise binary cross-entropy")
    dropout: float = Field(0.0, ge=0, lt=1)
    dropout_features: float = Field(0.0, ge=0, lt=1)
    dropout_aggregator: float = Field(0.0, ge=0, lt=1)
    updates: int = Field(
        400, ge=0, description="0: the quantizer as training would find it, the untrained control"
    )
    learning_rate: float = Field(2e-3, gt=0)
    final_learning_rate: float = Field(2e-4, ge=0, description="at the end of the cosine")
    warmup_updates: int = Field(30, ge=0)
    crop_samples: int = Field(32_000, ge=1_000, description="longest crop, samples at 16 kHz")
    batch_samples: int = Field(256_000, ge=1_000, description="samples per batch")
    augment: AugmentSettings | None = Field(
        None, description="speech changed at random while training; none as the paper"
    )
    precision: Precision = Field("auto", description=PRECISION)
    checkpoint_every: int = Field(100, ge=1, description="updates", json_schema_extra=NO_RESULT)

    def signed(self) -> dict[str, Any]:
        """Without what moves dead codes, where no k-means is that has them, and the like.

        Of the ways to meet a collapse only repair changes weights: stop and warn sign alike.
        """
        values = super().signed()
        if self.type != "kmeans":
            del values["restart_dead_codes_every"], values["restart_dead_codes_until"]
            del values["quantize_after"]
        if self.type == "none" or self.on_collapse != "repair":
            del values["on_collapse"]
        if self.augment is None:
            del values["augment"]
        if self.type == "none":
            for name in OF_THE_CODEBOOK:
                del values[name]
        if self.aggregator == "cnn":
            del values["aggregator"], values["gru_dim"]
        else:
            del values["aggregator_layers"]
        return values

    # What two values must agree on is checked with the later one, so that a mistake hides no other;
    # a value that is wrong by itself is not in `info.data`.

    @field_validator("encoder_layers", "aggregator_layers")
    @classmethod
    def _layers_can_be(cls, layers: list[Layer], info: ValidationInfo) -> list[Layer]:
        if not layers or any(v < 1 for layer in layers for v in layer):
            raise ValueError("at least one layer of (channels, kernel, stride), each 1 or more")
        if info.field_name == "aggregator_layers" and any(stride > 1 for _, _, stride in layers):
            raise ValueError("every stride must be 1: a context for every frame")
        return layers

    @field_validator("groups")
    @classmethod
    def _groups_divide(cls, groups: int, info: ValidationInfo) -> int:
        layers = info.data.get("encoder_layers")
        if layers and layers[-1][0] % groups:
            raise ValueError(
                f"the last encoder layer's {layers[-1][0]} channels must be a multiple of it"
            )
        return groups

    @field_validator("temperature")
    @classmethod
    def _cools(cls, temperature: tuple[float, float]) -> tuple[float, float]:
        if not 0 < temperature[1] <= temperature[0]:
            raise ValueError("two numbers above 0, the larger first")
        return temperature

    @field_validator("cross_sample_negatives")
    @classmethod
    def _has_negatives(cls, count: int, info: ValidationInfo) -> int:
        if info.data.get("negatives") == 0 and count == 0:
            raise ValueError("negatives or cross_sample_negatives must be 1 or more")
        return count

    @field_validator("final_learning_rate")
    @classmethod
    def _falls(cls, rate: float, info: ValidationInfo) -> float:
        if "learning_rate" in info.data and rate >= info.data["learning_rate"]:
            raise ValueError(f"must be below learning_rate, {info.data['learning_rate']}")
        return rate

    @field_validator("crop_samples")
    @classmethod
    def _foretells(cls, samples: int, info: ValidationInfo) -> int:
        from stages.quantizer.geometry import shortest_crop

        layers, steps = info.data.get("encoder_layers"), info.data.get("prediction_steps")
        shortest = shortest_crop(layers, steps) if layers and steps else 0
        if samples < shortest:
            raise ValueError(
                f"too short to predict anything: at least {shortest} for these encoder_layers "
                f"and {steps} prediction_steps"
            )
        return samples

    @field_validator("batch_samples")
    @classmethod
    def _holds_a_crop(cls, samples: int, info: ValidationInfo) -> int:
        if samples < info.data.get("crop_samples", 0):
            raise ValueError(f"must be at least crop_samples, {info.data['crop_samples']}")
        return samples
