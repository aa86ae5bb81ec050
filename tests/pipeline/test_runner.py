"""Which steps run, in what order, and what is left when one of them does not finish."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError, UserError
from pipeline.prune import unused
from pipeline.stage import Step, StepContext
from pipeline.store import Store


def nothing(ctx: StepContext) -> None:
    pass


def chain(**settings: int) -> list[Step]:
    """prepare -> quantizer -> bert -> finetune -> score, with a second reader of prepare."""
    made: dict[str, Step] = {}
    graph = {
        "prepare": (0, ()),
        "quantizer": (1, ("prepare",)),
        "bert": (3, ("quantizer",)),
        "lm": (4, ("prepare",)),
        "finetune": (5, ("bert", "lm", "prepare")),
        "score": (7, ("finetune",)),
    }
    for name, (number, reads) in graph.items():
        inputs = {r: made[r] for r in reads}
        told = {"value": settings.get(name, 1)}
        made[name] = Step(name, number, "", 1, told, inputs, nothing)
    return list(made.values())


ALL = ["0 prepare", "1 quantizer", "3 bert", "4 lm", "5 finetune", "7 score"]


@pytest.fixture
def steps(fakes: Any) -> list[Step]:
    return fakes.steps(chain())


def artifact(fakes: Any, step: Step) -> Path:
    return Store(fakes.exp / "store").path(step)


def test_all_run_once_and_then_nothing(fakes: Any, steps: list[Step]) -> None:
    assert fakes.carry_out(steps) == ALL
    assert fakes.carry_out(steps) == []


def test_links_have_readable_names_and_lead_to_the_artifacts(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    for step in steps:
        link = fakes.exp / "tiny" / step.link_name
        assert link.is_symlink()
        assert not os.path.isabs(os.readlink(link))
        assert link.resolve() == artifact(fakes, step).resolve()
    shutil.move(fakes.exp, fakes.exp.with_name("moved"))
    assert (fakes.exp.with_name("moved") / "tiny" / "7-score" / "out.txt").exists()


def test_two_runs_of_a_recipe_may_link_at_once(
    fakes: Any, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.carry_out(steps)
    shutil.rmtree(fakes.exp / "tiny")
    replace_it = Path.replace

    def late(beside: Path, target: Path) -> Path:
        with monkeypatch.context() as other:
            other.setattr(Path, "replace", replace_it)
            fakes.carry_out(steps)
        return replace_it(beside, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", late)
        fakes.carry_out(steps)
    names = {s.link_name for s in steps}
    assert {p.name for p in (fakes.exp / "tiny").iterdir()} == names


def test_links_of_steps_that_are_no_more_go(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    fakes.carry_out(steps[:-1])
    assert not (fakes.exp / "tiny" / "7-score").is_symlink()


def test_a_changed_setting_runs_what_depends_on_it(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    changed = fakes.steps(chain(bert=2))
    assert fakes.carry_out(changed) == ["3 bert", "5 finetune", "7 score"]
    assert artifact(fakes, steps[2]).exists()  # nothing is overwritten
    assert fakes.carry_out(steps) == []


@pytest.mark.case(6)
def test_stop_stage_touches_nothing_later(fakes: Any, steps: list[Step]) -> None:
    assert fakes.carry_out(steps, last=3) == ALL[:3]
    names = {p.name.partition("-")[0] for p in (fakes.exp / "store").iterdir()}
    assert names == {"prepare", "quantizer", "bert"}
    assert fakes.carry_out(steps, last=3) == []
    assert fakes.carry_out(steps) == ALL[3:]


def test_a_stage_whose_earlier_stage_is_missing_is_refused_with_the_command(
    fakes: Any, steps: list[Step]
) -> None:
    with pytest.raises(UserError) as caught:
        fakes.run(steps, first=5).pending()
    assert caught.value.remedy == "vqasr run tiny.yaml --stop-stage 4"
    assert "is missing" in caught.value.what
    assert not fakes.exp.exists()


def test_a_stage_whose_earlier_stage_is_stale_is_refused_with_the_reason(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    with pytest.raises(UserError, match=r"(?s)3 bert is stale \(value: 1 -> 2\).*--stop-stage 4"):
        fakes.run(fakes.steps(chain(bert=2, finetune=2)), first=5).pending()


def test_a_stale_stage_further_back_is_refused_although_what_reads_it_waits(
    fakes: Any, steps: list[Step]
) -> None:
    """Stage 1 is to be made anew; until then nobody knows whether the later ones are to be."""
    fakes.carry_out(steps)
    fakes.content["0 prepare"] = "another corpus reader"
    fakes.carry_out(steps, first=0, last=0, force=True)
    with pytest.raises(UserError, match=r"1 quantizer is stale \(0 prepare was made anew") as e:
        fakes.run(steps, first=7).pending()
    assert e.value.remedy == "vqasr run tiny.yaml --stop-stage 6"
    assert fakes.carry_out(steps, last=6) == ["1 quantizer", "4 lm", "5 finetune"]
    assert fakes.carry_out(steps, first=7) == []


def test_an_interrupted_stage_before_the_first_is_refused(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    artifact(fakes, steps[1]).rename(Store(fakes.exp / "store").partial(steps[1]))
    with pytest.raises(UserError, match=r"1 quantizer is interrupted"):
        fakes.run(steps, first=5).pending()
    assert fakes.carry_out(steps, first=4, last=4, force=True) == ["4 lm"]  # does not come of it


def test_the_command_that_is_told_makes_what_is_missing(fakes: Any, steps: list[Step]) -> None:
    """What reads it before the first stage is done, so that no plain run up to there makes it."""
    fakes.carry_out(steps)
    shutil.rmtree(artifact(fakes, steps[0]))
    changed = fakes.steps(chain(finetune=2))
    with pytest.raises(UserError, match="0 prepare is missing") as caught:
        fakes.run(changed, first=5).pending()
    assert caught.value.remedy == "vqasr run tiny.yaml --stage 0 --stop-stage 0 --force"
    assert fakes.carry_out(changed, first=0, last=0, force=True) == ["0 prepare"]
    assert fakes.carry_out(changed, first=5) == ["5 finetune", "7 score"]


def test_nothing_to_do_is_said_of_the_chosen_steps(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps, last=3)
    told = fakes.run(steps, last=3).nothing_to_do()
    assert told == "nothing to do, 3 steps are done; later steps that are not done: 3"
    fakes.carry_out(steps)
    assert fakes.run(steps).nothing_to_do() == "nothing to do, 6 steps are done"
    assert fakes.run(steps, first=5).nothing_to_do() == "nothing to do, 2 steps are done"


def test_starting_at_a_stage_leaves_the_earlier_ones(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    changed = fakes.steps(chain(finetune=2))
    assert fakes.carry_out(changed, first=5) == ["5 finetune", "7 score"]


def test_a_missing_earlier_stage_that_nobody_reads_does_not_matter(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    shutil.rmtree(artifact(fakes, steps[1]))
    changed = fakes.steps(chain(finetune=2))
    assert fakes.carry_out(changed, first=5) == ["5 finetune", "7 score"]


def test_force_runs_the_chosen_stages_and_what_comes_out_the_same_changes_nothing(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    assert fakes.carry_out(steps, first=3, last=3, force=True) == ["3 bert"]
    assert fakes.carry_out(steps) == []
    assert fakes.carry_out(steps, first=4, force=True) == ALL[3:]


def test_what_comes_out_of_force_differently_makes_later_steps_stale(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    fakes.content["3 bert"] = "another BERT"
    assert fakes.carry_out(steps, first=3, last=3, force=True) == ["3 bert"]
    states = {s.step.stage: s for s in fakes.run(steps).examine()}
    assert states["finetune"].state == "stale"
    assert states["finetune"].reasons == ["3 bert was made anew and differs"]
    assert states["lm"].state == "done"
    assert fakes.carry_out(steps) == ["5 finetune"]  # which comes out as before


def test_a_deleted_artifact_is_made_again_only_when_it_is_read(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    shutil.rmtree(artifact(fakes, steps[2]))
    assert fakes.run(steps).examine()[2].state == "missing"
    assert fakes.carry_out(steps) == []
    changed = fakes.steps(chain(finetune=2))
    assert fakes.carry_out(changed) == ["3 bert", "5 finetune", "7 score"]
    assert fakes.carry_out(steps) == []  # it came out equal: the old ones are fresh


def test_a_deleted_artifact_that_comes_out_differently_makes_its_readers_stale(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    shutil.rmtree(artifact(fakes, steps[3]))
    shutil.rmtree(artifact(fakes, steps[5]))
    assert fakes.carry_out(steps) == ["7 score"]
    fakes.content["4 lm"] = "another text"
    assert fakes.carry_out(steps, first=4, last=4, force=True) == ["4 lm"]
    assert fakes.carry_out(steps) == ["5 finetune"]


def test_a_deleted_result_is_made_again(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    shutil.rmtree(artifact(fakes, steps[5]))
    assert fakes.carry_out(steps) == ["7 score"]


def test_what_is_read_after_the_run_is_made_again(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    shutil.rmtree(artifact(fakes, steps[3]))
    assert fakes.carry_out(steps, kept=[steps[3]]) == ["4 lm"]


@pytest.mark.case(14)
def test_an_altered_artifact_is_refused_with_the_command_that_rebuilds_it(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.carry_out(steps)
    altered = artifact(fakes, steps[2]) / "out.txt"
    altered.write_text("a bit flipped")
    with pytest.raises(RunError) as caught:
        fakes.carry_out(fakes.steps(chain(finetune=2)))
    assert str(altered) in caught.value.what
    assert caught.value.remedy == "vqasr run tiny.yaml --stage 3 --stop-stage 3 --force"
    assert fakes.carry_out(steps, first=3, last=3, force=True) == ["3 bert"]  # that command
    assert fakes.carry_out(fakes.steps(chain(finetune=2))) == ["5 finetune", "7 score"]


def test_a_command_may_hold_braces(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps, command="vqasr run tiny.yaml --set 'corpus.test={a: b}'")
    assert fakes.ran == ALL


def test_a_failed_step_is_named_with_its_log_and_goes_on_in_its_folder(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.raises["3 bert"] = ZeroDivisionError("by zero")
    with pytest.raises(RunError, match=r"(?s)3 bert failed: ZeroDivisionError.*3-bert\.log") as e:
        fakes.carry_out(steps)
    assert "by zero" in (fakes.exp / "tiny" / "logs" / "3-bert.log").read_text()
    assert e.value.exit_status == 1
    state = fakes.run(steps).examine()[2]
    assert (state.state, state.reasons) == ("interrupted", ["goes on where it stopped"])
    assert (Store(fakes.exp / "store").partial(steps[2]) / "half.txt").exists()
    assert fakes.carry_out(steps) == ALL[2:]


def test_curves_are_kept_where_a_step_goes_on_and_go_where_it_starts_anew(
    fakes: Any, steps: list[Step]
) -> None:
    kept = []

    def draw(ctx: StepContext) -> None:
        kept.append(len(list(ctx.tensorboard.glob("*"))))
        ctx.tensorboard.mkdir(parents=True, exist_ok=True)
        (ctx.tensorboard / f"events-{len(kept)}").write_text("events")
        if len(kept) == 1:
            raise RunError("killed")

    def drawn(steps: list[Step]) -> list[Step]:
        return [replace(steps[0], run=draw)]

    with pytest.raises(RunError, match="killed"):
        fakes.carry_out(drawn(steps))
    fakes.carry_out(drawn(steps))
    assert kept == [0, 1]
    fakes.carry_out(drawn(steps), force=True)
    fakes.carry_out(drawn(fakes.steps(chain(prepare=2))))
    assert kept == [0, 1, 0, 0]


@pytest.mark.parametrize("error", [UserError("no budget fits"), RunError("NaN")])
def test_a_step_may_tell_what_is_wrong_in_its_own_words(
    fakes: Any, steps: list[Step], error: Exception
) -> None:
    fakes.raises["3 bert"] = error
    with pytest.raises(type(error)) as caught:
        fakes.carry_out(steps)
    assert caught.value is error


def test_an_interrupted_step_goes_on(fakes: Any, steps: list[Step]) -> None:
    fakes.raises["1 quantizer"] = KeyboardInterrupt("SIGTERM")
    with pytest.raises(KeyboardInterrupt):
        fakes.carry_out(steps)
    assert fakes.carry_out(steps) == ALL[1:]


def test_half_done_work_on_inputs_that_changed_is_thrown_away(
    fakes: Any, steps: list[Step]
) -> None:
    fakes.raises["3 bert"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fakes.carry_out(steps)
    fakes.content["1 quantizer"] = "another quantizer"
    fakes.carry_out(steps, first=1, last=1, force=True)
    seen: list[list[str]] = []

    def look(ctx: StepContext) -> None:
        seen.append(sorted(p.name for p in ctx.folder.iterdir()))

    looking = replace(steps[2], run=look)
    fakes.carry_out([*steps[:2], looking], last=3)
    assert seen == [["inputs.json"]]


def test_an_artifact_knows_where_the_audio_is_now(fakes: Any, tmp_path: Path) -> None:
    """The corpus was moved: nothing is stale, and what reads its audio finds it."""
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (step,) = fakes.steps([replace(chain()[0], audio_root=tmp_path / name)])
        ran = fakes.carry_out([step])
        told = (artifact(fakes, step) / "audio_root.txt").read_text().strip()
        assert (ran, told) == (
            ["0 prepare"] if name == "before" else [],
            str(tmp_path / name),
        )


def test_two_recipes_share_what_they_agree_on(fakes: Any, steps: list[Step]) -> None:
    fakes.carry_out(steps)
    other = fakes.steps(chain(finetune=2))
    ran = fakes.carry_out(other, links=fakes.exp / "other")
    assert ran == ["5 finetune", "7 score"]
    links = [fakes.exp / name / "3-bert" for name in ("tiny", "other")]
    assert links[0].resolve() == links[1].resolve()


def test_prune_leaves_what_an_interrupted_run_reads(fakes: Any, steps: list[Step]) -> None:
    """Another recipe made it, and its links are gone by now."""
    fakes.carry_out(steps, links=fakes.exp / "other")
    shutil.rmtree(fakes.exp / "other")
    changed = fakes.steps(chain(finetune=2))
    fakes.raises["5 finetune"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fakes.carry_out(changed)
    assert unused(fakes.exp) == [artifact(fakes, s) for s in (steps[4], steps[5])]
    assert fakes.carry_out(changed) == ["5 finetune", "7 score"]


def test_a_kill_while_an_artifact_is_replaced_loses_neither_the_old_nor_the_new(
    fakes: Any, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.carry_out(steps)
    fakes.content["3 bert"] = "another BERT"
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        fakes.carry_out(steps, first=3, last=3, force=True)
    old = artifact(fakes, steps[2]).with_suffix(".old")
    assert (old / "out.txt").read_text() == "3 bert"
    assert unused(fakes.exp) == []
    assert fakes.carry_out(steps) == ["5 finetune"]  # no work on the BERT, which was made
    assert (artifact(fakes, steps[2]) / "out.txt").read_text() == "another BERT"
    assert not old.exists()


SLOW = """
import sys, time
from pathlib import Path
from pipeline.runner import Run
from pipeline.stage import Step
from pipeline.store import Store

def work(ctx):
    for number in range(20):
        part = ctx.folder / f"part-{number:02d}"
        if not part.exists():
            beside = ctx.scratch / "part"
            beside.write_text(str(number) * 1000)
            beside.replace(part)
            time.sleep(float(sys.argv[2]))

exp = Path(sys.argv[1])
step = Step("bert", 3, "", 1, {}, {}, work)
Run([step], Store(exp / "store"), exp / "tiny", None, 7, False, "cpu", "again").carry_out()
"""


def slow(exp: Path, seconds: float) -> subprocess.Popen[bytes]:
    args = [sys.executable, "-c", SLOW, str(exp), str(seconds)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(args, cwd=root, stdout=subprocess.DEVNULL)


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there() and time.monotonic() < end:
        time.sleep(0.01)
    assert there()


def test_after_kill_9_a_second_run_makes_the_same_artifact(tmp_path: Path) -> None:
    step = Step("bert", 3, "", 1, {}, {}, nothing)
    killed, whole = Store(tmp_path / "killed" / "store"), Store(tmp_path / "whole" / "store")
    for parts in (2, 9):
        process = slow(killed.root.parent, 0.05)
        until(lambda n=parts: (killed.partial(step) / f"part-{n:02d}").exists())  # type: ignore[misc]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert killed.stamp(step) is None
    for store in (killed, whole):
        assert slow(store.root.parent, 0).wait() == 0
    stamps = [store.stamp(step) for store in (killed, whole)]
    assert stamps[0] is not None
    assert stamps[1] is not None
    assert len(stamps[0].outputs) == 20
    assert stamps[0].outputs == stamps[1].outputs
    assert killed.verify(step, "") == whole.verify(step, "")


@pytest.mark.case(12)
def test_two_runs_at_once_do_the_work_once(tmp_path: Path) -> None:
    step = Step("bert", 3, "", 1, {}, {}, nothing)
    store = Store(tmp_path / "store")
    processes = [slow(tmp_path, 0.03) for _ in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    store.verify(step, "")
    assert not store.partial(step).exists()


SHARING = """
import sys, time
from pathlib import Path
from filelock import FileLock, Timeout
from pipeline.runner import Run
from pipeline.stage import Step
from pipeline.store import Store

def work(ctx):
    left = list(range(20))
    while left:
        number = left.pop(0)
        part = ctx.folder / f"part-{number:02d}"
        try:
            with FileLock(ctx.scratch / f"{number}.lock", timeout=0):
                if not part.exists():
                    time.sleep(float(sys.argv[2]))
                    beside = part.with_suffix(".tmp")
                    beside.write_text(str(number))
                    beside.replace(part)
                    print(number, flush=True)
        except Timeout:
            left.append(number)
            time.sleep(0.01)

exp = Path(sys.argv[1])
step = Step("discretize", 2, "", 1, {}, {}, work, shared=True)
force = "--force" in sys.argv
Run([step], Store(exp / "store"), exp / "tiny", None, 7, force, "cpu", "again").carry_out()
"""
SHARED_STEP = Step("discretize", 2, "", 1, {}, {}, nothing, shared=True)


def sharing(exp: Path, seconds: float, *options: str) -> subprocess.Popen[str]:
    args = [sys.executable, "-c", SHARING, str(exp), str(seconds), *options]
    root = Path(__file__).parents[2]
    return subprocess.Popen(args, cwd=root, stdout=subprocess.PIPE, text=True)


def parts(output: str) -> list[int]:
    return [int(line) for line in output.splitlines() if line.isdigit()]


def test_two_runs_share_a_step_that_may_be_shared(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    processes = [sharing(tmp_path, 0.15) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    # One may come when the other is done: then it has nothing to do, and nothing is made twice.
    assert sorted(parts(outputs[0]) + parts(outputs[1])) == list(range(20))
    assert sum("done in" in output for output in outputs) == 1
    stamp = store.stamp(SHARED_STEP)
    assert stamp is not None
    assert len(stamp.outputs) == 20
    store.verify(SHARED_STEP, "")
    assert not store.partial(SHARED_STEP).exists()


def test_a_forced_run_makes_a_shared_step_again(tmp_path: Path) -> None:
    for options, made in (((), range(20)), ((), []), (("--force",), range(20))):
        process = sharing(tmp_path, 0, *options)
        assert parts(process.communicate()[0]) == list(made)
        assert process.returncode == 0
    assert len(Store(tmp_path / "store").stamp(SHARED_STEP).outputs) == 20  # type: ignore[union-attr]


def test_nobody_else_touches_a_folder_that_is_shared(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    process = sharing(tmp_path, 0.05)
    until(lambda: (store.partial(SHARED_STEP) / "part-01").exists())
    with store.locked_if_free(SHARED_STEP.artifact_name) as free:
        assert not free
    process.communicate()
    with store.locked_if_free(SHARED_STEP.artifact_name) as free:
        assert free


def test_a_shared_step_survives_the_death_of_all_who_work_on_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    processes = [sharing(tmp_path, 0.05) for _ in range(2)]
    until(lambda: (store.partial(SHARED_STEP) / "part-05").exists())
    for process in processes:
        process.kill()
    told = [parts(process.communicate()[0]) for process in processes]
    last = sharing(tmp_path, 0)
    output, _ = last.communicate()
    assert last.returncode == 0
    assert "going on with what is there" in output
    assert len(parts(output)) <= 20 - len(told[0] + told[1])
    store.verify(SHARED_STEP, "")
