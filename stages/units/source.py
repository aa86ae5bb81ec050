"""What a front-end tells the plan if its units are not those of the recipe's quantizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.stage import StepContext


@dataclass(frozen=True)
class UnitSource:
    """Stages 1 and 2 done another way; what they write has the same form.

    Attributes:
        label: of the step of stage 1, such as `kmeans_mfcc`.
        settings: JSON values that the result of `fit` depends on, beside the speech and the seed.
        fit: makes stage 1's artifact; called with the context, `roles` (the inputs that are
            speech) and `seed`.
        discretize: stage 2 of one split; reads the roles `manifest` and `quantizer`.
    """

    label: str
    version: int
    settings: Mapping[str, Any]
    fit: Callable[..., None]
    discretize: Callable[[StepContext], None]
