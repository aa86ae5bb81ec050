"""A training of the quantizer that is killed and stopped ends as one that nobody touched."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.child import Moment
from tests.faults.kills import Told
from tests.faults.kills_quantizer import KINDS, Trial, differing, measure

UPDATES = 12  # a checkpoint every 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, Told]:
    trial = Trial(tmp_path_factory.mktemp("faults") / "whole", "gumbel", UPDATES)
    told = trial.run([])
    assert told.units == dict.fromkeys(range(1, UPDATES + 1), 1)
    return trial, told


def assert_same(whole: Trial, other: Trial) -> None:
    assert len(whole.tensors()) > 50  # weights and two moments of each
    assert differing(whole.tensors(), other.tensors()) == 0
    assert set(whole.hashes()) == {
        "config.json",
        "model.safetensors",
        "predictor.safetensors",
        "codebook.json",
        "codebook.png",
        "history.jsonl",
    }
    assert whole.hashes() == other.hashes()


@pytest.mark.case(2, 4)
def test_kill_9_changes_no_bit(whole: tuple[Trial, Told], tmp_path: Path) -> None:
    calls = whole[1].calls
    trial = Trial(tmp_path / "killed", "gumbel", UPDATES)
    in_state, before_rename = calls // 2, calls - 5
    told = trial.run([Moment(2, call=in_state), Moment(7), Moment(9, call=before_rename)])
    assert (told.kills, told.in_saves) == (3, 2)
    assert told.repeated >= 5 + 2 + 5  # from the start, from 5, from 5 again
    assert told.most_files <= 3  # two, and a half one
    assert_same(whole[0], trial)


@pytest.mark.case(7)
def test_sigterm_is_answered_with_a_checkpoint(whole: tuple[Trial, Told], tmp_path: Path) -> None:
    trial = Trial(tmp_path / "stopped", "gumbel", UPDATES)
    told = trial.run([Moment(3, number=signal.SIGTERM), Moment(7, number=signal.SIGINT)])
    assert (told.kills, told.repeated) == (2, 0)
    assert_same(whole[0], trial)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.case(1)
def test_many_random_kills_change_no_bit_of_any_kind_of_quantizer(tmp_path: Path) -> None:
    outcomes = list(measure(tmp_path, dict.fromkeys(KINDS, 9), seed=2))
    assert all(outcome.same for outcome in outcomes), outcomes
    assert sum(outcome.told.kills for outcome in outcomes) >= 27
    assert all(outcome.told.most_files <= 3 for outcome in outcomes)
