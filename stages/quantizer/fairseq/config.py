"""fairseq's configuration from the recipe's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.recipe import QuantizerSettings
from stages.quantizer import geometry
from stages.quantizer.doctor import SEED_STRIDE
from stages.quantizer.fairseq.model import NAME as MODEL
from stages.quantizer.fairseq.model import VqasrWav2VecConfig
from stages.quantizer.fairseq.task import LOGGED
from stages.quantizer.fairseq.task import NAME as TASK
from stages.quantizer.model import QuantizerConfig
from stages.quantizer.published import quantizer_config

NEVER = 10**9


def model_config(settings: QuantizerSettings) -> QuantizerConfig:
    """The config of the model that these settings train."""
    return quantizer_config(VqasrWav2VecConfig(**model_section(settings)))


def shortest_samples(settings: QuantizerSettings) -> int:
    """The samples of the shortest crop on which every step predicts something."""
    return geometry.shortest_crop(settings.encoder_layers, settings.prediction_steps)


def temperatures(settings: QuantizerSettings) -> tuple[float, float, float]:
    """fairseq's (first, last, decay), such that the last is reached when the recipe says.

    fairseq's rule is max(last, first * decay ** update); its default decay, 0.999995, takes 277
    thousand updates.
    """
    first, last = settings.temperature
    decay_updates = max(settings.temperature_reached * settings.updates, 1.0)
    return first, last, min((last / first) ** (1 / decay_updates), 1.0)


def model_section(settings: QuantizerSettings) -> dict[str, Any]:
    """Our settings under the names of fairseq's wav2vec and of our additions to it."""
    return {
        "conv_feature_layers": str([tuple(layer) for layer in settings.encoder_layers]),
        "conv_aggregator_layers": str([tuple(layer) for layer in settings.aggregator_layers]),
        "aggregator": settings.aggregator,
        "gru_dim": settings.gru_dim,
        "gru_over_time": settings.aggregator == "gru",
        "activation": settings.activation,
        "vq_type": settings.type,
        "vq_groups": settings.groups,
        "vq_vars": settings.codes,
        "combine_groups": settings.combine_groups,
        "vq_depth": settings.projection_depth,
        "vq_temp": temperatures(settings),
        "vq_gamma": settings.kmeans_gamma,
        "input_norm": settings.input_norm,
        "projection_init": settings.projection_init,
        "codebook_init": settings.codebook_init,
        "quantize_after": int(settings.quantize_after * settings.updates),
        "restart_every": settings.restart_dead_codes_every,
        "restart_until": int(settings.restart_dead_codes_until * settings.updates),
        "normalise_diversity": True,
        "diversity_weight": settings.diversity_weight,
        "precision": settings.precision,
        "prediction_steps": settings.prediction_steps,
        "num_negatives": settings.negatives,
        "cross_sample_negatives": settings.cross_sample_negatives,
        "infonce": settings.infonce,
        "dropout": settings.dropout,
        "dropout_features": settings.dropout_features,
        "dropout_agg": settings.dropout_aggregator,
    }


def initial_seed(seed: int) -> int:
    """What fairseq seeds torch with before it builds the model; update u adds u to it."""
    return seed * SEED_STRIDE % 2**31


def _loss_weights(settings: QuantizerSettings) -> list[float] | None:
    """1 for the codebook's loss: the model itself weighs it, where a repair can reach."""
    return None if settings.type == "none" else [1.0]


def fairseq_config(
    settings: QuantizerSettings, seed: int, folder: Path, device: str, start: Path | None
) -> Any:
    """The configuration that `fairseq-hydra-train` would make of the same settings."""
    from fairseq.dataclass.configs import FairseqConfig

    warmup = min(settings.warmup_updates, settings.updates - 1)
    rate = settings.learning_rate
    given = {
        "common": {
            "seed": initial_seed(seed),
            "cpu": device == "cpu",
            "log_format": "none",
            "log_interval": NEVER,
        },
        "distributed_training": {"distributed_world_size": 1},
        "dataset": {
            "max_tokens": settings.batch_samples,
            "required_batch_size_multiple": 1,
            "num_workers": 0,  # workers would keep the first epoch's crops
            "data_buffer_size": 0,
            "disable_validation": True,
            "valid_subset": "train",
        },
        "optimization": {"max_update": settings.updates, "lr": [rate], "stop_min_lr": -1.0},
        "checkpoint": {
            "save_dir": str(folder),
            "restore_file": str(start) if start else "checkpoint_last.pt",  # its name for none
            "save_interval": NEVER,
            "save_interval_updates": settings.checkpoint_every,
        },
        "task": {"_name": TASK, "data": "."},
        "model": {"_name": MODEL, **model_section(settings)},
        "criterion": {
            "_name": "wav2vec",
            "infonce": settings.infonce,
            "loss_weights": _loss_weights(settings),
            "log_keys": LOGGED,
        },
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {
            "_name": "cosine",
            "min_lr": settings.final_learning_rate,
            "warmup_updates": warmup,
            # from 0, fairseq's default, the first update would be lost
            "warmup_init_lr": rate / (warmup + 1),
        },
    }
    cfg = OmegaConf.merge(OmegaConf.structured(FairseqConfig), given)
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
