"""What a row of results.json holds: the keys that it must have, and the types of all that is read.

Results of older versions lack keys; a program may add some. What is there must be of its type, for
tables and pages calculate with it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(ge=0)]  # an error rate may exceed 1
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class Best(BaseModel):
    """The evaluation of a training that dev chose the weights by."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    update: Count
    evaluations: Count
    dev_wer: Rate = 0.0
    dev_cer: Rate = 0.0


class RowFields(BaseModel):
    """A row of results.json; None where it is not known, or there is none."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    test_set: str
    budget: str
    budget_seconds: Annotated[float, Field(gt=0)]
    seed: int
    recipe: str
    frontend: str
    decoder: str
    fold: str | None
    wer: Rate
    wer_low: Rate
    wer_high: Rate
    cer: Rate
    reference_words: Positive
    lm_text: str
    dev_seconds: Seconds

    # What was scored, and how it was drawn.
    cer_low: Rate | None = None
    cer_high: Rate | None = None
    substitutions: Count = 0
    deletions: Count = 0
    insertions: Count = 0
    reference_chars: Positive = 1
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resampled: str = ""
    bootstrap_samples: Positive | None = None
    empty_share: Share = 0.0
    per_speaker: dict[str, Rate] = {}
    corpus: str | None = None
    alphabet: str = ""
    closed_grammar: bool = False
    test_seconds: Seconds = 0.0
    test_utterances: Positive = 1
    test_speakers: Count = 0
    test_rejected: Count = 0
    test_split: str = ""
    dev_speech_seconds: Seconds | None = None
    dev_utterances: Positive = 1
    dev_rejected: Count = 0
    dev_split: str = ""

    # The model and its decoder.
    lm_order: Count | None = None
    lm_perplexity: Rate | None = None
    lm_sentences: Count | None = None
    lm_vocabulary: Count | None = None
    test_in_lm_text: Count | None = None
    dev_in_lm_text: Count | None = None
    lm_weight: float = 0.0
    word_score: float = 0.0
    beam: Positive | None = None
    beam_tuned: bool | None = None
    dev_wer: Rate = 0.0
    at_edge: list[str] | None = None
    parameters: Count | None = None
    updates: Count | None = None
    precision: str | None = None
    left_out: Count | None = None
    best: Best | None = None
    settings: dict[str, str] | None = None


REQUIRED = tuple(name for name, field in RowFields.model_fields.items() if field.is_required())
