"""Activation checkpointing: less memory for a training, for about a third more time.

Of each layer only what goes in is kept; in the backward pass the layer is computed once more
(Chen et al. 2016, arXiv 1604.06174), with the dropout that it had. Gradients are the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def checkpoint_activations(model: nn.Module) -> int:
    """Let every layer of the model that can be computed twice keep no activations.

    They are transformers' `GradientCheckpointingLayer`s: the layers of a BERT, and ours that are
    made of it. Only a model in training mode with gradients is touched.

    Returns:
        how many layers there are.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    for layer in layers:
        # What transformers' own switch does. That one also makes embeddings want gradients, as
        # adapters need, and goes by another name in every other release.
        layer.gradient_checkpointing = True
        again: Any = partial(checkpoint, use_reentrant=False)
        layer._gradient_checkpointing_func = again
    return len(layers)
