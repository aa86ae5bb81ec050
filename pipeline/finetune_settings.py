"""The `finetune` section: CTC training, its published presets, and settings per label budget."""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.budget import budget_seconds
from pipeline.section import (
    ACCUMULATE,
    CHECKPOINT_ACTIVATIONS,
    CLIP_NORM,
    NO_RESULT,
    PRECISION,
    Precision,
    Section,
    Seed,
    each_once,
)

# fairseq's fine-tuning configs of wav2vec 2.0 (examples/wav2vec/config/finetuning/base_*.yaml),
# by seconds of labelled speech. A start probability is fairseq's mask_prob divided by its
# mask_length: see stages/units/masking.py. What differs between budgets stands here, what they
# share in _SHARED. Their batches (25.6 M samples) and layer drop are not taken over.
PUBLISHED_CHANNELS = 768  # that wav2vec 2.0 base has, and BERT base: masks are made for them
_SHARED: dict[str, Any] = {
    "learning_rate": 5e-5,
    "phases": (0.1, 0.4, 0.5),
    "final_scale": 0.05,
    "freeze_updates": 10_000,
    "time_mask_probability": 0.65 / 10,
    "time_mask_span": 10,
    "channel_mask_span": 64,
}
_LIBRI_LIGHT: dict[str, tuple[float, dict[str, Any]]] = {
    "libri_light_10min": (600, {"updates": 13_000, "channel_mask_probability": 0.25 / 64}),
    "libri_light_1h": (3600, {"updates": 13_000, "channel_mask_probability": 0.25 / 64}),
    "libri_light_10h": (36_000, {"updates": 20_000, "channel_mask_probability": 0.5 / 64}),
    "libri_light_100h": (
        360_000,
        {
            "updates": 80_000,
            "channel_mask_probability": 0.5 / 64,
            "freeze_updates": 0,
            "learning_rate": 3e-5,
        },
    ),
}
PRESET_KEYS = frozenset(_SHARED).union(*(keys for _, keys in _LIBRI_LIGHT.values()))
Preset = Literal[
    "libri_light",
    "libri_light_10min",
    "libri_light_1h",
    "libri_light_10h",
    "libri_light_100h",
]


class CtcSettings(Section):
    """CTC training of one budget, the same for every front-end."""

    preset: Preset | None = Field(
        None,
        description="published settings of wav2vec 2.0 for a budget of Libri-light; libri_light: "
        "those of the size nearest to the budget's, in place of what the recipe that this one "
        "is based on sets; what is set beside the preset wins",
        json_schema_extra=NO_RESULT,  # what it stands for is signed
    )
    updates: int = Field(600, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    phases: tuple[float, float, float] = Field(
        (0.1, 0.4, 0.5), description="tri-stage: shares of warm-up, hold and decay"
    )
    final_scale: float = Field(0.05, gt=0, le=1)
    freeze_updates: int = Field(
        0,
        ge=0,
        description="pretrained weights rest for so long: fewer than `updates`, where there are "
        "any (frontend.freeze: for good)",
    )
    time_mask_probability: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="that a frame starts a mask: fairseq's mask_prob / mask_length, 0.065 there",
    )
    time_mask_span: int = Field(10, ge=1, description="frames after the encoder's stride")
    channel_mask_probability: float = Field(
        0.004, ge=0, lt=1, description="that a channel starts a mask, as in time"
    )
    channel_mask_span: int = Field(
        32,
        ge=1,
        description="channels. Of an encoder with fewer than the 768 that the published span of 64 "
        "is for, no more than that share of its channels: 7 of 80; more spans then hide as many",
    )
    subsample: int = Field(2, ge=1, le=8, description="frames joined before the CTC layer")
    head_frames: int = Field(
        1,
        ge=1,
        le=31,
        description="frames of a convolution under the CTC layer; 1: none, the paper",
    )
    batch_frames: int = Field(
        6_000,
        ge=100,
        description="frames per batch, padding included; after the encoder's stride, so that it is "
        "as much speech for every front-end of the same frame rate there",
    )
    accumulate: int = Field(1, ge=1, description=ACCUMULATE)
    clip_norm: float = Field(1.0, ge=0, description=CLIP_NORM)
    checkpoint_activations: bool = Field(
        False, description=CHECKPOINT_ACTIVATIONS, json_schema_extra=NO_RESULT
    )
    longer: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="what to do with labelled utterances longer than bert.positions: refuse to "
        "train, or leave them out, listed in dropped.tsv. Dev and test are read in windows",
    )
    precision: Precision = Field("auto", description=PRECISION)
    validate_every: int = Field(
        0,
        ge=0,
        description="updates from one greedy error rate on dev to the next; the weights of "
        "the least are kept. 0: the last are, and dev is not heard",
    )
    validate_by: Literal["wer", "cer"] = Field(
        "wer",
        description="which error rate it is: of words, or of characters where few words are right",
    )
    checkpoint_every: int = Field(100, ge=1, description="updates", json_schema_extra=NO_RESULT)

    @field_validator("phases")
    @classmethod
    def _whole(cls, phases: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(phases) - 1) > 1e-6 or min(phases) < 0:
            raise ValueError("three shares, none negative, that add up to 1")
        return phases

    def signed(self) -> dict[str, Any]:
        """Without what does nothing: the last weights are kept unless dev chooses, by words."""
        values = super().signed()
        if self.accumulate == 1:
            del values["accumulate"]
        if self.clip_norm == 1:
            del values["clip_norm"]
        if self.longer == "refuse":
            del values["longer"]
        if not self.validate_every:
            del values["validate_every"]
        if not self.validate_every or self.validate_by == "wer":
            del values["validate_by"]
        return values

    def channel_masks(self, channels: int) -> tuple[float, int]:
        """Start probability and span of masks over so many channels.

        A span made for 768 would hide most of 80 at once. A shorter one starts so much more often
        that a channel is hidden as often: 1 - (1 - probability) ** span stays.
        """
        probability, span = self.channel_mask_probability, self.channel_mask_span
        share = _SHARED["channel_mask_span"] / PUBLISHED_CHANNELS
        most = max(1, round(share * channels))
        if channels >= PUBLISHED_CHANNELS or span <= most:
            return probability, span
        return 1 - (1 - probability) ** (span / most), most

    def given(self) -> dict[str, Any]:
        """What the recipe says itself, without defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class FinetuneSettings(CtcSettings):
    """CTC training of all budgets."""

    seeds: list[Seed] = Field([1], min_length=1)
    by_budget: dict[str, CtcSettings] = Field(
        {}, description="settings of one budget, laid over the rest: {10min: {updates: 2000}}"
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        return each_once(seeds)

    def for_budget(self, budget: str) -> CtcSettings:
        """The settings of one budget: its own keys over the section's, over the preset's.

        Raises:
            ValueError: `preset: libri_light` for a budget whose size is not known beforehand.
        """
        own = self.by_budget.get(budget, CtcSettings())
        explicit = {k: v for k, v in self.given().items() if k in CtcSettings.model_fields}
        explicit |= own.given()
        preset = explicit.pop("preset", None)
        return CtcSettings(**(published(preset, budget) | explicit))


def published(preset: str | None, budget: str) -> dict[str, Any]:
    """What a preset stands for.

    Raises:
        ValueError: there is no such preset, or `libri_light` for a budget of unknown size.
    """
    if preset is None:
        return {}
    if preset == "libri_light":
        seconds = budget_seconds(budget)
        if seconds is None:
            raise ValueError(
                f"preset libri_light goes by a budget's size, which {budget} does not tell; "
                f"set by_budget.{budget}.preset to libri_light_10min, _1h, _10h or _100h"
            )
        preset = min(_LIBRI_LIGHT, key=lambda p: abs(log(_LIBRI_LIGHT[p][0] / seconds)))
    if preset not in _LIBRI_LIGHT:
        raise ValueError(f"no preset {preset}")
    return _SHARED | _LIBRI_LIGHT[preset][1]


def checked(settings: FinetuneSettings, info: ValidationInfo) -> FinetuneSettings:
    """`settings`, unless they speak of a budget that the recipe has not (ValueError)."""
    budgets = info.data.get("budgets")
    if budgets is None:  # wrong, and told already
        return settings
    strangers = [b for b in settings.by_budget if b not in budgets]
    if strangers:
        raise ValueError(
            f"by_budget.{strangers[0]} is of no budget of this recipe; there are: "
            f"{', '.join(budgets)}. Correct it, or leave it out (--set finetune.by_budget={{}})"
        )
    for budget in budgets:
        settings.for_budget(budget)
    return settings


def never_thawed(settings: FinetuneSettings, budgets: Iterable[str]) -> list[str]:
    """What to tell of budgets in whose whole fine-tuning a pretrained BERT would rest.

    A preset's `freeze_updates` is made for its own `updates`, and a recipe may set fewer.
    """
    told = []
    for budget in budgets:
        own = settings.for_budget(budget)
        if own.freeze_updates >= own.updates:
            told.append(
                f"finetune: the pretrained BERT would rest for the whole fine-tuning on {budget}: "
                f"freeze_updates {own.freeze_updates} must be less than updates {own.updates}. "
                "Set finetune.freeze_updates, or finetune.updates; frontend.freeze=true is for a "
                "BERT that never changes"
            )
    return told
