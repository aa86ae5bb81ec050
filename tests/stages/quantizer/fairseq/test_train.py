"""Training under fairseq's trainer: resume, damage, finished runs, bad numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import checkpoints
from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.recipe import QuantizerSettings
from stages.quantizer.fairseq import task as task_module
from stages.quantizer.fairseq.config import temperatures
from stages.quantizer.fairseq.model import VqasrWav2Vec
from stages.quantizer.fairseq.train import Trained, train

MakeSpeech = Callable[..., Manifest]


def small(**changes: Any) -> QuantizerSettings:
    values: dict[str, Any] = {
        "type": "gumbel",
        "encoder_layers": [(8, 10, 5), (8, 8, 4), (8, 4, 2)],
        "aggregator_layers": [(8, 2, 1), (8, 3, 1)],
        "codes": 4,
        "prediction_steps": 3,
        "negatives": 3,
        "updates": 12,
        "warmup_updates": 3,
        "crop_samples": 3000,
        "batch_samples": 9000,
        "checkpoint_every": 2,
        "dropout": 0.1,
        "dropout_features": 0.1,
    }
    return QuantizerSettings(**(values | changes))


@pytest.fixture
def speech(make_speech: MakeSpeech) -> Manifest:
    """Epochs of 4 batches: saves fall on their ends and in between."""
    return make_speech([4000, 3500, 2500, 2600, 5000, 6000, 3300, 3000, 2000, 4100, 2700, 3900])


def assert_same(a: Trained, b: Trained) -> None:
    assert a.weights.keys() == b.weights.keys()
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert a.history == b.history


class Killed(BaseException):
    """Stands in for a kill: nothing but the checkpoints outlives it."""


def killer(at: int) -> Callable[[int, Any], None]:
    def kill(update: int, _: Any) -> None:
        if update == at:
            raise Killed

    return kill


def train_with_kills(
    settings: QuantizerSettings, speech: Manifest, folder: Path, kills: list[int]
) -> Trained:
    every = settings.checkpoint_every
    starts: list[int] = []
    for kill in kills:
        with pytest.raises(Killed):
            train(settings, [speech], seed=3, folder=folder, on_update=killer(kill))
    result = train(settings, [speech], seed=3, folder=folder, on_start=starts.append)
    assert starts == [(kills[-1] - 1) // every * every if kills else 0]
    return result


@pytest.mark.parametrize(
    "changes",
    [{"type": "gumbel"}, {"type": "kmeans"}, {"type": "none"}, {"type": "kmeans", "augment": {}}],
    ids=["gumbel", "kmeans", "none", "kmeans, augmented"],
)
@pytest.mark.case(4, 5)
def test_kills_in_mid_epoch_change_no_bit(
    speech: Manifest, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = small(**changes)
    whole = train_with_kills(settings, speech, tmp_path / "whole", [])
    killed = train_with_kills(settings, speech, tmp_path / "killed", [2, 3, 6, 7, 12])
    assert_same(whole, killed)
    assert [record["update"] for record in whole.history] == [12]


def test_another_seed_gives_other_weights(speech: Manifest, tmp_path: Path) -> None:
    a = train(small(updates=2), [speech], seed=1, folder=tmp_path / "a")
    b = train(small(updates=2), [speech], seed=2, folder=tmp_path / "b")
    assert any(not torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_augmented_speech_gives_other_weights(speech: Manifest, tmp_path: Path) -> None:
    plain = train(small(updates=2), [speech], seed=1, folder=tmp_path / "a")
    changed = train(small(updates=2, augment={}), [speech], seed=1, folder=tmp_path / "b")
    assert any(not torch.equal(plain.weights[n], changed.weights[n]) for n in plain.weights)


def test_every_parameter_is_trained(speech: Manifest, tmp_path: Path) -> None:
    first = train(small(updates=1), [speech], seed=1, folder=tmp_path / "a")
    later = train(small(updates=4), [speech], seed=1, folder=tmp_path / "b")
    for name, value in first.weights.items():
        assert not torch.equal(value, later.weights[name]), name


@pytest.mark.case(6)
def test_finished_run_trains_no_more(speech: Manifest, tmp_path: Path) -> None:
    updates: list[int] = []

    def run() -> Trained:
        return train(
            small(),
            [speech],
            seed=1,
            folder=tmp_path / "a",
            on_update=lambda update, _: updates.append(update),
        )

    done = run()
    assert updates == list(range(1, 13))
    assert_same(done, run())
    assert updates == list(range(1, 13))


@pytest.mark.case(27)
def test_loss_that_is_not_finite_stops_and_names_the_batch(
    speech: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = task_module.AudioPretrainingTask.train_step

    def poisoned(self: Any, sample: Any, *rest: Any, **keywords: Any) -> Any:
        loss, size, logged = step(self, sample, *rest, **keywords)
        return loss, size, logged | {"loss": float("nan")}

    monkeypatch.setattr(task_module.AudioPretrainingTask, "train_step", poisoned)
    with pytest.raises(RunError, match=r"loss of nan at update 1\.(.|\n)*utterances u0\d\d, u0"):
        train(small(), [speech], seed=1, folder=tmp_path)
    assert not (tmp_path / "crash.pt").exists()  # fairseq's, of no use and as large as a checkpoint


@pytest.mark.case(27)
@pytest.mark.parametrize("kind", ["gumbel", "kmeans", "none"])
def test_gradient_that_is_not_finite_stops_names_the_batch_and_keeps_the_last_checkpoint(
    speech: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The loss is finite, the derivative of a square root at 0 is not."""
    from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion

    loss_of, batches = Wav2vecCriterion.forward, []

    def steep(self: Any, model: Any, sample: Any, reduce: bool = True) -> Any:
        batches.append([f"u{index:03d}" for index in sample["id"].tolist()])
        loss, *rest = loss_of(self, model, sample, reduce)
        return loss + (0 * loss).sqrt() if len(batches) > 5 else loss, *rest

    monkeypatch.setattr(Wav2vecCriterion, "forward", steep)
    with pytest.raises(RunError) as caught:
        train(small(type=kind), [speech], seed=1, folder=tmp_path)
    assert caught.value.what.endswith("came to a gradient that is not finite at update 6.")
    assert caught.value.found == f"utterances {', '.join(batches[5])}"
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        f"checkpoint-{update:08d}.pt" for update in (2, 4)
    ]
    kept = checkpoints.newest(tmp_path, pytest.fail)
    assert kept is not None and all(map(all_finite, kept.state["model"].values()))


def all_finite(weights: torch.Tensor) -> bool:
    return bool(torch.isfinite(weights).all())


def test_too_short_utterances_are_left_out_and_counted(
    make_speech: MakeSpeech, tmp_path: Path
) -> None:
    speech = make_speech([4000, 300, 4000, 100])
    assert train(small(updates=1), [speech], seed=1, folder=tmp_path / "a").left_out == 2
    with pytest.raises(RunError, match="long enough"):
        train(small(), [make_speech([300], "short")], seed=1, folder=tmp_path / "b")


def test_last_temperature_is_reached_where_the_recipe_says() -> None:
    first, last, decay = temperatures(small(updates=400, temperature_reached=0.7))
    assert first * decay**280 == pytest.approx(last)
    assert first * decay**279 > last


def test_training_prints_nothing(
    speech: Manifest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(small(updates=2), [speech], seed=1, folder=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_history_is_written_for_tensorboard(speech: Manifest, tmp_path: Path) -> None:
    train(small(updates=25), [speech], seed=1, folder=tmp_path / "a", tensorboard=tmp_path / "tb")
    (events,) = os.listdir(tmp_path / "tb")
    assert b"quantizer/code_perplexity" in (tmp_path / "tb" / events).read_bytes()


@pytest.mark.parametrize("kind", ["gumbel", "kmeans", "none"])
def test_no_updates_give_the_weights_that_a_training_starts_from(
    speech: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    starts: list[dict[str, torch.Tensor]] = []
    forward = VqasrWav2Vec.forward

    def first_look(model: VqasrWav2Vec, source: torch.Tensor) -> Any:
        if not starts:
            starts.append({name: w.clone() for name, w in model.state_dict().items()})
        return forward(model, source)

    monkeypatch.setattr(VqasrWav2Vec, "forward", first_look)
    train(small(type=kind, updates=2), [speech], seed=3, folder=tmp_path)
    state = torch.get_rng_state()
    untrained = train(small(type=kind, updates=0), [speech], seed=3, folder=tmp_path / "none")
    assert torch.equal(torch.get_rng_state(), state)
    assert untrained.history == []
    assert untrained.weights.keys() == starts[0].keys()
    for name, weight in untrained.weights.items():
        assert torch.equal(weight, starts[0][name]), name
