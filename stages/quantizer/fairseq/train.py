"""Trains the quantizer with fairseq's own trainer, in this process, from our settings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pipeline import checkpoints, interrupt
from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.recipe import QuantizerSettings
from stages.quantizer.doctor import Doctor
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.checkpoints import kept_by_us
from stages.quantizer.fairseq.config import (
    fairseq_config,
    initial_seed,
    model_config,
    model_section,
    shortest_samples,
)
from stages.quantizer.fairseq.crops import Crops
from stages.quantizer.fairseq.model import VqasrWav2VecConfig, initial_weights
from stages.quantizer.fairseq.task import SESSION, Session, not_finite
from stages.quantizer.history import History, Record, in_words
from stages.quantizer.model import QuantizerConfig


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        weights: the whole state dict, fairseq's names, predictor included.
        history: one record per window of updates.
        collapses, repairs: of the codebook, in order; see doctor.py.
        left_out: utterances that were too short.
    """

    config: QuantizerConfig
    weights: dict[str, Tensor]
    history: list[Record]
    left_out: int
    collapses: list[dict[str, Any]] = field(default_factory=list)
    repairs: list[dict[str, Any]] = field(default_factory=list)


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

    With 0 updates nothing is trained: the weights are those that a training starts from.

    Args:
        folder: for checkpoints; two are kept.
        on_start: told how many updates are done already.
        on_update: called after every update with its figures.

    Raises:
        KeyboardInterrupt: after a signal, when the update at hand is saved.
        RunError: no speech is long enough, the loss is not finite, or the codebook collapses and
            `settings.on_collapse` does not say to go on.
    """
    crops = Crops(
        speech,
        seed=seed,
        crop_samples=settings.crop_samples,
        shortest_samples=shortest_samples(settings),
        augment=settings.augment,
    )
    if not settings.updates:
        weights = initial_weights(VqasrWav2VecConfig(**model_section(settings)), initial_seed(seed))
        return Trained(model_config(settings), weights, [], crops.left_out)
    start = checkpoints.newest(folder, say)
    done = start.updates if start else 0
    on_start(done)
    cfg = fairseq_config(settings, seed, folder, device, start.path if start else None)
    with _curves(tensorboard, done) as draw:

        def after_update(update: int, figures: Record, record: Record | None) -> None:
            if record:
                draw(record)
                logging.getLogger("vqasr").info(in_words(record))
            on_update(update, figures)
            if interrupt.requested():
                # Then fairseq saves and stops. Not by its limit of time, which a clock that is
                # set back never reaches.
                cfg.optimization.max_update = update

        history = History(0 if settings.type == "none" else settings.codes)
        session = Session(crops, after_update, history, Doctor(settings, seed, say))
        if start:
            history.restore(start.state["task_state"]["history"])
            session.doctor.restore(start.state["task_state"]["doctor"])
        if done < settings.updates:
            _run_fairseq(cfg, session, folder)
    return _finished(settings, session, folder, say)


def _finished(
    settings: QuantizerSettings, session: Session, folder: Path, say: Callable[[str], None]
) -> Trained:
    """What the last checkpoint and the session hold; RunError if fairseq stopped before."""
    end = checkpoints.newest(folder, say)
    if end is None or end.updates < settings.updates:
        raise RunError(
            "fairseq stopped before the last update.",
            constraint=f"{settings.updates} updates",
            found=str(end.updates if end else 0),
            remedy="see the step's log",
        )
    return Trained(
        model_config(settings),
        end.state["model"],
        session.history.records(),
        session.crops.left_out,
        session.doctor.state.collapses,
        session.doctor.state.repairs,
    )


@contextmanager
def _curves(folder: Path | None, done: int) -> Iterator[Callable[[Record], None]]:
    """Draw records for TensorBoard; what a killed run drew beyond `done` disappears."""
    if folder is None:
        yield lambda record: None
        return
    writer = SummaryWriter(str(folder), purge_step=done + 1)

    def draw(record: Record) -> None:
        for name, value in record.items():
            if name != "update":
                writer.add_scalar(f"quantizer/{name}", value, int(record["update"]))

    try:
        yield draw
    finally:
        writer.close()


def _run_fairseq(cfg: Any, session: Session, folder: Path) -> None:
    main = import_fairseq("fairseq_cli.train").main
    token = SESSION.set(session)
    try:
        with _logged_not_printed(), kept_by_us(folder), interrupt.deferred():
            main(cfg)
    except FloatingPointError as error:
        raise not_finite("gradient that is not finite", session) from error
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
            warnings.showwarning = _log_warning  # type: ignore[assignment]
            yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


def _log_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    logging.getLogger("vqasr").debug("%s: %s", category.__name__, message)
