"""Acoustic models that say something: for tests of what comes after the training.

Six updates teach nothing, and an untrained CTC layer says the same in every frame. Here its
weights and the embeddings start large, so that what is heard depends on the units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def babbling(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, a maker of acoustic models, so that they babble. Train them with tiny steps."""

    def made(*args: Any, **named: Any) -> Any:
        import torch

        model = make(*args, **named)
        with torch.no_grad():
            model.ctc.weight.mul_(40)
            bert = getattr(model.encoder, "bert", None)
            if bert is not None:
                bert.embeddings.word_embeddings.weight.mul_(40)
        return model

    return made
