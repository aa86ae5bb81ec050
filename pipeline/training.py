"""The one training loop for BERT and CTC: exact resume, stops on NaN, keeps the best weights."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pipeline import checkpoints, cores, interrupt
from pipeline.batches import Batches, generator
from pipeline.errors import RunError
from pipeline.evaluation import BestWeights, Evaluation
from pipeline.precision import autocast, chosen_precision
from pipeline.stage import StepContext
from pipeline.tensorboard import TensorBoard

if TYPE_CHECKING:
    from torch import nn

LOG_EVERY_UPDATES = 25
PRECISION = "precision"  # in checkpoints


class Loss(NamedTuple):
    """The loss of a batch.

    Attributes:
        mean: scalar, over the terms.
        beside: what else is logged.
        terms: how many the mean is over, such as hidden frames or labels: the weight of the batch
            among those of one update.
    """

    mean: Tensor
    beside: Mapping[str, float] = MappingProxyType({})
    terms: float = 1.0


@dataclass(frozen=True)
class Training:
    """What is trained and how.

    Attributes:
        loss: (update, epoch, utterance ids) to the loss of a batch.
        scale: factor of the learning rate at an update.
        each: called before every update with its number; to freeze and thaw.
        evaluation: if there is one, the model ends with the weights that did best in it.
        accumulate: batches of an update. Their gradients come to those of one batch of them all,
            whose loss is a mean over all terms, with the memory of one.
        clip_norm: to which gradients of a larger norm are scaled down; 0: none are.
        precision_key: what `precision` is called in a recipe, for messages.
    """

    model: nn.Module
    loss: Callable[[int, int, list[str]], Loss]
    batches: Batches
    updates: int
    learning_rate: float
    scale: Callable[[int], float]
    seed: int
    checkpoint_every: int
    weight_decay: float = 0.0
    each: Callable[[int], None] = lambda update: None
    precision: str = "fp32"
    what: str = "training"
    evaluation: Evaluation | None = None
    accumulate: int = 1
    clip_norm: float = 1.0
    precision_key: str = "precision"

    def run(self, ctx: StepContext) -> list[dict[str, float]]:
        """Train to the last update and return the history: logged means and evaluations, in order.

        A killed run goes on from its newest intact checkpoint. Batches, masks and dropout are
        functions of the update's number, so the weights come out as if nothing had happened.
        A signal lets the update at hand end and be saved.

        Raises:
            KeyboardInterrupt: after a signal, when the checkpoint is written.
            RunError: loss or gradient is NaN or infinite; names the update and its utterances.
                Or the checkpoint was made in another precision than this machine chooses.
        """
        optimizer = self.new_optimizer()
        best = BestWeights(ctx.scratch, self.evaluation) if self.evaluation else None
        first, history, sums = self._resume(ctx, optimizer, best)
        writer = TensorBoard(ctx.tensorboard, first)
        for row in history:
            if row["update"] == first:  # purged with the evaluation that may follow it
                self._log(writer, row, optimizer)
        bar = ctx.progress(self.updates, self.what, "updates", first)
        with interrupt.deferred(), bar as progress:
            # After a signal the checkpoint is written at once, and what it lacks is done here.
            self._evaluate(ctx, first, history, writer, best)
            for update in range(first, self.updates):
                metrics = self.update(update, optimizer)
                for name, value in metrics.items():
                    sums[name] = sums.get(name, 0.0) + value
                done = update + 1
                progress.update(note=f"loss {metrics['loss']:.3f}")
                if done % LOG_EVERY_UPDATES == 0 or done == self.updates:
                    count = (done - 1) % LOG_EVERY_UPDATES + 1  # since the row before
                    row = {k: round(v / count, 5) for k, v in sums.items()}
                    history.append({"update": done, **row})
                    self._log(writer, history[-1], optimizer)
                    ctx.log.debug("update %d %s", done, row)
                    sums = {}
                stop = interrupt.requested()
                if stop or (done % self.checkpoint_every == 0 and done < self.updates):
                    # Before an evaluation: one that outlasts what a signal waits costs no update.
                    self._save(ctx, optimizer, done, history, sums)
                    if best:
                        best.forget(history)
                if not stop:
                    self._evaluate(ctx, done, history, writer, best)
                    stop = interrupt.requested()
                    if stop:  # what the evaluation found, too
                        self._save(ctx, optimizer, done, history, sums)
                if stop:
                    interrupt.leave()
        writer.close()
        if best:
            found = best.restore(self.model, history)
            ctx.say(f"{self.what}: the weights after {found['update']:.0f} updates are the best")
        return history

    def _evaluate(
        self,
        ctx: StepContext,
        done: int,
        history: list[dict[str, float]],
        writer: TensorBoard,
        best: BestWeights | None,
    ) -> None:
        """Where an evaluation is due, add it to the history, and keep the weights if best."""
        if self.evaluation is None or best is None:
            return
        if not self.evaluation.due(done, self.updates, history):
            return
        figures = self.evaluation.figures(self.model, done, self.what)
        row = {"update": done, **figures}
        history.append(row)
        writer.write(done, figures)
        ctx.log.debug("update %d %s", done, figures)
        if self.evaluation.best(history) is row:
            best.keep(self.model, done)

    @staticmethod
    def _log(
        writer: TensorBoard, row: Mapping[str, float], optimizer: torch.optim.Optimizer
    ) -> None:
        """A row of the history; beside means of updates stands the learning rate."""
        figures = {name: value for name, value in row.items() if name != "update"}
        if "loss" in row:
            figures["learning_rate"] = optimizer.param_groups[0]["lr"]
        writer.write(int(row["update"]), figures)

    @property
    def computes_in(self) -> str:
        """What `precision` comes to on the device of the model: fp32 or bf16."""
        return chosen_precision(self.precision, next(self.model.parameters()).device.type)

    def new_optimizer(self) -> torch.optim.AdamW:
        """Adam as in the papers, with decoupled weight decay."""
        return torch.optim.AdamW(
            _decayed_or_not(self.model, self.weight_decay),
            lr=self.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            foreach=True,
        )

    def update(self, update: int, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Make update number `update`, from 0; returns the loss and what is logged beside it."""
        self.model.train()
        self.each(update)
        first = update * self.accumulate
        batches = [self.batches.at(first + n) for n in range(self.accumulate)]
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * self.scale(update)
        torch.manual_seed(int(generator(self.seed, "update", update).integers(2**62)))
        optimizer.zero_grad()
        told, terms = [], []
        for epoch, ids in batches:
            loss = self._backward(update, epoch, ids)
            told.append({"loss": loss.mean.item(), **loss.beside})
            terms.append(loss.terms)
        if self.accumulate > 1:
            self._divide_gradients(sum(terms))
        largest = self.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        # A step along such a gradient would ruin the weights before the next loss could tell.
        self._check_finite(norm, "gradient", update, [i for _, ids in batches for i in ids])
        optimizer.step()
        means = {name: _mean([each[name] for each in told], terms) for name in told[0]}
        return {"loss": means.pop("loss"), "gradient_norm": norm.item(), **means}

    def _backward(self, update: int, epoch: int, ids: list[str]) -> Loss:
        """Add the gradients of a batch: of its mean, or of its sum where more batches follow."""
        device = next(self.model.parameters()).device.type
        with autocast(self.precision, device):
            loss = self.loss(update, epoch, ids)
        self._check_finite(loss.mean, "loss", update, ids)
        (loss.mean * loss.terms if self.accumulate > 1 else loss.mean).backward()
        return loss

    def _divide_gradients(self, terms: float) -> None:
        """From gradients of a sum to those of the mean over so many terms."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= terms

    def _check_finite(self, value: Tensor, name: str, update: int, ids: list[str]) -> None:
        if not torch.isfinite(value):
            raise RunError(
                f"The {name} of {self.what} is {value.item()} at update {update + 1}.",
                found="utterances " + ", ".join(ids[:8]) + (" ..." if len(ids) > 8 else ""),
                remedy="look at these utterances, or lower the learning rate",
            )

    def _save(
        self,
        ctx: StepContext,
        optimizer: torch.optim.Optimizer,
        done: int,
        history: list[dict[str, float]],
        sums: dict[str, float],
    ) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "sums": sums,
            PRECISION: self.computes_in,
        }
        checkpoints.save(ctx.scratch, done, state)

    def _resume(
        self, ctx: StepContext, optimizer: torch.optim.Optimizer, best: BestWeights | None
    ) -> tuple[int, list[dict[str, float]], dict[str, float]]:
        def complete(state: dict[str, Any]) -> bool:
            return best is None or best.are_there(state["history"])

        found = checkpoints.newest(ctx.scratch, ctx.say, complete)
        if found is None:
            return 0, [], {}
        self._refuse_another_precision(found.state)
        self.model.load_state_dict(found.state["model"])
        optimizer.load_state_dict(found.state["optimizer"])
        if best:
            best.resume(found.state["history"])
        return found.updates, list(found.state["history"]), dict(found.state["sums"])

    def _refuse_another_precision(self, state: Mapping[str, Any]) -> None:
        """Half of a training in bf16 and half in fp32 would be neither, and not to be repeated."""
        here = self.computes_in
        began = state.get(PRECISION, here)  # older checkpoints do not tell
        if began != here:
            raise RunError(
                f"This machine computes {self.what} in another precision than it was begun in.",
                constraint=f"{began}, as in the checkpoint",
                found=f"{here}, what {self.precision_key} {self.precision} comes to here",
                remedy=f"go on on a machine where it comes to {began}, or set {self.precision_key} "
                "to fp32 or bf16, which starts a training of its own",
            )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    if len(values) == 1:  # to the last bit what it was
        return values[0]
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _decayed_or_not(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_threads(threads: int) -> None:
    """Let torch use so many cores; 0: what OMP_NUM_THREADS says, else all that we may use."""
    if threads or not os.environ.get("OMP_NUM_THREADS"):  # torch itself follows it
        torch.set_num_threads(threads or cores.usable())


def quiet_transformers() -> None:
    """No bars and reports of transformers for every model file; errors still show."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
