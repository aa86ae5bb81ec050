"""Trains the quantizer with fairseq's own trainer, in this process, from our settings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pipeline.errors import RunError, UserError
from pipeline.manifest import Manifest
from pipeline.recipe import QuantizerSettings
from stages.quantizer.fairseq import model as registered_model
from stages.quantizer.fairseq import task as registered_task
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.checkpoints import keep_apart, newest_intact
from stages.quantizer.fairseq.crops import Crops
from stages.quantizer.fairseq.task import SESSION, Session, not_finite
from stages.quantizer.history import Record
from stages.quantizer.model import QuantizerConfig

SEED_STRIDE = 1_000_003  # fairseq seeds update u with seed + u: keeps two seeds' draws apart
NEVER = 10**9


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        weights: the whole state dict, fairseq's names, predictor included.
        history: one record per window of updates.
        left_out: utterances that were too short.
    """

    config: QuantizerConfig
    weights: dict[str, Tensor]
    history: list[Record]
    left_out: int


def train(
    settings: QuantizerSettings,
    speech: Sequence[Manifest],
    *,
    seed: int,
    folder: Path,
    device: str = "cpu",
    tensorboard: Path | None = None,
    on_start: Callable[[int], None] = lambda done: None,
    on_update: Callable[[int, Record], None] = lambda update, figures: None,
    say: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train to `settings.updates`, going on from what `folder` holds of an earlier attempt.

    Args:
        folder: for checkpoints; three at most are kept.
        on_start: told how many updates are done already.
        on_update: called after every update with its figures.

    Raises:
        UserError: the settings contradict each other.
        RunError: no speech is long enough, or the loss is not finite.
    """
    settings_agree(settings)
    config = registered_model.quantizer_config(
        registered_model.VqasrWav2VecConfig(**_model_section(settings))
    )
    shortest = config.samples(config.prediction_offset + settings.prediction_steps)
    if settings.crop_samples < shortest:
        raise UserError(
            "quantizer.crop_samples is too short to predict anything.",
            constraint=f"at least {shortest}: the receptive field and the frames predicted",
            found=str(settings.crop_samples),
            remedy="raise crop_samples, or lower prediction_steps",
        )
    start = newest_intact(folder, say)
    done = start.updates if start else 0
    writer = SummaryWriter(str(tensorboard), purge_step=done + 1) if tensorboard else None

    def after_update(update: int, figures: Record, record: Record | None) -> None:
        if update > 1 and (update - 1) % settings.checkpoint_every == 0:
            keep_apart(folder, update - 1)
        on_update(update, figures)
        for name, value in (record or {}).items():
            if writer and name != "update":
                writer.add_scalar(f"quantizer/{name}", value, update)

    session = Session(speech, seed, settings.crop_samples, shortest, after_update)
    crops = Crops(speech, seed=seed, crop_samples=session.crop_samples, shortest_samples=shortest)
    on_start(done)
    if start:
        session.history.restore(start.state["task_state"]["history"])
    if done < settings.updates:
        cfg = fairseq_config(settings, seed, folder, device, start.path if start else None)
        del start
        _run_fairseq(cfg, session)
    if writer:
        writer.close()
    end = newest_intact(folder, say)
    if end is None or end.updates < settings.updates:
        raise RunError(
            "fairseq stopped before the last update.",
            constraint=f"{settings.updates} updates",
            found=str(end.updates if end else 0),
            remedy="see the step's log",
        )
    return Trained(config, end.state["model"], session.history.records(), crops.left_out)


def settings_agree(settings: QuantizerSettings) -> None:
    """Raise UserError where two settings exclude each other."""
    if settings.crop_samples > settings.batch_samples:
        raise UserError(
            "quantizer.crop_samples must fit into a batch.",
            constraint=f"at most batch_samples, {settings.batch_samples}",
            found=str(settings.crop_samples),
        )
    if settings.final_learning_rate >= settings.learning_rate:
        raise UserError(
            "quantizer.final_learning_rate must be below the learning rate.",
            constraint=f"less than {settings.learning_rate}",
            found=str(settings.final_learning_rate),
        )
    if settings.negatives + settings.cross_sample_negatives == 0:
        raise UserError(
            "quantizer: there is nothing to tell the true frame from.",
            constraint="negatives or cross_sample_negatives of 1 or more",
            found="both are 0",
        )


def temperatures(settings: QuantizerSettings) -> tuple[float, float, float]:
    """fairseq's (first, last, decay), such that the last is reached when the recipe says.

    fairseq's rule is max(last, first * decay ** update); its default decay, 0.999995, takes 277
    thousand updates.
    """
    first, last = settings.temperature
    decay_updates = max(settings.temperature_reached * settings.updates, 1.0)
    return first, last, min((last / first) ** (1 / decay_updates), 1.0)


def _model_section(settings: QuantizerSettings) -> dict[str, Any]:
    return {
        "conv_feature_layers": str([tuple(layer) for layer in settings.encoder_layers]),
        "conv_aggregator_layers": str([tuple(layer) for layer in settings.aggregator_layers]),
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
        "normalise_diversity": True,
        "prediction_steps": settings.prediction_steps,
        "num_negatives": settings.negatives,
        "cross_sample_negatives": settings.cross_sample_negatives,
        "infonce": settings.infonce,
        "dropout": settings.dropout,
        "dropout_features": settings.dropout_features,
        "dropout_agg": settings.dropout_aggregator,
    }


def _loss_weights(settings: QuantizerSettings) -> list[float] | None:
    if settings.type == "kmeans":
        return [1.0]
    return [settings.diversity_weight] if settings.type == "gumbel" else None


def fairseq_config(
    settings: QuantizerSettings, seed: int, folder: Path, device: str, start: Path | None
) -> Any:
    """The configuration that `fairseq-hydra-train` would make of the same settings."""
    from fairseq.dataclass.configs import FairseqConfig

    warmup = min(settings.warmup_updates, settings.updates - 1)
    rate = settings.learning_rate
    given = {
        "common": {
            "seed": seed * SEED_STRIDE % 2**31,
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
            "restore_file": str(start) if start else "checkpoint_last.pt",
            "save_interval": NEVER,
            "save_interval_updates": settings.checkpoint_every,
            "keep_interval_updates": 2,
            "no_epoch_checkpoints": True,
        },
        "task": {"_name": registered_task.NAME, "data": "."},
        "model": {"_name": registered_model.NAME, **_model_section(settings)},
        "criterion": {
            "_name": "wav2vec",
            "infonce": settings.infonce,
            "loss_weights": _loss_weights(settings),
            "log_keys": registered_task.LOGGED,
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


def _run_fairseq(cfg: Any, session: Session) -> None:
    main = import_fairseq("fairseq_cli.train").main
    token = SESSION.set(session)
    try:
        with _logged_not_printed():
            main(cfg)
    except FloatingPointError as error:
        raise not_finite("gradient") from error
    finally:
        SESSION.reset(token)


class _ToOurLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("vqasr").handle(record)


@contextmanager
def _logged_not_printed() -> Iterator[None]:
    """fairseq's log and Python's warnings into the step's log instead of onto the terminal."""
    loggers = [logging.getLogger(name) for name in ("fairseq", "fairseq_cli")]
    before = [(x.handlers[:], x.level, x.propagate) for x in loggers]
    for logger in loggers:
        logger.handlers[:], logger.propagate = [_ToOurLog()], False
        logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _log_warning
            yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


def _log_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    logging.getLogger("vqasr").debug("%s: %s", category.__name__, message)
