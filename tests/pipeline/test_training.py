"""The training loop on a tiny linear model: exact resume, damage, NaN; batches and schedules."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline import checkpoints, cli
from pipeline.batches import Batches, PackedBatches, generator, pad
from pipeline.errors import RunError
from pipeline.precision import autocast
from pipeline.schedules import linear_schedule, tri_stage_schedule
from pipeline.stage import StepContext
from pipeline.training import Loss, Training, set_threads

UPDATES = 52
MakeContext = Callable[..., StepContext]


class KilledError(Exception):
    """Stands for a kill: nothing of the training loop gets to know of it."""


class Job:
    """Ten utterances of random vectors, a layer with dropout, checkpoints every four updates."""

    def __init__(self, kill_at: int | None = None, **changes: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.kill_at, self.updates_done = kill_at, []
        rng = np.random.default_rng(0)
        names = [f"u{n}" for n in range(10)]
        self.speech = {n: torch.from_numpy(rng.standard_normal((3, 4))).float() for n in names}
        told: dict[str, Any] = {
            "model": self.model,
            "loss": self.loss,
            "batches": Batches(dict.fromkeys(names, 3), 9, seed=1),
            "updates": UPDATES,
            "learning_rate": 0.01,
            "scale": linear_schedule(UPDATES, 5),
            "seed": 1,
            "checkpoint_every": 4,
            "weight_decay": 0.1,
        }
        self.training = Training(**(told | changes))

    def loss(self, update: int, epoch: int, ids: list[str]) -> Loss:
        if update == self.kill_at:
            raise KilledError
        self.updates_done.append(update)
        loss = torch.stack([self.model(self.speech[i]).square().mean() for i in ids]).mean()
        return Loss(loss, {"epoch": float(epoch)}, len(ids))

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def killed(ctx: StepContext, at: int) -> None:
    with pytest.raises(KilledError):
        Job(at).training.run(ctx)


def finished(ctx: StepContext) -> tuple[Job, list[dict[str, float]]]:
    job = Job()
    return job, job.training.run(ctx)


def equal(one: Job, other: Job) -> bool:
    return all(map(torch.equal, one.weights(), other.weights()))


@pytest.mark.parametrize(
    "kills", [[0], [3], [4], [5], [51], [30], [26, 27], [7, 13, 22, 22, 50], [2, 3, 5, 6, 9]]
)
@pytest.mark.case(4, 5)
def test_a_killed_training_ends_bit_for_bit_as_if_nothing_had_happened(
    context: MakeContext, kills: list[int]
) -> None:
    whole, history = finished(context("whole"))
    ctx = context("killed")
    for at in kills:
        killed(ctx, at)
    resumed, resumed_history = finished(ctx)
    assert equal(whole, resumed)
    assert history == resumed_history
    assert resumed.updates_done[0] == max(kills) // 4 * 4  # not from the start again


def test_updates_are_those_of_adam_as_in_the_papers(context: MakeContext) -> None:
    """Written out: betas 0.9 and 0.98, eps 1e-6, decay apart from the gradient and of matrices."""
    job = Job(updates=3, scale=lambda update: 1.0, clip_norm=0.0)
    expected = [p.detach().double() for p in job.model.parameters()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in expected]
    update = job.training.update

    def watched(number: int, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        told = update(number, optimizer)
        for n, parameter in enumerate(job.model.parameters()):
            assert parameter.grad is not None
            gradient, (first, second) = parameter.grad.double(), moments[n]
            first, second = 0.9 * first + 0.1 * gradient, 0.98 * second + 0.02 * gradient**2
            moments[n] = first, second
            mean, square = first / (1 - 0.9 ** (number + 1)), second / (1 - 0.98 ** (number + 1))
            decayed = expected[n] * (1 - 0.01 * 0.1 * (parameter.ndim > 1))
            expected[n] = decayed - 0.01 * mean / (square.sqrt() + 1e-6)
        return told

    object.__setattr__(job.training, "update", watched)
    job.training.run(context("adam"))
    for found, told in zip(job.weights(), expected, strict=True):
        torch.testing.assert_close(found.double(), told, rtol=1e-5, atol=1e-7)


def test_the_seed_decides(context: MakeContext) -> None:
    one, _ = finished(context("one"))
    other = Job(seed=2)
    other.training.run(context("other"))
    assert not equal(one, other)


@pytest.mark.parametrize("at", [0, 2, 3, 30, UPDATES - 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.case(7)
def test_after_a_signal_the_update_ends_and_is_saved(
    context: MakeContext, at: int, number: signal.Signals
) -> None:
    whole, history = finished(context("whole"))
    ctx = context("stopped")
    job = Job()

    def loss(update: int, epoch: int, ids: list[str]) -> Loss:
        if update == at:
            os.kill(os.getpid(), number)
        return job.loss(update, epoch, ids)

    before = signal.signal(number, cli._on_signal)
    try:
        with pytest.raises(KeyboardInterrupt, match=number.name):
            Job(loss=loss, model=job.model).training.run(ctx)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)
    assert job.updates_done[-1] == at
    resumed, resumed_history = finished(ctx)
    assert resumed.updates_done == list(range(at + 1, UPDATES))
    assert equal(whole, resumed)
    assert history == resumed_history


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no checksum", "empty"])
@pytest.mark.case(3)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    context: MakeContext, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    whole, _ = finished(context("whole"))
    ctx = context("killed")
    killed(ctx, 30)
    newest = sorted(ctx.scratch.glob("*.pt"))[-1]
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        newest.with_suffix(".sha256").unlink()
    capsys.readouterr()
    resumed, _ = finished(ctx)
    said = capsys.readouterr().out
    assert f"{newest.name} is damaged" in said
    assert resumed.updates_done[0] == 24
    assert equal(whole, resumed)


@pytest.mark.case(3)
def test_with_all_checkpoints_damaged_it_starts_again(context: MakeContext) -> None:
    whole, _ = finished(context("whole"))
    ctx = context("killed")
    killed(ctx, 30)
    for path in ctx.scratch.glob("*.pt"):
        path.write_bytes(b"x")
    resumed, _ = finished(ctx)
    assert resumed.updates_done[0] == 0
    assert equal(whole, resumed)


@pytest.mark.parametrize("call", range(4))
@pytest.mark.case(2)
def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_or_the_new_one(
    context: MakeContext, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    whole, _ = finished(context("whole"))
    ctx = context("killed")
    calls = 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls > 2 + call:  # the first checkpoint takes two
            raise KilledError
        path.rename(target)
        return target

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KilledError):
            Job().training.run(ctx)
    resumed, _ = finished(ctx)
    assert resumed.updates_done[0] == 4 + call // 2 * 4
    assert equal(whole, resumed)


def test_two_checkpoints_are_kept_at_most(context: MakeContext) -> None:
    ctx = context("killed")
    killed(ctx, 50)
    names = sorted(p.name for p in ctx.scratch.iterdir())
    assert names == [f"checkpoint-{n:08d}.{end}" for n in (44, 48) for end in ("pt", "sha256")]


@pytest.mark.case(27)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_names_update_and_utterances(
    context: MakeContext, bad: float
) -> None:
    ctx = context("nan")
    job = Job()
    batch = job.training.batches.at(10)[1]

    def loss(update: int, epoch: int, ids: list[str]) -> Loss:
        loss = job.loss(update, epoch, ids)
        return loss._replace(mean=loss.mean * bad) if update == 10 else loss

    training = Job(loss=loss, model=job.model).training
    with pytest.raises(RunError) as caught:
        training.run(ctx)
    assert re.fullmatch(r"The loss of training is (nan|-?inf) at update 11\.", caught.value.what)
    for name in batch:
        assert name in caught.value.found
    assert sorted(ctx.scratch.glob("*.pt"))[-1].name == "checkpoint-00000008.pt"


@pytest.mark.case(27)
def test_a_gradient_that_is_not_finite_reaches_no_checkpoint(context: MakeContext) -> None:
    """The loss is finite, the derivative of a square root at 0 is not."""
    ctx = context("nan")
    job = Job()

    def loss(update: int, epoch: int, ids: list[str]) -> Loss:
        loss = job.loss(update, epoch, ids)
        return loss._replace(mean=loss.mean + (0 * loss.mean).sqrt()) if update == 7 else loss

    with pytest.raises(RunError, match=r"(?s)gradient.*update 8.*utterances u"):
        Job(loss=loss, model=job.model).training.run(ctx)
    assert [p.name for p in ctx.scratch.glob("*.pt")] == ["checkpoint-00000004.pt"]
    assert all(torch.isfinite(w).all() for w in job.weights())


def test_frozen_weights_rest_and_then_learn(context: MakeContext) -> None:
    job = Job()
    first = job.model[0].weight
    seen: list[Tensor] = []

    def freeze(update: int) -> None:
        first.requires_grad_(update >= 20)
        seen.append(first.detach().clone())

    Job(loss=job.loss, model=job.model, each=freeze).training.run(context("frozen"))
    assert all(torch.equal(seen[0], s) for s in seen[1:21])
    assert not torch.equal(seen[0], seen[22])


def test_history_is_the_mean_of_25_updates_and_at_last_of_the_rest(context: MakeContext) -> None:
    job, history = finished(context("whole"))
    assert [row["update"] for row in history] == [25, 50, 52]
    epochs = [job.training.batches.at(u)[0] for u in range(UPDATES)]
    for row, of_row in zip(history, (epochs[:25], epochs[25:50], epochs[50:]), strict=True):
        assert row["epoch"] == pytest.approx(np.mean(of_row), abs=1e-5)
    json.dumps(history)


@pytest.mark.parametrize(("clip_norm", "scaled"), [(0.001, True), (1e6, False), (0.0, False)])
def test_gradients_are_scaled_down_to_the_norm_that_is_set(clip_norm: float, scaled: bool) -> None:
    training = Job(clip_norm=clip_norm).training
    told = training.update(0, training.new_optimizer())
    gradients = [p.grad.flatten() for p in training.model.parameters() if p.grad is not None]
    expected = clip_norm if scaled else told["gradient_norm"]
    assert torch.cat(gradients).norm().item() == pytest.approx(expected, rel=1e-3)


def test_a_training_is_not_gone_on_with_in_another_precision(context: MakeContext) -> None:
    ctx = context("killed")
    with pytest.raises(KilledError):
        Job(10, precision="bf16").training.run(ctx)
    fp32 = Job(precision="fp32", precision_key="bert.precision")
    with pytest.raises(RunError, match=r"(?s)begun in.*bf16, as in.*fp32, what bert\.precision"):
        fp32.training.run(ctx)
    assert fp32.updates_done == []
    for path in ctx.scratch.glob(checkpoints.PATTERN):  # as they were before they told
        state = torch.load(path, weights_only=True)
        del state["precision"]
        checkpoints.write(path, state)
    fp32.training.run(ctx)
    assert fp32.updates_done == list(range(8, UPDATES))


def test_every_epoch_holds_every_utterance_once() -> None:
    rng = np.random.default_rng(0)
    lengths = {f"u{n}": int(rng.integers(5, 200)) for n in range(57)}
    batches = Batches(lengths, 400, seed=3)
    for epoch in range(3):
        made = batches.epoch(epoch)
        assert sorted(i for batch in made for i in batch) == sorted(lengths)
        for batch in made:
            assert len(batch) * max(lengths[i] for i in batch) <= 400
    assert batches.epoch(0) != batches.epoch(1)


def test_an_utterance_longer_than_a_batch_stands_alone() -> None:
    made = Batches({"a": 10, "b": 500, "c": 12}, 100, seed=1).epoch(0)
    assert ["b"] in made
    assert sorted(i for batch in made for i in batch) == ["a", "b", "c"]


@pytest.mark.parametrize("frames", [400, 1000, 150])
def test_packed_batches_hold_every_utterance_once_and_are_filled(frames: int) -> None:
    rng = np.random.default_rng(0)
    lengths = {f"u{n:03d}": int(rng.integers(5, 200)) for n in range(157)}
    batches = PackedBatches(lengths, frames, seed=3)
    for epoch in range(6):
        made = batches.epoch(epoch)
        assert sorted(i for batch in made for i in batch) == sorted(lengths)
        sums = [sum(lengths[i] for i in batch) for batch in made]
        assert all(total <= frames for batch, total in zip(made, sums, strict=True) if batch[1:])
        # None but the last two could have taken in what follows them.
        for one, following in itertools.pairwise(made[:-1]):
            assert sum(lengths[i] for i in one) + lengths[following[0]] > frames
        assert min(sums[-2:]) > frames / 2 - 200
    assert batches.epoch(0) != batches.epoch(1)
    asked_anyhow = PackedBatches(dict(reversed(lengths.items())), frames, seed=3)
    assert asked_anyhow.epoch(1) == batches.epoch(1)


def test_a_small_rest_is_shared_with_the_batch_before() -> None:
    made = PackedBatches({f"u{n}": 10 for n in range(11)}, 100, seed=1).epoch(0)
    assert [len(batch) for batch in made] == [6, 5]
    made = PackedBatches({"a": 500, "b": 10}, 100, seed=1).epoch(0)
    assert sorted(made) == [["a"], ["b"]]


def test_batches_depend_on_seed_and_update_alone() -> None:
    lengths = {f"u{n}": 10 + n for n in range(30)}
    forward = [Batches(lengths, 100, seed=1).at(u) for u in range(40)]
    asked_anyhow = Batches(dict(reversed(lengths.items())), 100, seed=1)
    for update in [39, 0, 17, 5, 17, 38, 1]:
        assert asked_anyhow.at(update) == forward[update]
    assert [epoch for epoch, _ in forward] == sorted(epoch for epoch, _ in forward)
    assert [Batches(lengths, 100, seed=2).at(u) for u in range(40)] != forward


def test_every_update_of_an_epoch_comes_once() -> None:
    batches = Batches({f"u{n}": 10 for n in range(30)}, 60, seed=1)
    told = [batches.at(u) for u in range(15)]
    assert [epoch for epoch, _ in told] == [0] * 5 + [1] * 5 + [2] * 5
    assert sorted(i for _, ids in told[5:10] for i in ids) == sorted(f"u{n}" for n in range(30))


@pytest.mark.parametrize(
    ("update", "scale"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (99, 1 / 90), (100, 1 / 90)]
)
def test_the_linear_schedule_goes_up_and_down(update: int, scale: float) -> None:
    assert linear_schedule(100, 10)(update) == pytest.approx(scale)


def test_the_linear_schedule_needs_no_warm_up() -> None:
    assert linear_schedule(10, 0)(0) == 1.0


@pytest.mark.parametrize(
    ("update", "scale"),
    [(0, 0.01), (5, 0.505), (10, 1.0), (49, 1.0), (50, 1.0), (75, 0.05**0.5), (100, 0.05)],
)
def test_the_tri_stage_schedule_warms_holds_and_decays(update: int, scale: float) -> None:
    assert tri_stage_schedule(100, (0.1, 0.4, 0.5), 0.05)(update) == pytest.approx(scale)


def test_a_generator_is_a_pure_function_of_its_key() -> None:
    def draw(*key: object) -> list[float]:
        return generator(*key).random(4).tolist()

    assert draw(1, "mask", 0, "u") == draw(1, "mask", 0, "u")
    keys = [(1, "mask", 0, "u"), (2, "mask", 0, "u"), (1, "mask", 1, "u"), (1, "mask", 0, "v")]
    assert len({tuple(draw(*k)) for k in keys}) == 4


def test_padding_is_at_the_end() -> None:
    padded, lengths_B = pad([np.array([1, 2, 3]), np.array([4])], 9)
    assert padded.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert lengths_B.tolist() == [3, 1]
    assert pad([np.ones((2, 5), np.float32), np.ones((4, 5), np.float32)])[0].shape == (2, 4, 5)


def test_bf16_is_used_where_it_is_asked_for() -> None:
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(precision, "cpu"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("threads", "told", "expected"), [(3, None, 3), (3, "5", 3), (0, None, 2), (0, "5", None)]
)
def test_threads_are_those_asked_for_else_those_that_we_may_use(
    monkeypatch: pytest.MonkeyPatch, threads: int, told: str | None, expected: int | None
) -> None:
    """None: torch's choice, which follows OMP_NUM_THREADS, stays."""
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {4, 7}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    set_threads(threads)
    assert chosen == ([] if expected is None else [expected])
