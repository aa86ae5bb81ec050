"""Several batches an update: the gradients of one batch of all, and a resume to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.batches import Batches
from pipeline.stage import StepContext
from pipeline.training import Loss, Training

FRAMES = {f"u{n}": 1 + n for n in range(8)}  # of each utterance: what a mean is over
MakeContext = Callable[..., StepContext]


class Listed(Batches):
    """The batches that it is given, one an update; epochs as they are given too."""

    def __init__(self, batches: list[tuple[int, list[str]]]) -> None:
        self.batches = batches

    def at(self, update: int) -> tuple[int, list[str]]:
        return self.batches[update]


class Job:
    """A small network with dropout, in double precision; the loss is a mean over frames."""

    def __init__(self, dropout: float = 0.3, **changes: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 1)).double()
        self.speech = {n: torch.randn(f, 4, dtype=torch.float64) for n, f in FRAMES.items()}
        self.seen: list[tuple[int, int, list[str]]] = []
        self.kill_at: int | None = None
        told: dict[str, Any] = {
            "model": self.model,
            "loss": self.loss,
            "batches": Batches(FRAMES, 9, seed=1),
            "updates": 12,
            "learning_rate": 0.01,
            "scale": lambda update: 1.0,
            "seed": 1,
            "checkpoint_every": 4,
        }
        self.training = Training(**(told | changes))

    def loss(self, update: int, epoch: int, ids: list[str]) -> Loss:
        if len(self.seen) == self.kill_at:
            raise KeyboardInterrupt
        self.seen.append((update, epoch, ids))
        errors_N = torch.cat([self.model(self.speech[i]).square()[:, 0] for i in ids])
        return Loss(errors_N.mean(), {"frames": float(len(errors_N))}, len(errors_N))

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def one_update(job: Job) -> tuple[dict[str, float], list[Tensor]]:
    told = job.training.update(0, job.training.new_optimizer())
    return told, [p.grad for p in job.model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    "parts", [[["u0", "u1"], ["u6", "u7"]], [["u7"], ["u0"], ["u3", "u2"]], [["u4"]]]
)
def test_the_gradients_are_those_of_one_batch_of_all(parts: list[list[str]]) -> None:
    together = [(0, [name for part in parts for name in part])]
    whole, expected = one_update(Job(0.0, batches=Listed(together)))
    told, found = one_update(
        Job(0.0, batches=Listed([(0, p) for p in parts]), accumulate=len(parts))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert told["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    assert told["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-12)
    frames = [sum(FRAMES[name] for name in part) for part in parts]
    # What is logged beside the loss is a mean of the same terms.
    assert told["frames"] == pytest.approx(sum(n * n for n in frames) / sum(frames))


def test_every_batch_is_used_once_and_epochs_go_on_within_an_update(context: MakeContext) -> None:
    job = Job(accumulate=4)
    job.training.run(context("all"))
    told = Batches(FRAMES, 9, seed=1)
    assert [(e, ids) for _, e, ids in job.seen] == [told.at(n) for n in range(48)]
    assert [update for update, _, _ in job.seen] == [n // 4 for n in range(48)]
    epochs = [{e for u, e, _ in job.seen if u == update} for update in range(12)]
    assert max(map(len, epochs)) > 1


@pytest.mark.parametrize("kills", [[1], [3], [10, 2, 25]])
def test_a_kill_between_the_batches_of_an_update_changes_no_bit(
    context: MakeContext, kills: list[int]
) -> None:
    whole = Job(accumulate=3)
    history = whole.training.run(context("whole"))
    ctx = context("killed")
    for calls in kills:
        job = Job(accumulate=3)
        job.kill_at = calls
        with pytest.raises(KeyboardInterrupt):
            job.training.run(ctx)
    resumed = Job(accumulate=3)
    assert resumed.training.run(ctx) == history
    assert all(map(torch.equal, resumed.weights(), whole.weights()))
    assert len(whole.seen) == 36


def test_parts_draw_their_own_dropout() -> None:
    """The same utterance twice in an update is dropped out in two ways."""
    twice = [(0, ["u7"]), (0, ["u7"])]
    _, found = one_update(Job(batches=Listed(twice), accumulate=2))
    _, once = one_update(Job(batches=Listed(twice[:1])))
    assert not torch.allclose(found[0], once[0])


@pytest.mark.parametrize("bad", [1, 2])
def test_a_batch_whose_loss_is_not_finite_is_named(context: MakeContext, bad: int) -> None:
    from pipeline.errors import RunError

    job = Job(accumulate=3, batches=Listed([(0, ["u1"]), (0, ["u2"]), (0, ["u3"])]), updates=1)
    job.speech[f"u{bad + 1}"][0, 0] = float("nan")
    with pytest.raises(RunError, match=rf"(?s)loss.*update 1.*utterances u{bad + 1}\n"):
        job.training.run(context("nan"))
