"""States of steps, and the reasons why one is not done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import freshness
from pipeline.freshness import StepState
from pipeline.stage import Step, StepContext
from pipeline.store import STAMP


def nothing(ctx: StepContext) -> None:
    pass


def pair(version: int = 1, reads: bool = True, **settings: Any) -> list[Step]:
    first = Step("lm", 4, "", 1, {"order": 3}, {}, nothing)
    told = {"updates": 10, "size": {"layers": 2, "spans": (1, 2)}} | settings
    told = {k: v for k, v in told.items() if v is not None}
    return [first, Step("bert", 5, "all", version, told, {"lm": first} if reads else {}, nothing)]


@pytest.fixture
def done(fakes: Any) -> list[Step]:
    steps: list[Step] = fakes.steps(pair())
    fakes.carry_out(steps)
    return steps


def examine(fakes: Any, steps: list[Step]) -> list[StepState]:
    states: list[StepState] = fakes.run(fakes.steps(steps)).examine()
    return states


def test_before_the_first_run_all_is_missing_for_no_reason(fakes: Any) -> None:
    assert [(s.state, s.reasons) for s in examine(fakes, pair())] == [("missing", [])] * 2


def test_after_a_run_all_is_done(fakes: Any, done: list[Step]) -> None:
    states = examine(fakes, pair())
    assert [(s.state, s.reasons, s.notes) for s in states] == [("done", [], [])] * 2
    assert all(s.stamp is not None and s.path.is_dir() for s in states)


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"updates": 20}, ["updates: 10 -> 20"]),
        ({"updates": None}, ["updates: 10 -> absent"]),
        ({"heads": 4}, ["heads: absent -> 4"]),
        ({"size": {"layers": 3, "spans": [1, 2]}}, ["size.layers: 2 -> 3"]),
        ({"size": {"layers": 2}}, ["size.spans: [1, 2] -> absent"]),
        ({"version": 2}, ["version: 1 -> 2"]),
        ({"reads": False}, ["no longer reads lm"]),
        ({"updates": 1, "heads": 2}, ["heads: absent -> 2", "updates: 10 -> 1"]),
    ],
)
def test_a_change_is_a_reason_with_the_value_before_and_after(
    fakes: Any, done: list[Step], change: dict[str, Any], reasons: list[str]
) -> None:
    first, second = examine(fakes, pair(**change))
    assert first.state == "done"
    assert (second.state, second.reasons) == ("stale", reasons)


def test_long_values_are_cut(fakes: Any, done: list[Step]) -> None:
    reason = examine(fakes, pair(updates=list(range(100))))[1].reasons[0]
    assert reason.endswith("...")
    assert len(reason) < 90


def test_a_list_and_a_tuple_are_the_same(fakes: Any, done: list[Step]) -> None:
    states = examine(fakes, pair(size={"layers": 2, "spans": [1, 2]}))
    assert states[1].state == "done"


def test_what_reads_a_stale_step_is_stale_because_of_it(fakes: Any) -> None:
    def three(order: int) -> list[Step]:
        first = Step("lm", 4, "", 1, {"order": order}, {}, nothing)
        return [first, Step("bert", 5, "all", 1, {}, {"lm": first}, nothing)]

    fakes.carry_out(fakes.steps(three(3)))
    states = examine(fakes, three(4))
    assert [s.state for s in states] == ["stale", "stale"]
    assert states[1].reasons == ["reads 4 lm, which changes"]


def test_going_back_to_earlier_settings_finds_them_done(fakes: Any, done: list[Step]) -> None:
    fakes.carry_out(fakes.steps(pair(updates=20)))
    assert examine(fakes, pair())[1].state == "done"


def test_a_deleted_artifact_is_missing_and_its_readers_are_fresh(
    fakes: Any, done: list[Step]
) -> None:
    shutil.rmtree(fakes.run(done).store.path(done[0]))
    assert [s.state for s in examine(fakes, pair())] == ["missing", "done"]


def test_an_artifact_without_its_stamp_does_not_count(fakes: Any, done: list[Step]) -> None:
    (fakes.run(done).store.path(done[1]) / STAMP).unlink()
    assert examine(fakes, pair())[1].state == "missing"


def test_other_code_is_a_note_and_no_reason(
    fakes: Any, done: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "sources_hash", lambda step: "other")
    state = examine(fakes, pair())[1]
    assert (state.state, state.reasons, state.notes) == ("done", [], ["made by other code"])


def test_states_are_told_from_stamps_alone(
    fakes: Any, done: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` answers at once: no output is read."""
    for step in done:
        path: Path = fakes.run(done).store.path(step) / "out.txt"
        path.write_text("altered")
    assert [s.state for s in examine(fakes, pair())] == ["done", "done"]
    stamp = json.loads((fakes.run(done).store.path(done[1]) / STAMP).read_text())
    assert stamp["inputs"] == {"lm": fakes.run(done).store.stamp(done[0]).digest}
