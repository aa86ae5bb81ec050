"""What counts as one place that writes, and a stage that is killed at all of its own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.interpose import Call, Fault
from tests.faults.kills_pipeline import Stage, faults, place

A, B = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            f"store/prepare-{A}.partial/audio/train-01.flac",
            f"store/prepare-{B}.partial/audio/d.flac",
        ),
        (f"store/lm-{A}", f"store/lm-{B}"),
        (
            f"store/bert-{A}.partial/scratch/best-01.tmp",
            f"store/bert-{A}.partial/scratch/best-7.tmp",
        ),
        ("tiny/0-prepare-train", "tiny/0-prepare-dev"),
        ("tiny/.0-prepare-train.*.tmp", "tiny/.0-prepare-dev.*.tmp"),
    ],
)
def test_calls_for_other_data_are_of_one_place(one: str, other: str) -> None:
    assert place(Call("write", one)) == place(Call("write", other))
    assert place(Call("write", one)) != place(Call("rename", other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"store/lm-{A}", f"store/lm-{A}.partial"),
        (f"store/bert-{A}.partial/scratch/best-1.tmp", f"store/bert-{A}.partial/scratch/c-1.tmp"),
        ("tiny/results.json.*.tmp", "tiny/counts.jsonl.*.tmp"),
    ],
)
def test_calls_for_other_ends_are_not(one: str, other: str) -> None:
    assert place(Call("write", one)) != place(Call("write", other))


def test_a_kill_is_planned_twice_at_each_place_of_the_stage() -> None:
    shard, other = (Call("write", f"store/discretize-{x}.partial/units-0.tmp") for x in (A, B))
    link = Call("rename", "tiny/2-discretize-train")
    results = Call("write", "tiny/results.json.*.tmp")
    calls = [Call("write", "store/files.json.*.tmp"), shard, shard, other, link, results]
    calls += [Call("open", f"store/discretize-{A}.lock"), Call("write", "tiny/logs/2-x.log")]
    assert faults(calls, 2) == [Fault(shard, 1), Fault(shard, 2), Fault(link, 1)]
    assert faults(calls, 7) == [Fault(results, 1)]
    assert faults(calls, 0) == [Fault(calls[0], 1)]


@pytest.mark.case(1)
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_stage_that_is_killed_at_every_place_leaves_what_an_undisturbed_one_leaves(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    stage = Stage(tmp_path, undisturbed.whole, undisturbed.calls, number=4)
    stage.kill_at(stage.faults)
    stage.kill_at_random(random.Random(1), 3)
    assert stage.told.damaged == []
    assert stage.told.kills >= len(stage.faults) - len(stage.told.missed) + 3 > 30
    assert {"lm.arpa", "lm.json", "lexicon.txt"} <= {
        Path(call.path).name for call in stage.told.places
    }
