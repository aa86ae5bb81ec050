"""fairseq's wav2vec and vq-wav2vec as our quantizer: settings and weights. No fairseq needed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pipeline.checkpoint_file import check_shapes, unsupported
from pipeline.errors import RunError, UserError
from pipeline.quantizer_settings import MOST_CODES
from stages.quantizer.model import QuantizerConfig, QuantizerModel

Layers = list[tuple[int, int, int]]  # (channels, kernel, stride)
MOST_LAYERS, MOST_GROUPS = 100, 8
# What reading a text as a literal can end in; the number 1e999 is an OverflowError.
NO_LITERAL = (SyntaxError, ValueError, TypeError, OverflowError, RecursionError, MemoryError)

# The defaults of fairseq 0.12.2 for what the exported model depends on: a checkpoint of an older
# fairseq does not name what was not there yet (`activation` before 2020: always relu).
DEFAULTS: dict[str, Any] = {
    "conv_feature_layers": "[(512, 10, 5), (512, 8, 4)] + [(512, 4, 2)] * 3 + [(512, 1, 1)] * 3",
    "conv_aggregator_layers": str([(512, kernel, 1) for kernel in range(2, 14)]),
    "activation": "relu",
    "vq_type": "none",
    "vq_groups": 2,
    "vq_vars": 320,
    "vq_dim": 0,
    "vq_depth": 1,
    "vq_temp": (2.0, 0.5, 0.999995),
    "vq_gamma": 0.25,
    "combine_groups": False,
    "dropout": 0.0,
    "aggregator": "cnn",
    "gru_dim": 512,
    "no_conv_bias": False,
    "agg_zero_pad": False,
    "skip_connections_feat": False,
    "skip_connections_agg": True,
    "residual_scale": 0.5,
    "log_compression": True,
    "non_affine_group_norm": False,
}
# Ours, which a checkpoint of our own stage 1 has: all off in fairseq.
ADDITIONS: dict[str, Any] = {
    "input_norm": False,
    "projection_init": "fairseq",
    "codebook_init": "fairseq",
    "quantize_after": 0,
    "restart_every": 0,
    "restart_until": 0,
    "gru_over_time": False,
}
CHOICES = {
    "activation": ("relu", "gelu"),
    "aggregator": ("cnn", "gru"),
    "vq_type": ("none", "gumbel", "kmeans"),
}
# Parts of the network that only its pretraining needs.
LEFT_OUT = ("wav2vec_predictions.", "project_features.")


def layers(text: str) -> Layers:
    """fairseq's `conv_feature_layers`: a literal, such as "[(512, 10, 5)] + [(512, 4, 2)] * 3".

    fairseq evaluates such a text as code. Here only lists, sums of lists and products by a
    whole number are understood.

    Raises:
        RunError: it is anything else.
    """
    try:
        found = [
            (int(c), int(k), int(s))
            for c, k, s in _literal(ast.parse(text[:10_000], mode="eval").body)
        ]
        if not found or min(min(layer) for layer in found) < 1:
            raise ValueError("at least one layer, of numbers above 0")
        return found
    except NO_LITERAL as error:
        raise RunError(
            "The layers of a convolutional network are not a literal.",
            constraint="a list of (channels, kernel, stride)",
            found=repr(text[:100]),
        ) from error


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return list(_literal(node.left)) + list(_literal(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times, repeated = ast.literal_eval(node.right), list(_literal(node.left))
        if not isinstance(times, int) or not 0 <= times * len(repeated) <= MOST_LAYERS:
            raise ValueError("a repetition that is no small whole number")
        return repeated * times
    return ast.literal_eval(node)


def quantizer_config(cfg: Any) -> QuantizerConfig:
    """Our config from fairseq's (a `Wav2VecConfig` or one with our additions).

    Raises:
        RunError: a setting that nothing here stands for.
    """
    encoder_layers = layers(cfg.conv_feature_layers)
    dim = encoder_layers[-1][0]
    if cfg.vq_dim not in (0, dim):
        raise RunError(
            "vq_dim must be the encoder's dimension.",
            constraint=f"0 or {dim}",
            found=str(cfg.vq_dim),
        )
    for name, choices in CHOICES.items():
        if str(getattr(cfg, name)) not in choices:
            raise RunError(
                f"{name} is unknown.",
                constraint=", ".join(choices),
                found=repr(str(getattr(cfg, name))[:40]),
            )
    temperatures = cfg.vq_temp
    if isinstance(temperatures, str):
        temperatures = ast.literal_eval(temperatures)
    return QuantizerConfig(
        encoder_layers=encoder_layers,
        aggregator_layers=layers(cfg.conv_aggregator_layers),
        activation=str(cfg.activation),
        quantizer_type=str(cfg.vq_type),
        groups=cfg.vq_groups,
        codes=cfg.vq_vars,
        combine_groups=cfg.combine_groups,
        projection_depth=cfg.vq_depth,
        temperatures=[float(t) for t in temperatures],
        kmeans_gamma=cfg.vq_gamma,
        **{name: getattr(cfg, name, default) for name, default in ADDITIONS.items()},
        dropout=cfg.dropout,
        aggregator=str(cfg.aggregator),
        gru_dim=cfg.gru_dim,
        conv_bias=not cfg.no_conv_bias,
        zero_pad=cfg.agg_zero_pad,
        skip_connections_encoder=cfg.skip_connections_feat,
        skip_connections_aggregator=cfg.skip_connections_agg,
        residual_scale=cfg.residual_scale,
        log_compression=cfg.log_compression,
        affine_norm=not cfg.non_affine_group_norm,
    )


def quantizer_of(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> QuantizerModel:
    """Our model with the weights of a checkpoint of fairseq's wav2vec.

    Args:
        settings: of the model, as fairseq names them; what is not there has fairseq's default.
        weights: the checkpoint's state dict, in fp32.

    Raises:
        UserError: a setting or a weight that nothing here stands for, or that does not fit.
    """
    try:
        config = quantizer_config(_checked(settings))
    except RunError as error:
        raise UserError(
            f"In the checkpoint: {error.what}", constraint=error.constraint, found=error.found
        ) from error
    try:
        with torch.device("meta"):  # sizes alone, so that wrong ones cost no memory
            model = QuantizerModel(config)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise UserError(
            "No network can be made of the checkpoint's settings.", found=str(error)[:200]
        ) from error
    used = {name: w for name, w in weights.items() if not name.startswith(LEFT_OUT)}
    check_shapes({name: tuple(w.shape) for name, w in model.state_dict().items()}, used)
    model.load_state_dict({name: w.contiguous() for name, w in used.items()}, assign=True)
    return model


def _checked(settings: Mapping[str, Any]) -> SimpleNamespace:
    """The settings that count, with fairseq's defaults; a value of another type is refused."""
    values = dict(DEFAULTS)
    for name, default in (DEFAULTS | ADDITIONS).items():
        value = settings.get(name)
        if value is None:
            continue
        if name == "vq_temp":
            values[name] = _temperatures(value)
        elif isinstance(value, type(default)) or (
            isinstance(default, float) and isinstance(value, int)
        ):
            values[name] = value
        else:
            raise unsupported(name, type(default).__name__, value)
    for name, most in (
        ("vq_groups", MOST_GROUPS),
        ("vq_vars", MOST_CODES),
        ("vq_depth", MOST_LAYERS),
    ):
        if not 1 <= values[name] <= most:
            raise unsupported(name, f"1 to {most}", values[name])
    return SimpleNamespace(**values)


def _temperatures(value: Any) -> tuple[float, ...]:
    try:
        given = ast.literal_eval(value) if isinstance(value, str) else value
        first, last, decay = (float(t) for t in given)
    except NO_LITERAL as error:
        raise unsupported("vq_temp", "three numbers", value) from error
    return first, last, decay
