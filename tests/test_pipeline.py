"""The whole of Discrete BERT, every stage, in sizes that learn nothing and take seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import cli
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step
from pipeline.store import Store
from stages.acoustic import counts_file
from stages.plan import plan
from stages.prepare.sources import FileHashes

ROOT = Path(__file__).resolve().parents[1]
Values = dict[str, Any]


def run(recipe: Path, exp: Path, *args: str) -> Result:
    result = CliRunner().invoke(cli, ["run", str(recipe), "--exp", str(exp), *args])
    if result.exception:
        raise result.exception
    return result


def plan_of(recipe_path: Path, exp: Path, *changes: str) -> list[Step]:
    recipe: Recipe = load(recipe_path, changes)
    return plan(recipe, FileHashes(exp / "store" / "files.json", "look"))


def digests(steps: list[Step], exp: Path) -> dict[str, str]:
    """Of every artifact, verified, by the step's title."""
    store = Store(exp / "store")
    return {s.title: store.verify(s, "") for s in steps}


@pytest.mark.case(6)
def test_every_stage_runs_and_then_nothing_more(
    write_recipe: Callable[..., Path], values: Values, tmp_path: Path
) -> None:
    path, exp = write_recipe(values), tmp_path / "exp"
    run(path, exp)
    steps = plan_of(path, exp)
    made = digests(steps, exp)
    assert {s.number for s in steps} == set(range(8))
    rows = json.loads((exp / "tiny" / "results.json").read_text())
    assert {(r["budget"], r["decoder"], r["test_set"]) for r in rows} == {
        (b, d, "test") for b in ("2s", "all") for d in ("greedy", "lexicon_beam")
    }
    assert all(r["frontend"] == "unit_bert" and r["wer"] >= 0 for r in rows)
    assert (exp / "tiny" / "RESULTS.md").exists()
    for step in steps:
        assert (exp / "tiny" / step.link_name / "stamp.json").exists()
        assert (exp / "tiny" / "logs" / f"{step.link_name}.log").exists()
    before = {p: p.stat().st_mtime_ns for p in exp.rglob("*") if p.is_file()}
    assert f"nothing to do, {len(steps)} steps are done" in run(path, exp).output
    after = {p: p.stat().st_mtime_ns for p in exp.rglob("*") if p.is_file()}
    assert {p for p in after if before.get(p) != after[p] and p.suffix != ".lock"} == set()
    added = run(path, exp, "--set", "corpus.test={test: test.tsv, more: more.tsv}")
    assert "8 of 35 steps to run" in added.output
    assert digests(steps, exp) == made


@pytest.mark.case(10)
def test_audio_replaced_with_size_and_time_kept_is_found_by_verify(
    write_recipe: Callable[..., Path],
    write_noise: Callable[..., Path],
    values: Values,
    corpus: Path,
    tmp_path: Path,
) -> None:
    path, exp = write_recipe({**values, "frontend": "log_mel"}), tmp_path / "exp"
    stop = ("--stop-stage", "prepare")
    run(path, exp, *stop)
    audio = corpus / "audio" / "train-00.wav"
    before, content = audio.stat(), audio.read_bytes()
    write_noise(audio, 0.41, seed=99)
    os.utime(audio, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert audio.stat().st_size == before.st_size and audio.read_bytes() != content
    assert "nothing to do" in run(path, exp, *stop).output
    assert "0 prepare train" in run(path, exp, *stop, "--verify").output
    assert "nothing to do" in run(path, exp, *stop).output


def test_scores_are_those_of_sclite(
    write_recipe: Callable[..., Path],
    values: Values,
    tmp_path: Path,
    sclite: Callable[[Path, Path], dict[str, tuple[int, int, int, int]]],
) -> None:
    """Of the TRN files that a run leaves, utterance by utterance and summed."""
    path, exp = write_recipe({**values, "frontend": "log_mel"}), tmp_path / "exp"
    run(path, exp)
    store, compared = Store(exp / "store"), 0
    rows = json.loads((exp / "tiny" / "results.json").read_text())
    counts = counts_file.read(exp / "tiny" / "counts.jsonl")
    for step in plan_of(path, exp):
        for trn in store.path(step).glob("*.trn") if step.stage == "score" else ():
            for row in (r for r in rows if r["budget"] == step.budget):
                hypotheses = store.path(step.inputs["hypotheses"]) / f"{row['decoder']}.trn"
                told = sclite(trn, hypotheses)
                names = ("substitutions", "deletions", "insertions", "reference_words")
                assert tuple(map(sum, zip(*told.values(), strict=True))) == tuple(
                    row[name] for name in names
                )
                ours = counts[counts_file.Key.of(row)]
                errors = dict(zip(ours.on.utterances, ours.errors("wer"), strict=True))
                assert {name: sum(c[:3]) for name, c in told.items()} == errors
                compared += 1
    assert compared == 4


def test_seeds_of_fine_tuning_are_rows_of_the_results_each_with_the_weights_that_dev_chose(
    write_recipe: Callable[..., Path], values: Values, tmp_path: Path
) -> None:
    values["finetune"] |= {"seeds": [1, 2], "validate_every": 3}
    values |= {"budgets": ["all"], "decode": {"decoders": ["greedy"]}, "frontend": "log_mel"}
    path, exp = write_recipe(values), tmp_path / "exp"
    run(path, exp)
    rows = json.loads((exp / "tiny" / "results.json").read_text())
    assert [row["seed"] for row in rows] == [1, 2]
    for row in rows:
        folder = exp / "tiny" / f"5-finetune-all-seed{row['seed']}"
        told = json.loads((folder / "training.json").read_text())
        assert [r["update"] for r in told["history"] if "dev_wer" in r] == [3, 6]
        assert told["best"]["dev_wer"] == pytest.approx(row["dev_wer"], abs=1e-6)
    one, two = ((exp / "tiny" / f"5-finetune-all-seed{n}").resolve() for n in (1, 2))
    weights = "model.safetensors"
    assert (one / weights).read_bytes() != (two / weights).read_bytes()


def start(path: Path, exp: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path), "--exp", str(exp)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)


def kill_in(path: Path, exp: Path, step: Step, checkpoints: str) -> None:
    """Run in a process of its own, and kill -9 it once the step has written a checkpoint."""
    folder = Store(exp / "store").partial(step)
    process = start(path, exp)
    end = time.monotonic() + 120
    while not list(folder.glob(checkpoints)):
        assert process.poll() is None, f"{step.title} ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert folder.exists(), f"{step.title} was done before it could be killed"


@pytest.mark.case(4)
def test_after_kill_9_in_a_training_the_model_is_bit_for_bit_the_same(
    write_recipe: Callable[..., Path], values: Values, tmp_path: Path
) -> None:
    """The fine-tuning of the shortest recipe; the slow test below kills each of the trainings."""
    values["finetune"] |= {"updates": 40, "checkpoint_every": 3}
    path = write_recipe({**values, "budgets": ["all"], "frontend": "log_mel"})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(path, whole, "--stop-stage", "5")
    steps = [s for s in plan_of(path, whole) if s.number <= 5]
    kill_in(path, killed, steps[-1], "scratch/**/*.pt")
    assert "going on where it stopped" in run(path, killed, "--stop-stage", "5").output
    assert digests(steps, killed) == digests(steps, whole)


@pytest.mark.slow
@pytest.mark.case(4)
def test_after_kill_9_in_each_training_the_artifacts_are_bit_for_bit_the_same(
    write_recipe: Callable[..., Path], values: Values, tmp_path: Path
) -> None:
    for section in ("quantizer", "bert", "finetune"):
        values[section] |= {"updates": 40, "checkpoint_every": 3}
    values["budgets"] = ["all"]
    path = write_recipe(values)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(path, whole).wait() == 0
    steps = plan_of(path, whole)
    for stage in ("quantizer", "bert", "finetune"):
        step = next(s for s in steps if s.stage == stage)
        kill_in(path, killed, step, "scratch/**/*.pt")
    assert start(path, killed).wait() == 0
    assert digests(steps, killed) == digests(steps, whole)
