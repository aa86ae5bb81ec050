"""Evaluations within a training, and the weights that did best in them.

`best-00000035.pt` in the scratch folder holds the weights after 35 updates, with its checksum
beside it as checkpoints have. Which one is the best is a function of the history, which travels in
the checkpoints: what a killed run evaluated beyond its checkpoint is evaluated again, and
comes out the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from pipeline import checkpoints
from pipeline.errors import RunError

if TYPE_CHECKING:
    from torch import nn

Row = dict[str, float]
PATTERN = "best-*.pt"


@dataclass(frozen=True)
class Evaluation:
    """When a model is evaluated, and by which figure its best weights are told.

    Attributes:
        evaluate: from the number of updates done to figures, such as {"dev_loss": 2.1}. It is
            called without gradients, with the model in evaluation mode; what it draws at random
            and which mode it leaves the model in touch nothing of the training. Names should
            not be those that training logs (`loss`): all stand in one history.
        every: updates; the end of the training is evaluated too.
        figure: the one that decides; of equals the earlier is the best.
        direction: whether less of it is better (`min`) or more (`max`).
    """

    evaluate: Callable[[int], Mapping[str, float]]
    every: int
    figure: str
    direction: Literal["min", "max"] = "min"

    def due(self, done: int, updates: int, history: Sequence[Row]) -> bool:
        """Whether the model is to be evaluated after `done` of `updates` updates, and was not."""
        due = done == updates or (done > 0 and done % self.every == 0)
        return due and not any(r["update"] == done and self.figure in r for r in history)

    def best(self, history: Sequence[Row]) -> Row | None:
        """The row of the best evaluation; None where there was none."""
        rows = [row for row in history if self.figure in row]
        choose = min if self.direction == "min" else max
        return choose(rows, key=lambda row: row[self.figure], default=None)  # the first of equals

    def figures(self, model: nn.Module, done: int, what: str) -> Row:
        """Evaluate the model after `done` updates.

        Raises:
            RunError: a figure is NaN or infinite.
        """
        with undisturbed(model):
            figures = {name: float(v) for name, v in self.evaluate(done).items()}
        for name, value in figures.items():
            if not math.isfinite(value):
                raise RunError(
                    f"The {name} of {what} is {value} after {done} updates.",
                    remedy="look at the curve before it, or lower the learning rate",
                )
        return figures


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random states are as before when it ends."""
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            model.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, mode in modes.items():
            module.training = mode


class BestWeights:
    """The files of the best weights in `folder`: those that the kept checkpoints tell of."""

    def __init__(self, folder: Path, evaluation: Evaluation) -> None:
        self._folder, self._evaluation = folder, evaluation
        self._of_last_checkpoint = 0  # update of the weights that it counts as the best

    def keep(self, model: nn.Module, update: int) -> None:
        """Write the weights of `model`, the best so far. Older ones stay until `forget`."""
        checkpoints.write(self._path(update), {"model": model.state_dict()})

    def are_there(self, history: Sequence[Row]) -> bool:
        """Whether the best weights that this history tells of can be had."""
        best = self._evaluation.best(history)
        return best is None or checkpoints.is_whole(self._path(int(best["update"])))

    def resume(self, history: Sequence[Row]) -> None:
        """A checkpoint with this history was gone on from."""
        self._of_last_checkpoint = self._update_of_best(history)

    def forget(self, history: Sequence[Row]) -> None:
        """A checkpoint with this history was written: it and the one before keep theirs."""
        for path in self._folder.glob(PATTERN):
            if int(path.stem.partition("-")[2]) < self._of_last_checkpoint:
                checkpoints.remove(path)
        self._of_last_checkpoint = self._update_of_best(history)

    def restore(self, model: nn.Module, history: Sequence[Row]) -> Row:
        """Load the best weights into the model; returns the row of their evaluation."""
        best = self._evaluation.best(history)
        assert best is not None  # the end of a training is evaluated
        state = torch.load(self._path(int(best["update"])), map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        return best

    def _update_of_best(self, history: Sequence[Row]) -> int:
        best = self._evaluation.best(history)
        return int(best["update"]) if best else 0

    def _path(self, update: int) -> Path:
        return self._folder / f"best-{update:08d}.pt"
