"""fairseq's audio pretraining task over our manifests, with a hook after every update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.errors import RunError
from stages.quantizer.doctor import Doctor
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.crops import Crops
from stages.quantizer.history import History, Record

import_fairseq()

from fairseq.tasks import register_task  # noqa: E402
from fairseq.tasks.audio_pretraining import (  # noqa: E402
    AudioPretrainingConfig,
    AudioPretrainingTask,
)

NAME = "vqasr_pretraining"
LOGGED = ["code_perplexity", "prob_perplexity", "temp"]  # what the criterion is to pass on


@dataclass
class Session:
    """What a training needs that fairseq's configuration cannot hold.

    Attributes:
        on_update: called after every update with its number, its figures and, where a window of
            the history is complete, that window's record.
        update, batch: the number of the update at hand, from 1, and its utterances.
    """

    crops: Crops
    on_update: Callable[[int, Record, Record | None], None]
    history: History
    doctor: Doctor
    update: int = 0
    batch: list[str] = field(default_factory=list)


SESSION: ContextVar[Session] = ContextVar("SESSION")  # fairseq makes the task: this reaches it


@register_task(NAME, dataclass=AudioPretrainingConfig)
class VqasrPretraining(AudioPretrainingTask):  # type: ignore[misc]
    """Crops from manifests, figures to the session, and a stop where the loss is not finite."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.session = SESSION.get()
        self._logged: list[dict[str, Any]] = []

    def load_dataset(self, split: str, *_: Any, **__: Any) -> None:
        """The training crops, whichever split is asked for: there is no validation here."""
        self.datasets[split] = self.session.crops

    def state_dict(self) -> dict[str, Any]:
        """What fairseq puts into the checkpoint: history and doctor as of this update."""
        session = self.session
        return {"history": session.history.state(), "doctor": session.doctor.state_dict()}

    def train_step(
        self,
        sample: Any,
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> tuple[Any, Any, Any]:
        # By their names and, to look where a gradient got lost, by their places: fairseq calls
        # it in both ways.
        self.session.doctor.prepare(model)
        self.session.update = update_num + 1
        self.session.batch = self._names(sample)
        try:
            loss, sample_size, logged = super().train_step(
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
        except torch.OutOfMemoryError as error:  # fairseq would skip the batch and go on
            raise RunError(
                "The device's memory is too small to train the quantizer.",
                remedy="lower quantizer.batch_samples",
            ) from error
        if not math.isfinite(logged["loss"]):
            raise not_finite(f"loss of {logged['loss']}", self.session)
        self._logged.append(logged)
        return loss, sample_size, logged

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        super().optimizer_step(optimizer, model, update_num)
        figures = figures_of(self._logged) | {"learning_rate": optimizer.get_lr()}
        self._logged.clear()
        codebook = model.vector_quantizer
        codes_NG = None if codebook is None else codebook.last_codes_NG
        if hasattr(codebook, "temperature"):
            figures["diversity_weight"] = model.diversity_weight
        record = self.session.history.add(update_num + 1, figures, codes_NG)
        self.session.on_update(update_num + 1, figures, record)
        if record:
            self.session.doctor.see(record, model)

    def _names(self, sample: Any) -> list[str]:
        return [self.session.crops.utterance(index).id for index in sample["id"].tolist()]


def not_finite(what: str, session: Session) -> RunError:
    """The error for a loss or gradient that is NaN or infinite."""
    names = session.batch
    return RunError(
        f"Training the quantizer came to a {what} at update {session.update}.",
        constraint="finite",
        found="utterances " + ", ".join(names[:8]) + (" ..." if len(names) > 8 else ""),
        remedy="look at these utterances, or lower quantizer.learning_rate; the last good "
        "checkpoint is kept",
    )


def figures_of(logged: Sequence[dict[str, Any]]) -> Record:
    """The figures of one update: contrastive loss in bits, accuracy, perplexities, temperature.

    The criterion reports sums; `loss` includes the extra losses, which `loss_0` does not.
    """
    size = sum(part["sample_size"] for part in logged)
    loss = sum(part.get("loss_0", part["loss"]) for part in logged)
    figures: Record = {"loss_bits": loss / size / math.log(2)}
    if all(part.get("count") for part in logged):
        correct, count = (sum(part[name] for part in logged) for name in ("correct", "count"))
        figures["accuracy"] = correct / count
    for name in LOGGED:
        if all(name in part for part in logged):
            mean = sum(part[name] for part in logged) / len(logged)
            figures["temperature" if name == "temp" else name] = mean
    return figures
