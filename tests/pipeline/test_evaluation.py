"""The best weights of a training: which they are, that kills do not change them, nor they it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline import cli
from pipeline.batches import Batches
from pipeline.errors import RunError
from pipeline.evaluation import Evaluation
from pipeline.stage import StepContext
from pipeline.training import Loss, Training

UPDATES = 33
EVERY = 5  # evaluations at 5, 10, ..., 30 and at the end; checkpoints every four updates
CURVE = {5: 3.0, 10: 2.0, 15: 2.5, 20: 1.0, 25: 1.0, 30: 4.0, 33: 1.5}
MakeContext = Callable[..., StepContext]


class KilledError(Exception):
    """Stands for a kill: nothing of the training loop gets to know of it."""


class Job:
    """A layer with dropout on random vectors, and an evaluation that follows a given curve.

    Args:
        kill: ("update" or "evaluation", number): when it dies.
        told: changes of the Evaluation; None: there is none.
    """

    def __init__(
        self,
        kill: tuple[str, int] | None = None,
        told: dict[str, Any] | None = {},  # noqa: B006  not changed
        curve: dict[int, float] = CURVE,
    ) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.kill, self.curve, self.evaluated = kill, curve, []
        self.seen: dict[int, list[Tensor]] = {}
        rng = np.random.default_rng(0)
        names = [f"u{n}" for n in range(10)]
        self.speech = {n: torch.from_numpy(rng.standard_normal((3, 4))).float() for n in names}
        evaluation = None
        if told is not None:
            plain = {"evaluate": self.evaluate, "every": EVERY, "figure": "dev_loss"}
            evaluation = Evaluation(**(plain | told))
        self.training = Training(
            model=self.model,
            loss=self.loss,
            batches=Batches(dict.fromkeys(names, 3), 9, seed=1),
            updates=UPDATES,
            learning_rate=0.01,
            scale=lambda update: 1.0,
            seed=1,
            checkpoint_every=4,
            evaluation=evaluation,
        )

    def loss(self, update: int, epoch: int, ids: list[str]) -> Loss:
        if self.kill == ("update", update):
            raise KilledError
        return Loss(torch.stack([self.model(self.speech[i]).square().mean() for i in ids]).mean())

    def evaluate(self, done: int) -> dict[str, float]:
        if self.kill == ("evaluation", done):
            raise KilledError
        self.evaluated.append(done)
        self.seen[done] = self.weights()
        return {"dev_loss": self.curve[done], "weights": float(self.model[0].weight.sum())}

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.fixture
def whole(context: MakeContext) -> tuple[Job, list[dict[str, float]]]:
    job = Job()
    return job, job.training.run(context("whole"))


def test_it_is_evaluated_every_so_often_and_at_the_end(
    whole: tuple[Job, list[dict[str, float]]],
) -> None:
    job, history = whole
    assert job.evaluated == list(CURVE)
    rows = [row for row in history if "dev_loss" in row]
    assert {row["update"]: row["dev_loss"] for row in rows} == CURVE
    assert [row["update"] for row in history] == [5, 10, 15, 20, 25, 25, 30, 33, 33]
    assert "loss" in history[4]  # the trained window stands before the evaluation of its end


@pytest.mark.parametrize(
    ("direction", "curve", "best"),
    [
        ("min", CURVE, 20),  # 25 is as good and later
        ("max", CURVE, 30),
        ("min", CURVE | {33: 0.5}, 33),
        ("min", dict.fromkeys(CURVE, 1.0), 5),
        ("max", dict.fromkeys(CURVE, 1.0), 5),
    ],
)
def test_the_model_ends_with_the_weights_of_the_best_evaluation(
    context: MakeContext, direction: Literal["min", "max"], curve: dict[int, float], best: int
) -> None:
    job = Job(told={"direction": direction}, curve=curve)
    job.training.run(context("best"))
    assert equal(job.weights(), job.seen[best])
    assert not equal(job.seen[5], job.seen[33])


@pytest.mark.parametrize(
    "kills",
    [
        [("evaluation", 5)],
        [("update", 5)],  # evaluated, and no checkpoint since
        [("update", 21)],  # the best is written, the newest checkpoint is before it
        [("update", 24), ("update", 24)],
        [("update", 25)],
        [("evaluation", 33)],
        [("update", 22), ("evaluation", 20), ("update", 11), ("evaluation", 33), ("update", 32)],
    ],
)
def test_a_killed_training_ends_with_the_same_best_weights_and_history(
    context: MakeContext,
    whole: tuple[Job, list[dict[str, float]]],
    kills: list[tuple[str, int]],
) -> None:
    ctx = context("killed")
    for kill in kills:
        try:
            Job(kill).training.run(ctx)
        except KilledError:
            continue
        # A kill before the newest checkpoint never comes; the run ends, and this is another.
    resumed = Job()
    history = resumed.training.run(ctx)
    assert history == whole[1]
    assert equal(resumed.weights(), whole[0].weights())


@pytest.mark.parametrize("call", range(22))
def test_a_kill_at_any_renaming_changes_nothing(
    context: MakeContext,
    whole: tuple[Job, list[dict[str, float]]],
    monkeypatch: pytest.MonkeyPatch,
    call: int,
) -> None:
    ctx = context("killed")
    calls = 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls > call:
            raise KilledError
        path.rename(target)
        return target

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KilledError):
            Job().training.run(ctx)
    resumed = Job()
    assert resumed.training.run(ctx) == whole[1]
    assert equal(resumed.weights(), whole[0].weights())


@pytest.mark.parametrize("at", [3, 19, 20, UPDATES - 1])
@pytest.mark.parametrize("where", ["update", "evaluation"])
def test_after_a_signal_what_is_not_evaluated_yet_is_evaluated_when_it_goes_on(
    context: MakeContext, whole: tuple[Job, list[dict[str, float]]], at: int, where: str
) -> None:
    ctx, job = context("stopped"), Job()
    loss, evaluate = job.loss, job.evaluate

    def signalling(update: int, epoch: int, ids: list[str]) -> Loss:
        if where == "update" and update == at:
            os.kill(os.getpid(), signal.SIGUSR1)
        return loss(update, epoch, ids)

    def evaluating(done: int) -> dict[str, float]:
        if where == "evaluation" and done > at:
            os.kill(os.getpid(), signal.SIGUSR1)
        return evaluate(done)

    object.__setattr__(job.training, "loss", signalling)
    object.__setattr__(job.training.evaluation, "evaluate", evaluating)
    before = signal.signal(signal.SIGUSR1, cli._on_signal)
    try:
        with pytest.raises(KeyboardInterrupt, match="SIGUSR1"):
            job.training.run(ctx)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGUSR1, before)
    resumed = Job()
    assert resumed.training.run(ctx) == whole[1]
    assert sorted(job.evaluated + resumed.evaluated) == list(CURVE)  # none twice
    assert equal(resumed.weights(), whole[0].weights())


def test_an_evaluation_that_outlasts_the_patience_of_a_signal_costs_no_update(
    context: MakeContext, whole: tuple[Job, list[dict[str, float]]]
) -> None:
    """After 20 updates both are due, a checkpoint and an evaluation: it is killed in the latter."""
    ctx = context("stopped")
    with pytest.raises(KilledError):
        Job(("evaluation", 20)).training.run(ctx)
    assert sorted(p.name for p in ctx.scratch.glob("checkpoint-*.pt")) == [
        f"checkpoint-{n:08d}.pt" for n in (16, 20)
    ]
    resumed = Job()
    assert resumed.training.run(ctx) == whole[1]
    assert resumed.evaluated[0] == 20
    assert equal(resumed.weights(), whole[0].weights())


@pytest.mark.parametrize("damage", ["flipped", "gone", "no checksum"])
def test_best_weights_that_are_damaged_are_made_again(
    context: MakeContext, whole: tuple[Job, list[dict[str, float]]], damage: str
) -> None:
    ctx = context("killed")
    with pytest.raises(KilledError):
        Job(("update", 26)).training.run(ctx)
    path = ctx.scratch / "best-00000020.pt"
    if damage == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "gone":
        path.unlink()
    else:
        path.with_suffix(".sha256").unlink()
    resumed = Job()
    assert resumed.training.run(ctx) == whole[1]
    assert equal(resumed.weights(), whole[0].weights())


def test_only_best_weights_that_a_checkpoint_tells_of_are_kept(context: MakeContext) -> None:
    ctx = context("killed")
    falling = {done: 1 / done for done in CURVE}
    with pytest.raises(KilledError):
        Job(("update", 31), curve=falling).training.run(ctx)
    # Checkpoints at 24 and 28 tell of 20 and 25; 30 is newer than both.
    names = sorted(p.name for p in ctx.scratch.glob("best-*.pt"))
    assert names == [f"best-{n:08d}.pt" for n in (20, 25, 30)]
    newest = ctx.scratch / "checkpoint-00000028.pt"
    newest.write_bytes(newest.read_bytes()[:-9])
    resumed, undisturbed = Job(curve=falling), Job(curve=falling)
    assert resumed.training.run(ctx) == undisturbed.training.run(context("undisturbed"))
    assert equal(resumed.weights(), undisturbed.weights())


def test_an_evaluation_disturbs_nothing_of_the_training(context: MakeContext) -> None:
    without = Job(told=None)
    without.training.run(context("without"))
    noisy = Job()

    def evaluate(done: int) -> dict[str, float]:
        assert not torch.is_grad_enabled()
        assert not any(m.training for m in noisy.model.modules())
        noisy.model.train()
        torch.manual_seed(done)
        random.seed(done)
        np.random.seed(done)
        return {"dev_loss": 1.0 - done}  # the last is the best

    object.__setattr__(noisy.training.evaluation, "evaluate", evaluate)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    noisy.model[0].eval()  # a part that rests keeps its mode
    evaluation = noisy.training.evaluation
    assert evaluation is not None
    evaluation.figures(noisy.model, 3, "test")
    assert [m.training for m in noisy.model] == [False, True, True]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tobytes())
    noisy.training.run(context("with"))
    assert equal(noisy.weights(), without.weights())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_an_error(context: MakeContext, bad: float) -> None:
    with pytest.raises(RunError, match=r"dev_loss of training is (nan|inf) after 10 updates"):
        Job(curve=CURVE | {10: bad}).training.run(context("nan"))


def test_tensorboard_holds_each_figure_once_after_a_kill(context: MakeContext) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ctx = context("killed")
    for kill in (("update", 22), ("update", 26), None):
        try:
            Job(kill).training.run(ctx)
        except KilledError:
            continue
    curves = EventAccumulator(str(ctx.tensorboard), purge_orphaned_data=True).Reload()
    assert {e.step: e.value for e in curves.Scalars("dev_loss")} == CURVE
    assert [e.step for e in curves.Scalars("dev_loss")] == list(CURVE)
    assert [e.step for e in curves.Scalars("loss")] == [25, 33]  # the last has its row too
    assert [e.step for e in curves.Scalars("learning_rate")] == [25, 33]
