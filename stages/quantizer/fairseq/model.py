"""The model that fairseq trains: its `wav2vec`, made of our modules.

The same parameters under the same names, and with all additions off the same loss and gradients;
only cheaper (see codebook.py and predictions.py).
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import RunError
from pipeline.training import autocast
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.predictions import Predictions
from stages.quantizer.model import (
    QuantizerConfig,
    build_aggregator,
    build_codebook,
    build_encoder,
)

import_fairseq()

from fairseq.models import BaseFairseqModel, register_model  # noqa: E402
from fairseq.models.wav2vec.wav2vec import Wav2VecConfig  # noqa: E402

NAME = "vqasr_wav2vec"


@dataclass
class VqasrWav2VecConfig(Wav2VecConfig):  # type: ignore[misc]
    """fairseq's settings of wav2vec, and our additions, all off."""

    input_norm: bool = field(
        default=False, metadata={"help": "LayerNorm before the quantizer's projection"}
    )
    projection_init: str = field(
        default="fairseq", metadata={"help": "fairseq, or normal: logits from N(0, 1) weights"}
    )
    codebook_init: str = field(
        default="fairseq", metadata={"help": "fairseq, or normal: entries from N(0, 1)"}
    )
    restart_every: int = field(
        default=0, metadata={"help": "updates between restarts of dead k-means codes; 0: never"}
    )
    restart_until: int = field(default=0, metadata={"help": "update of the last restart"})
    normalise_diversity: bool = field(
        default=False, metadata={"help": "divide the diversity loss by groups x codes"}
    )
    precision: str = field(
        default="fp32", metadata={"help": "of the two networks: fp32, bf16, or auto"}
    )


def layers(text: str) -> list[tuple[int, int, int]]:
    """fairseq's `conv_feature_layers`: a literal, such as "[(512, 10, 5)] + [(512, 4, 2)] * 3".

    fairseq evaluates such a text as code. Here only lists, sums of lists and products by a
    whole number are understood.

    Raises:
        RunError: it is anything else.
    """
    try:
        return [(int(c), int(k), int(s)) for c, k, s in _literal(ast.parse(text, mode="eval").body)]
    except (SyntaxError, ValueError, TypeError) as error:
        raise RunError(
            "The layers of a convolutional network are not a literal.",
            constraint="a list of (channels, kernel, stride)",
            found=repr(text[:100]),
        ) from error


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return list(_literal(node.left)) + list(_literal(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if not isinstance(times, int) or not 0 <= times <= 100:
            raise ValueError("a repetition that is no small whole number")
        return list(_literal(node.left)) * times
    return ast.literal_eval(node)


def quantizer_config(cfg: Any) -> QuantizerConfig:
    """Our config from fairseq's (a `Wav2VecConfig` or one with our additions).

    Raises:
        RunError: a setting that nothing here stands for.
    """
    encoder_layers = layers(cfg.conv_feature_layers)
    if cfg.vq_dim not in (0, encoder_layers[-1][0]):
        raise RunError(
            "vq_dim must be the encoder's dimension.",
            constraint=f"0 or {encoder_layers[-1][0]}",
            found=str(cfg.vq_dim),
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
        input_norm=getattr(cfg, "input_norm", False),
        projection_init=getattr(cfg, "projection_init", "fairseq"),
        codebook_init=getattr(cfg, "codebook_init", "fairseq"),
        restart_every=getattr(cfg, "restart_every", 0),
        restart_until=getattr(cfg, "restart_until", 0),
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


def initial_weights(cfg: VqasrWav2VecConfig, seed: int) -> dict[str, Tensor]:
    """The weights that a training under fairseq's seed `seed` starts from, by name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(VqasrWav2Vec(cfg).state_dict())


@register_model(NAME, dataclass=VqasrWav2VecConfig)
class VqasrWav2Vec(BaseFairseqModel):  # type: ignore[misc]
    """A drop-in for fairseq's `wav2vec` under its `wav2vec` criterion."""

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> VqasrWav2Vec:
        return cls(cfg)

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        config = quantizer_config(cfg)
        # in fairseq's order, so that a seed gives the same initial weights
        self.feature_extractor = build_encoder(config)
        self.vector_quantizer = build_codebook(config)
        self.feature_aggregator = build_aggregator(config)
        self.wav2vec_predictions = Predictions(
            config.context_dim,
            config.dim,
            steps=cfg.prediction_steps,
            negatives=cfg.num_negatives,
            cross_sample_negatives=cfg.cross_sample_negatives,
            sample_distance=cfg.sample_distance,
            dropout=cfg.dropout,
            offset=config.prediction_offset if cfg.offset == "auto" else int(cfg.offset),
            balanced_classes=cfg.balanced_classes,
            infonce=cfg.infonce,
        )
        self.dropout_feats = nn.Dropout(cfg.dropout_features)
        self.dropout_agg = nn.Dropout(cfg.dropout_agg)
        projections = {
            "none": lambda: None,
            "same": lambda: self.feature_aggregator,
            "new": lambda: build_aggregator(config),
        }
        self.project_features = projections[str(cfg.project_features)]()
        self.normalise_diversity = getattr(cfg, "normalise_diversity", False)
        self.precision = getattr(cfg, "precision", "fp32")

    def forward(self, source: Tensor) -> dict[str, Any]:
        """`source` (B, S) to what the criterion reads: logits, targets and the quantizer's sums."""
        with autocast(self.precision, source.device.type):
            z_BDF = self.feature_extractor(source).float()
        result: dict[str, Any] = {}
        if self.vector_quantizer is not None:
            result = self.vector_quantizer(z_BDF)
            z_BDF = result.pop("x")
        with autocast(self.precision, source.device.type):
            context_BDF = self.feature_aggregator(self.dropout_feats(z_BDF)).float()
        context_BDF = self.dropout_agg(context_BDF)
        if self.project_features is not None:
            z_BDF = self.project_features(z_BDF)
        logits, targets = self.wav2vec_predictions(context_BDF, z_BDF)
        return result | {"cpc_logits": logits, "cpc_targets": targets}

    def max_positions(self) -> int:
        return sys.maxsize

    def get_logits(self, net_output: dict[str, Any]) -> Tensor:
        logits: Tensor = net_output["cpc_logits"]
        return logits

    def get_targets(self, sample: Any, net_output: dict[str, Any]) -> Tensor:
        targets = net_output["cpc_targets"]
        labels: Tensor = targets[0] if isinstance(targets, tuple) else targets
        return labels.contiguous()

    def get_target_weights(self, targets: Tensor, net_output: dict[str, Any]) -> Tensor | None:
        both = net_output["cpc_targets"]
        return both[1] if isinstance(both, tuple) else None

    def get_extra_losses(self, net_output: dict[str, Any]) -> Tensor | None:
        """The diversity loss (Gumbel) or the codebook's (k-means).

        The criterion multiplies it by its weight and the sample size, and fairseq divides all
        gradients by the sample size: the weight is relative to the mean loss in nats.
        """
        if "prob_perplexity" in net_output:
            codes = net_output["num_vars"]
            unused: Tensor = codes - net_output["prob_perplexity"]
            return unused / codes if self.normalise_diversity else unused
        return net_output.get("kmeans_loss")
