"""Models of ours from a folder of JSON and safetensors: read as data, whoever wrote it.

`from_pretrained` of transformers does more than is wanted of a folder from elsewhere: it may take
pickled weights, adapters, or kernels that a config names. Here nothing but known settings and
tensors of the expected shapes is looked at.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.checkpoint_file import check_shapes
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig

    Model = TypeVar("Model", bound=nn.Module)

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_LAYERS = 200  # beyond, a config asks for a model that nobody made
COUNTS = frozenset(("num_hidden_layers", "layers", "projection_depth"))
# Of transformers.BertConfig, what decides the numbers that a BERT computes.
BERT_KEYS = frozenset(
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act "
    "hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings type_vocab_size "
    "layer_norm_eps pad_token_id initializer_range".split()
)


def read_json(path: Path) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        UserError: it is not there, or something else.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if not isinstance(told, dict):
        raise UserError(f"{path} is no object of JSON.")
    return told


def read_config(folder: Path, kind: type[PretrainedConfig]) -> PretrainedConfig:
    """The folder's config with the settings that `kind` has; others are left unread.

    Raises:
        UserError: it is the config of another kind of model, or cannot be.
    """
    path = folder / CONFIG
    told = read_json(path)
    if told.get("model_type") != kind.model_type:
        raise UserError(
            f"{path} is of another kind of model.",
            constraint=f"model_type {kind.model_type}",
            found=repr(told.get("model_type"))[:80],
        )
    known = inspect.signature(kind.__init__).parameters
    settings = {name: value for name, value in plain(told, path).items() if name in known}
    return _made(lambda: kind(**settings), path)


def plain(value: Any, path: Path) -> Any:
    """A setting without what transformers would act upon: of a BERT the keys of BERT_KEYS alone."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, inner in value.items():
        if name in COUNTS and not (isinstance(inner, int) and 0 < inner <= MOST_LAYERS):
            raise UserError(
                f"{path}: {name} cannot be.", constraint=f"1 to {MOST_LAYERS}", found=repr(inner)
            )
        if name == "bert" and isinstance(inner, dict):
            inner = {key: v for key, v in inner.items() if key in BERT_KEYS}
        kept[name] = plain(inner, path)
    return kept


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The folder's tensors; of safetensors only.

    Raises:
        UserError: they are not there, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {error}.", constraint="weights in safetensors"
        ) from error


def read_model(folder: Path, kind: type[PretrainedConfig], build: Callable[[Any], Model]) -> Model:
    """The model in `folder`, in eval mode.

    Args:
        build: makes it from a config of `kind`, without weights.

    Raises:
        UserError: the folder does not hold such a model, whole.
    """
    import torch

    config = read_config(folder, kind)
    weights = read_weights(folder)
    with torch.device("meta"):  # the sizes first: a config may ask for any amount of memory
        shapes = _made(lambda: build(config).state_dict(), folder / CONFIG)
    check_shapes({name: tuple(tensor.shape) for name, tensor in shapes.items()}, weights)
    model = build(config)
    model.load_state_dict(weights)
    return model.eval()


Made = TypeVar("Made")


def _made(make: Callable[[], Made], path: Path) -> Made:
    try:
        return make()
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, IndexError) as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise UserError(f"{path} describes no model that can be made.", found=told) from error
