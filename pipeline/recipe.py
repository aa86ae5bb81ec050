"""The recipe: one YAML file, typed sections, unknown keys refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

CORPORA = "stages.prepare.corpora"
FRONT_ENDS = "stages.acoustic.frontends"
DECODERS = "stages.acoustic.decoders"

# A field marked so changes no result: it stays out of every signature.
NO_RESULT: dict[str, Any] = {"signature": False}


Precision = Literal["auto", "fp32", "bf16"]
PRECISION = "auto: bf16 where the processor multiplies in it, else fp32"


class Section(BaseModel):
    """A part of a recipe. Unknown keys are refused; values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def signed(self) -> dict[str, Any]:
        """The values that results depend on, as JSON types."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("signature") is False:
                values.pop(name)
        return values


class CorpusSettings(Section):
    """What every kind of corpus has; each corpus file adds its own."""

    kind: str = Field(description="the corpus file in stages/prepare/corpora")
    root: Path = Field(Path(), description="the corpus' folder", json_schema_extra=NO_RESULT)
    unlabelled: list[str] = Field([], description="TSV files, relative to root, of speech alone")
    unlabelled_bandwidth_hz: int | None = Field(
        None, ge=500, description="remove what lies above from unlabelled speech, Hz"
    )
    pretrain_on: list[Literal["train", "unlabelled"]] = Field(
        ["train", "unlabelled"], min_length=1, description="speech of stages 1 and 3"
    )
    allow_shared_speakers: bool = Field(False, description="a speaker may be in train and test")


class TextSettings(Section):
    """Targets of the CTC model."""

    units: Literal["letters", "sentencepiece"] = "letters"
    pieces: int = Field(200, ge=8, description="SentencePiece vocabulary size")
    piece_type: Literal["unigram", "bpe"] = "unigram"
    alphabet: str = Field(
        "abcdefghijklmnopqrstuvwxyz'", min_length=1, description="letters that words may hold"
    )


class QuantizerSettings(Section):
    """vq-wav2vec. The defaults suit a short run; `recipes/` says where the paper departs."""

    type: Literal["gumbel", "kmeans", "none"] = "gumbel"
    from_: Path | None = Field(None, alias="from", description="an exported quantizer to use")
    encoder_layers: list[tuple[int, int, int]] = Field(
        [(128, 10, 5), (128, 8, 4), *[(128, 4, 2)] * 3, (128, 1, 1)],
        description="(channels, kernel, stride); the strides' product is the hop in samples",
    )
    aggregator_layers: list[tuple[int, int, int]] = Field(
        [(128, k, 1) for k in range(2, 8)], description="(channels, kernel, stride)"
    )
    activation: Literal["relu", "gelu"] = "gelu"
    groups: int = Field(2, ge=1, le=8)
    codes: int = Field(64, ge=2, description="codebook entries per group")
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
    prediction_steps: int = Field(12, ge=1)
    negatives: int = Field(10, ge=0)
    cross_sample_negatives: int = Field(0, ge=0)
    infonce: bool = Field(True, description="InfoNCE; otherwise binary cross-entropy")
    dropout: float = Field(0.0, ge=0, lt=1)
    dropout_features: float = Field(0.0, ge=0, lt=1)
    dropout_aggregator: float = Field(0.0, ge=0, lt=1)
    updates: int = Field(400, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    final_learning_rate: float = Field(2e-4, ge=0, description="at the end of the cosine")
    warmup_updates: int = Field(30, ge=0)
    crop_samples: int = Field(32_000, ge=1_000, description="longest crop, samples at 16 kHz")
    batch_samples: int = Field(256_000, ge=1_000, description="samples per batch")
    precision: Precision = Field("auto", description=PRECISION)
    checkpoint_every: int = Field(100, ge=1, description="updates", json_schema_extra=NO_RESULT)

    def signed(self) -> dict[str, Any]:
        """Without what moves dead codes, where no k-means is that has them."""
        values = super().signed()
        if self.type != "kmeans":
            del values["restart_dead_codes_every"], values["restart_dead_codes_until"]
        return values

    @field_validator("encoder_layers")
    @classmethod
    def _hop_divides(cls, layers: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        if not layers or any(v < 1 for layer in layers for v in layer):
            raise ValueError("at least one layer of (channels, kernel, stride), each 1 or more")
        return layers

    @model_validator(mode="after")
    def _agree(self) -> QuantizerSettings:
        if self.crop_samples > self.batch_samples:
            raise ValueError(f"crop_samples must be at most batch_samples, {self.batch_samples}")
        if self.final_learning_rate >= self.learning_rate:
            raise ValueError(f"final_learning_rate must be below {self.learning_rate}")
        if not 0 < self.temperature[1] <= self.temperature[0]:
            raise ValueError("temperature: two numbers above 0, the larger first")
        if self.negatives + self.cross_sample_negatives == 0:
            raise ValueError("negatives or cross_sample_negatives must be 1 or more")
        return self


class BertSettings(Section):
    """The BERT on units: size, masking, optimisation."""

    from_: Path | None = Field(None, alias="from", description="a pretrained BERT to use")
    layers: int = Field(4, ge=1)
    dim: int = Field(192, ge=8)
    ffn_dim: int = Field(768, ge=8)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    positions: int = Field(2048, ge=16, description="longest utterance, frames")
    embedding_init: Literal["codebook", "random"] = Field(
        "codebook", description="codebook: units that sound alike start alike (not in the paper)"
    )
    mask_start_probability: float = Field(0.05, gt=0, lt=1)
    mask_span: int = Field(10, ge=1, description="frames")
    updates: int = Field(600, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_updates: int = Field(60, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    batch_frames: int = Field(6_000, ge=100, description="frames per batch, padding included")
    precision: Precision = Field("auto", description=PRECISION)
    checkpoint_every: int = Field(100, ge=1, description="updates", json_schema_extra=NO_RESULT)

    @model_validator(mode="after")
    def _heads_divide(self) -> BertSettings:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self


class LmSettings(Section):
    """The word n-gram."""

    order: int = Field(3, ge=2, le=6, description="KenLM reads no unigram")
    text: Literal["corpus", "train"] | Path = Field(
        "corpus",
        description="corpus: what the corpus offers, else the training transcripts; "
        "train: the training transcripts; or a text file, a sentence a line",
    )
    prune: list[int] = Field([], description="lmplz --prune, a count per order")


class FinetuneSettings(Section):
    """CTC training, the same for every front-end."""

    updates: int = Field(600, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    phases: tuple[float, float, float] = Field(
        (0.1, 0.4, 0.5), description="tri-stage: shares of warm-up, hold and decay"
    )
    final_scale: float = Field(0.05, gt=0, le=1)
    freeze_updates: int = Field(0, ge=0, description="pretrained weights rest for so long")
    time_mask_probability: float = Field(0.03, ge=0, lt=1, description="a frame starts a mask")
    time_mask_span: int = Field(10, ge=1, description="frames")
    channel_mask_probability: float = Field(0.004, ge=0, lt=1)
    channel_mask_span: int = Field(32, ge=1, description="channels")
    subsample: int = Field(2, ge=1, le=8, description="frames joined before the CTC layer")
    head_frames: int = Field(
        1,
        ge=1,
        le=31,
        description="frames of a convolution under the CTC layer; 1: none, the paper",
    )
    batch_frames: int = Field(6_000, ge=100, description="frames per batch, padding included")
    precision: Precision = Field("auto", description=PRECISION)
    seeds: list[int] = Field([1], min_length=1)
    checkpoint_every: int = Field(100, ge=1, description="updates", json_schema_extra=NO_RESULT)

    @field_validator("phases")
    @classmethod
    def _whole(cls, phases: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(phases) - 1) > 1e-6 or min(phases) < 0:
            raise ValueError("three shares, none negative, that add up to 1")
        return phases


class DecodeSettings(Section):
    """Lexicon beam search; weights are tuned on dev over the grid."""

    decoders: list[str] = Field(["greedy", "lexicon_beam"], min_length=1)
    lm_weights: list[float] = Field([0.0, 0.5, 1.0, 2.0, 3.0], min_length=1)
    word_scores: list[float] = Field([-2.0, -1.0, 0.0, 1.0, 2.0], min_length=1)
    beam: int = Field(50, ge=1, description="hypotheses kept")
    beam_threshold: float = Field(30.0, gt=0, description="log score below the best")


class ScoreSettings(Section):
    """Statistics of the table."""

    bootstrap_samples: int = Field(1000, ge=100)
    confidence: float = Field(0.95, gt=0.5, lt=1)


class MachineSettings(Section):
    """How a run uses this machine; nothing here changes what is stale."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0, description="0: as many as there are cores")


BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|min|h)")


def budget_seconds(budget: str) -> float | None:
    """Seconds of labelled speech that a budget such as `10min` asks for; None for `all`."""
    if budget == "all":
        return None
    match = BUDGET.fullmatch(budget)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"'{budget}' is not a budget; write 30s, 10min, 1h or all")
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]


class Recipe(Section):
    """One experiment. `corpus` and `frontend` hold the settings class of the file they name."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="results lie in exp/<name>"
    )
    corpus: CorpusSettings
    budgets: list[str] = Field(["all"], min_length=1)
    quantizer: QuantizerSettings = QuantizerSettings()
    bert: BertSettings = BertSettings()
    text: TextSettings = TextSettings()
    lm: LmSettings = LmSettings()
    frontend: Section
    finetune: FinetuneSettings = FinetuneSettings()
    decode: DecodeSettings = DecodeSettings()
    score: ScoreSettings = ScoreSettings()
    machine: MachineSettings = MachineSettings()
    seed: int = Field(1, ge=0)

    @field_validator("name")
    @classmethod
    def _not_the_store(cls, name: str) -> str:
        if name == "store":
            raise ValueError("exp/store holds the artifacts; call the recipe differently")
        return name

    @field_validator("budgets")
    @classmethod
    def _budgets_read(cls, budgets: list[str]) -> list[str]:
        for budget in budgets:
            budget_seconds(budget)
        if len(set(budgets)) != len(budgets):
            raise ValueError("a budget stands twice")
        return budgets

    @property
    def frontend_name(self) -> str:
        return str(getattr(self.frontend, "name"))  # noqa: B009  every front-end has one
