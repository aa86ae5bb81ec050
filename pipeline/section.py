"""What every section of a recipe is: typed, frozen, unknown keys refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")  # of what becomes a part of folders and tables
# A field marked so changes no result: it stays out of every signature.
NO_RESULT: dict[str, Any] = {"signature": False}


T = TypeVar("T")
# NumPy's RandomState takes no larger ones, and torch's no more than 64 bits, of which the collapse
# check of stage 1 takes 20 for itself.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Precision = Literal["auto", "fp32", "bf16"]
ACCUMULATE = (
    "batches of an update: their gradients are summed before a step, as those of one batch of so "
    "many times batch_frames, with the memory of one"
)
CHECKPOINT_ACTIVATIONS = (
    "true: in training each layer keeps only what goes in and is computed again for its "
    "gradients: much less memory, about a third more time, the same result"
)
CLIP_NORM = (
    "to which gradients of a larger norm are scaled down. 0: none are, as in fairseq's recipes of "
    "RoBERTa and of wav2vec 2.0's fine-tuning"
)
PRECISION = "auto: bf16 where the processor multiplies in it, else fp32"


def each_once(values: list[T]) -> list[T]:
    """`values`, unless one of them stands twice (ValueError)."""
    twice = [v for n, v in enumerate(values) if v in values[:n]]
    if twice:
        raise ValueError(f"{twice[0]} stands twice")
    return values


def heads_divide(heads: int, info: ValidationInfo) -> int:
    """`heads`, unless the section's `dim` is no multiple of it (ValueError)."""
    if info.data.get("dim", 0) % heads:
        raise ValueError(f"dim {info.data['dim']} is not a multiple of heads {heads}")
    return heads


def check_test_name(name: str) -> None:
    """A test set's name becomes a part of folders and tables.

    Raises:
        ValueError: other characters than letters, digits, - and _; or the name of a split.
    """
    if name in ("train", "dev", "unlabelled"):
        raise ValueError(f"'{name}' is the name of another split; call the test set differently")
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"'{name}': a test set's name is made of letters, digits, - and _")


class Section(BaseModel):
    """A part of a recipe. Unknown keys are refused; values do not change once read."""

    # Defaults are checked too: one may not agree with what the recipe sets beside it.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    def signed(self) -> dict[str, Any]:
        """The values that results depend on, as JSON types."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("signature") is False:
                values.pop(name)
        return values
