"""What fairseq's trainer goes on from: few files, whole ones, at whatever update a signal came."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import cli
from pipeline.manifest import Manifest
from pipeline.recipe import QuantizerSettings
from stages.quantizer.fairseq.train import Trained, train

MakeSpeech = Callable[..., Manifest]
UPDATES = 12
BATCHES = 4  # in an epoch of `speech`


def settings(every: int = 2) -> QuantizerSettings:
    return QuantizerSettings(
        type="gumbel",
        encoder_layers=[(8, 10, 5), (8, 8, 4), (8, 4, 2)],
        aggregator_layers=[(8, 2, 1), (8, 3, 1)],
        codes=4,
        prediction_steps=3,
        negatives=3,
        updates=UPDATES,
        warmup_updates=3,
        crop_samples=3000,
        batch_samples=9000,
        checkpoint_every=every,
        dropout=0.1,
        dropout_features=0.1,
        dropout_aggregator=0.1,
    )


@pytest.fixture
def speech(make_speech: MakeSpeech) -> Manifest:
    return make_speech([4000, 3500, 2500, 2600, 5000, 6000, 3300, 3000, 2000, 4100, 2700, 3900])


class Run:
    """A training, what it said and where it started from."""

    def __init__(self, speech: Manifest, folder: Path, every: int = 2) -> None:
        self.speech, self.folder, self.every = speech, folder, every
        self.said: list[str] = []
        self.started = -1
        self.updates: list[int] = []

    def __call__(self, on_update: Callable[[int], None] = lambda update: None) -> Trained:
        self.said, self.updates = [], []

        def note(update: int, _: Any) -> None:
            self.updates.append(update)
            on_update(update)

        def start(done: int) -> None:
            self.started = done

        return train(
            settings(self.every),
            [self.speech],
            seed=1,
            folder=self.folder,
            say=self.said.append,
            on_start=start,
            on_update=note,
        )


def same(a: Trained, b: Trained) -> bool:
    return a.history == b.history and all(
        torch.equal(a.weights[name], b.weights[name]) for name in a.weights | b.weights
    )


class Killed(BaseException):
    """Stands in for a kill."""


def kill_at(at: int) -> Callable[[int], None]:
    def kill(update: int) -> None:
        if update == at:
            raise Killed

    return kill


@pytest.mark.parametrize("damaged", [1, 2])
@pytest.mark.case(3)
def test_damaged_checkpoints_cost_time_and_nothing_else(
    speech: Manifest, tmp_path: Path, damaged: int
) -> None:
    whole = Run(speech, tmp_path / "whole")()
    run = Run(speech, tmp_path / "damaged")
    with pytest.raises(Killed):
        run(kill_at(9))
    for path in sorted(run.folder.glob("*.pt"), reverse=True)[:damaged]:
        path.write_bytes(path.read_bytes()[:-200])
    resumed = run()
    assert run.started == (6 if damaged == 1 else 0)
    assert sum("is damaged" in line for line in run.said) == damaged
    assert ("starting from the first update" in run.said[-1]) == (damaged == 2)
    assert same(whole, resumed)


@pytest.mark.parametrize("every", [1, 3, BATCHES])
def test_two_checkpoints_are_kept_wherever_epochs_end(
    speech: Manifest, tmp_path: Path, every: int
) -> None:
    run = Run(speech, tmp_path / "run", every)
    most = 0

    def count(_: int) -> None:
        nonlocal most
        most = max(most, len(list(run.folder.glob("*"))))

    run(count)
    assert most <= 4  # two, and their checksums
    names = [path.name for path in sorted(run.folder.glob("*.pt"))]
    assert names == [f"checkpoint-{n:08d}.pt" for n in (UPDATES - every, UPDATES)]


@pytest.mark.case(2)
def test_what_a_kill_within_a_save_left_is_removed(speech: Manifest, tmp_path: Path) -> None:
    whole = Run(speech, tmp_path / "whole")()
    run = Run(speech, tmp_path / "killed")
    with pytest.raises(Killed):
        run(kill_at(5))
    for name in ("checkpoint-00000006.tmp", "checkpoint-00000006.sha256.77.tmp"):
        (run.folder / name).write_bytes(b"half")
    assert same(whole, run())
    assert not list(run.folder.glob("*.tmp"))


@pytest.mark.parametrize("at", [1, 4, 7, UPDATES])
@pytest.mark.case(7)
def test_after_a_signal_the_update_is_saved_and_nothing_is_done_twice(
    speech: Manifest, tmp_path: Path, at: int
) -> None:
    whole = Run(speech, tmp_path / "whole", 3)()
    run = Run(speech, tmp_path / "stopped", 3)
    before = signal.signal(signal.SIGTERM, cli._on_signal)
    try:
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            run(lambda update: os.kill(os.getpid(), signal.SIGTERM) if update == at else None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before)
    assert run.updates == list(range(1, at + 1))
    resumed = run()
    assert run.updates == list(range(at + 1, UPDATES + 1))
    assert same(whole, resumed)
