"""The model that fairseq trains: its `wav2vec`, made of our modules.

The same parameters under the same names, and with all additions off the same loss and gradients;
only cheaper (see gumbel.py, kmeans.py and predictions.py).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.precision import autocast
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.predictions import Predictions
from stages.quantizer.model import build_aggregator, build_codebook, build_encoder
from stages.quantizer.published import quantizer_config

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
    quantize_after: int = field(
        default=0, metadata={"help": "updates on unquantized features before k-means begins"}
    )
    restart_every: int = field(
        default=0, metadata={"help": "updates between restarts of dead k-means codes; 0: never"}
    )
    restart_until: int = field(default=0, metadata={"help": "update of the last restart"})
    gru_over_time: bool = field(
        default=False, metadata={"help": "the GRU aggregator runs over time, not over the batch"}
    )
    normalise_diversity: bool = field(
        default=False, metadata={"help": "divide the diversity loss by groups x codes"}
    )
    diversity_weight: float = field(
        default=1.0, metadata={"help": "multiplies the diversity loss, beside the criterion's"}
    )
    precision: str = field(
        default="fp32", metadata={"help": "of the two networks: fp32, bf16, or auto"}
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
            precision=getattr(cfg, "precision", "fp32"),
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
        self.diversity_weight = getattr(cfg, "diversity_weight", 1.0)  # a repair raises it
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
            unused = unused / codes if self.normalise_diversity else unused
            return self.diversity_weight * unused
        return net_output.get("kmeans_loss")
