"""The command line: one clear line for each mistake, exit statuses, status, prune, compare."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pipeline import cli as module
from pipeline import interrupt
from pipeline.cli import cli, main
from pipeline.errors import RunError, UserError
from pipeline.prune import delete
from pipeline.recipe import Recipe
from pipeline.stage import Step
from pipeline.store import Store

Values = dict[str, Any]
WriteRecipe = Callable[..., Path]


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args], catch_exceptions=True)


def exit_status(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    """Of the whole program."""
    monkeypatch.setattr(sys, "argv", ["vqasr", *map(str, args)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture
def recipe_path(write_recipe: WriteRecipe, values: Values) -> Path:
    return write_recipe(values)


@pytest.fixture
def done(
    recipe_path: Path,
    make_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    fakes: Any,
) -> list[Step]:
    """All steps of the recipe, done by fake work."""
    steps = make_plan(make_recipe())
    fakes.carry_out(fakes.steps(steps))
    return steps


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--set", "finetune.udpates=3"], "unknown key finetune.udpates; did you mean updates?"),
        (["--set", "finetune.updates=three"], "finetune.updates: "),
        (["--set", "frontend=log_mle"], "Unknown front-end 'log_mle'. did you mean log_mel?"),
        (["--set", "corpus.kind=tvs"], "Unknown kind of corpus 'tvs'. did you mean tsv?"),
        (["--set", "corpus.root=/no/folder"], "No such corpus folder: /no/folder"),
        (["--stage", "fientune"], "There is no stage 'fientune'; did you mean finetune?"),
        (["--stage", "8"], "There is no stage '8'"),
        (["--stage", "²"], "There is no stage '²'"),
        (["--stage", "5", "--stop-stage", "4"], "--stage 5 comes after --stop-stage 4"),
        (["--set", "decode.decoders=[greedi]"], "Unknown decoder 'greedi'. did you mean greedy?"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2_before_anything_is_written(
    recipe_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    told: str,
) -> None:
    exp = tmp_path / "exp"
    assert exit_status(monkeypatch, "run", recipe_path, "--exp", exp, *args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vqasr: ")
    assert told in lines[0]
    assert not exp.exists() or [p.name for p in exp.rglob("*.json")] == ["files.json"]


@pytest.mark.parametrize(
    "args", [["run"], ["run", "no.yaml", "--wrong"], ["walk"], ["compare", "--format", "xml", "x"]]
)
def test_wrong_options_end_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    assert exit_status(monkeypatch, *args) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (UserError("the budget is too large"), 2),
        (RunError("the loss is NaN"), 1),
        (KeyboardInterrupt("SIGTERM"), 130),
        (click.Abort(), 130),
    ],
)
def test_exit_statuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe_path: Path,
    error: BaseException | None,
    status: int,
) -> None:
    def load(*_: object) -> Recipe:
        assert error is not None
        raise error

    if error is not None:
        monkeypatch.setattr(module, "_load", load)
    args = ["status", recipe_path, "--exp", recipe_path.parent / "exp"]
    assert exit_status(monkeypatch, *args) == status
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if isinstance(error, UserError | RunError):
        assert told == f"vqasr: {error.what}\n"


def test_help_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("run", "status", "compare", "check", "prune"))


@pytest.mark.case(7)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_run_with_130(tmp_path: Path, number: signal.Signals) -> None:
    script = (
        "import os, sys, time\n"
        "from pipeline import cli\n"
        "def wait(*a):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(30)\n"
        "cli._load = wait\n"
        "sys.argv = ['vqasr', 'status', 'x.yaml']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 130
    assert "the same command goes on" in done.stderr


def test_a_signal_is_put_off_while_a_training_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[tuple[float, ...]] = []
    monkeypatch.setattr(signal, "setitimer", lambda _, *times: timers.append(times))
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), interrupt.deferred():
        module._on_signal(signal.SIGTERM, None)
        module._on_signal(signal.SIGINT, None)  # again: nothing more, and no longer wait
        assert interrupt.requested()
        assert timers == [(20.0, 3.0)]
    assert not interrupt.requested()
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        module._on_signal(signal.SIGTERM, None)


def test_a_training_that_does_not_listen_in_time_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    with pytest.raises(KeyboardInterrupt, match="SIGALRM"), interrupt.deferred():
        module._on_signal(signal.SIGUSR1, None)
        module._on_signal(signal.SIGALRM, None)


def test_status_tells_every_step_as_json(recipe_path: Path, done: list[Step], fakes: Any) -> None:
    shutil.rmtree(Store(fakes.exp / "store").path(done[-1]))
    rows = json.loads(call("status", recipe_path, "--exp", fakes.exp, "--json").output)
    assert [(r["number"], r["name"], r["label"]) for r in rows] == [
        (s.number, s.stage, s.label) for s in done
    ]
    assert [r["state"] for r in rows] == ["done"] * (len(done) - 1) + ["missing"]
    assert {r["budget"] for r in rows} == {None, "2s", "all"}
    assert all(Path(r["path"]).is_dir() and r["seconds"] >= 0 for r in rows[:-1])


def test_status_tells_the_reasons(recipe_path: Path, done: list[Step], fakes: Any) -> None:
    args = ["status", recipe_path, "--exp", fakes.exp, "--set", "finetune.updates=9"]
    rows = json.loads(call(*args, "--json").output)
    tuned = [r for r in rows if r["number"] == 5]
    assert [r["state"] for r in tuned] == ["stale", "stale"]
    assert tuned[0]["reasons"] == ["updates: 6 -> 9"]
    assert tuned[0]["reason"] == "updates: 6 -> 9"
    assert {r["reason"] for r in rows if r["number"] < 5} == {""}
    assert {r["state"] for r in rows if r["number"] < 5} == {"done"}
    assert "updates: 6 -> 9" in call(*args).output


def test_status_calls_unused_stages_so(recipe_path: Path, tmp_path: Path) -> None:
    args = ["status", recipe_path, "--exp", tmp_path / "exp", "--set", "frontend=log_mel"]
    rows = json.loads(call(*args, "--json").output)
    assert [r["name"] for r in rows if r["state"] == "not used"] == [
        "quantizer",
        "discretize",
        "bert",
    ]
    assert not (tmp_path / "exp").exists()
    assert {frozenset(r) for r in rows} == {frozenset(rows[0])}  # the same keys everywhere
    unused = next(r for r in rows if r["name"] == "bert")
    assert unused["reason"] == "front-end log_mel does not read it"
    assert (unused["label"], unused["seconds"], unused["path"]) == (None, None, None)


def test_a_dry_run_tells_what_would_run_and_why(
    recipe_path: Path, done: list[Step], fakes: Any
) -> None:
    args = ["run", recipe_path, "--exp", fakes.exp, "--dry-run", "--set", "finetune.updates=9"]
    result = call(*args, "--stage", "finetune", "--stop-stage", "5")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "5 finetune 2s (stale: updates: 6 -> 9)",
        "5 finetune all (stale: updates: 6 -> 9)",
        f"2 of {len(done)} steps would run",
    ]


def test_stages_have_numbers_and_names() -> None:
    assert [module._stage_number(t) for t in ("0", "prepare", "5", "finetune", "score")] == [
        0,
        0,
        5,
        5,
        7,
    ]


def test_a_run_that_has_no_results_to_show_says_why(
    recipe_path: Path, done: list[Step], fakes: Any
) -> None:
    store = Store(fakes.exp / "store")
    shutil.rmtree(store.path(next(s for s in done if s.title == "4 lm ngram")))
    result = call("run", recipe_path, "--exp", fakes.exp, "--stop-stage", "3")
    assert (result.exit_code, result.exception) == (0, None)
    assert result.output.splitlines() == [
        "tiny: nothing to do, 13 steps are done; later steps that are not done: 1",
        "tiny: no table of results: 4 lm ngram is missing",
    ]


def test_a_missing_earlier_stage_is_refused_with_the_command_as_it_is_typed(
    recipe_path: Path, tmp_path: Path
) -> None:
    exp, change = tmp_path / "exp", "corpus.test={test: test.tsv}"
    result = call("run", recipe_path, "--exp", exp, "--stage", "5", "--set", change)
    assert isinstance(result.exception, UserError)
    command = f"vqasr run {recipe_path} --set '{change}' --exp {exp} --stop-stage 4"
    assert result.exception.remedy == command


def test_prune_lists_before_it_deletes_and_keeps_what_is_linked(
    recipe_path: Path,
    done: list[Step],
    fakes: Any,
    make_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
) -> None:
    store = Store(fakes.exp / "store")
    changed = make_plan(make_recipe("finetune.updates=9"))
    fakes.carry_out(fakes.steps(changed))
    unused = [store.path(s) for s in done if s.number >= 5]
    refused = CliRunner().invoke(cli, ["prune", "--exp", str(fakes.exp)], input="n\n")
    for path in unused:
        assert str(path) in refused.output
        assert path.exists()
    assert f"{len(unused)} artifacts" in refused.output
    assert refused.output.index(str(unused[0])) < refused.output.index("Delete them?")
    assert "deleted" in call("prune", "--exp", fakes.exp, "--yes").output
    assert not any(path.exists() for path in unused)
    assert all(store.stamp(s) is not None for s in changed)
    told = call("prune", "--exp", fakes.exp).output
    assert told == "Nothing to prune: every artifact belongs to a recipe.\n"


def test_prune_says_of_a_folder_without_artifacts_that_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").touch()
    told = f"Nothing to prune: {tmp_path} holds no artifacts.\n"
    assert call("prune", "--exp", tmp_path).output == told
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "files.json").touch()
    assert call("prune", "--exp", tmp_path).output == told


def test_prune_keeps_what_another_recipe_uses(done: list[Step], fakes: Any) -> None:
    store = Store(fakes.exp / "store")
    os.rename(fakes.exp / "tiny", fakes.exp / "other")
    assert "Nothing to prune" in call("prune", "--exp", fakes.exp, "--yes").output
    shutil.rmtree(fakes.exp / "other")
    call("prune", "--exp", fakes.exp, "--yes")
    assert not any(store.path(s).exists() for s in done)


def test_prune_leaves_interrupted_work_unless_asked(done: list[Step], fakes: Any) -> None:
    store = Store(fakes.exp / "store")
    half, busy = (store.root / f"bert-{name}.partial" for name in ("half", "busy"))
    for folder in (half, busy):
        folder.mkdir()
        (folder / "checkpoint").write_bytes(bytes(2_000_000))
    with store.locked_if_free("bert-busy") as held:
        assert held
        told = call("prune", "--exp", fakes.exp, "--yes").output
        assert "2.0 MB of interrupted work stay" in told
        assert half.exists()
        told = call("prune", "--exp", fakes.exp, "--partial", "--yes").output
        assert f"{half}  (interrupted work)" in told
        assert str(busy) not in told
    assert not half.exists()
    assert busy.exists()


def test_prune_leaves_work_that_a_run_has_taken_up_meanwhile(tmp_path: Path) -> None:
    store, half = Store(tmp_path), tmp_path / "bert-1.partial"
    half.mkdir()
    with store.locked_if_free("bert-1"):
        assert not delete(half)
    assert half.exists()
    assert delete(half)
    assert not half.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ("\xff", "is not JSON"),
        ("{}", "holds no results"),
        ("[3]", "holds no results"),
        (
            '[{"recipe": "one", "wer": "low"}]',
            r"row 1 without test_set, .*; wer of row 1 is 'low': .* valid number",
        ),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_compare_refuses_what_holds_no_results(
    tmp_path: Path, content: str | None, told: str
) -> None:
    path = tmp_path / "x.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode("latin-1"))
    result = call("compare", path, "--exp", tmp_path)
    assert isinstance(result.exception, UserError)
    assert re.search(told, str(result.exception))


@pytest.mark.parametrize("command", ["run", "status", "prune", "compare"])
def test_a_folder_of_results_that_cannot_be_is_told(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    args = [] if command == "prune" else [recipe_path]
    for exp in ("/dev/null", "/dev/null/x"):
        result = call(command, *args, "--exp", exp)
        assert isinstance(result.exception, UserError)
        assert "/dev/null is not a folder" in result.exception.what


@pytest.mark.case(8)
def test_a_folder_that_may_not_be_written_is_told_before_any_work(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    result = call("run", recipe_path, "--exp", tmp_path / "a" / "b")
    assert isinstance(result.exception, UserError)
    assert f"{tmp_path} may not be written" in result.exception.what


def test_a_folder_that_the_system_refuses_is_told_before_any_work(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = call("run", recipe_path, "--exp", tmp_path / "exp")
    assert isinstance(result.exception, UserError)
    assert "cannot be made: Read-only file system" in result.exception.what


@pytest.mark.case(8)
def test_a_full_disk_is_named_with_status_1(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x/stamp.json")

    monkeypatch.setattr(module, "_load", full)
    assert exit_status(monkeypatch, "status", recipe_path) == 1
    what, found, remedy = capsys.readouterr().err.splitlines()
    assert what == "vqasr: The disk is full: x/stamp.json could not be written."
    assert "MB free" in found
    assert "make space" in remedy


def test_compare_of_a_recipe_without_results_lists_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "exp" / "digits").mkdir(parents=True)
    (tmp_path / "exp" / "digits" / "results.json").write_text("[]")
    result = call("compare", "recipes/demo.yaml", "--exp", tmp_path / "exp")
    assert isinstance(result.exception, UserError)
    assert "recipes/demo.yaml has no results" in result.exception.what
    exp = tmp_path / "exp"
    told = f"vqasr run recipes/demo.yaml --exp {exp}; there are results of: digits"
    assert result.exception.remedy == told


def test_compare_of_a_name_without_results_does_not_tell_to_run_the_name(tmp_path: Path) -> None:
    result = call("compare", "demo", "--exp", tmp_path / "exp")
    assert isinstance(result.exception, UserError)
    assert result.exception.remedy == (
        f"run the recipe (vqasr run RECIPE --exp {tmp_path / 'exp'}); there are results of: none"
    )


def result_row(recipe: str, wer: float) -> dict[str, Any]:
    told = dict.fromkeys(("cer", "wer_low", "wer_high", "lm_perplexity", "dev_seconds"), 0.0)
    names = {"test_set": "test", "frontend": "log_mel", "decoder": "greedy", "lm_text": "a text"}
    numbers = {"budget_seconds": 60.0, "seed": 1, "reference_words": 9, "fold": None}
    return told | names | numbers | {"budget": "1min", "recipe": recipe, "wer": wer}


@pytest.mark.parametrize("name", ["v1.2", "recipe file"])
def test_compare_shows_results_by_recipe_name_and_by_file(
    tmp_path: Path, write_recipe: WriteRecipe, values: Values, name: str
) -> None:
    if name == "recipe file":  # its results lie under its name, not the file's
        name = str(write_recipe({**values, "name": "v1.2"}, "other"))
    for recipe, wer in (("v1.2", 0.25), ("two", 0.5)):
        path = tmp_path / "exp" / recipe / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([result_row(recipe, wer)]))
    args = ["compare", name, path, "--exp", tmp_path / "exp"]
    rows = json.loads(call(*args, "--format", "json").output)
    assert [(r["recipe"], r["wer"]) for r in rows] == [("two", 0.5), ("v1.2", 0.25)]
    for form in ("table", "md", "csv"):
        output = call(*args, "--format", form).output
        assert "v1.2" in output
        assert "two" in output


def test_compare_pairs_systems_and_joins_runs(tmp_path: Path) -> None:
    """Two runs of `digits`, one of them from another seed of pretraining, against `mel`."""
    lines = ['{"test_set":"test","fold":null,"utterances":["u1","u2"],"names":["ann"],']
    lines[0] += '"speakers":[0,0],"reference_words":[5,5],"reference_chars":[9,9]}'
    key = '"test_set":"test","fold":null,"budget":"1min","seed":1,"decoder":"greedy"'
    for recipe, errors in (("digits", [1, 2]), ("digits2", [3, 2]), ("mel", [3, 4])):
        folder = tmp_path / "exp" / recipe
        folder.mkdir(parents=True)
        row = result_row(recipe, sum(errors) / 10) | {"reference_words": 10, "confidence": 0.95}
        row["reference_chars"] = 18
        (folder / "results.json").write_text(json.dumps([row]))
        zeros = f'"deletions":[0,0],"insertions":[0,0],"char_errors":{errors}'
        line = f'{{{key},"substitutions":{errors},{zeros}}}'
        (folder / "counts.jsonl").write_text("\n".join([*lines, line]) + "\n")
    args = ["compare", "digits+digits2", tmp_path / "exp" / "mel", "--exp", tmp_path / "exp"]
    rows = json.loads(call(*args, "--format", "json").output)
    told = [(r["recipe"], r["wer"], len(r["seeds"])) for r in rows]
    assert told == [("digits", 0.4, 2), ("mel", 0.7, 1)]
    pairs = json.loads(call(*args, "--pairs", "--format", "json").output)
    assert [(p["recipe"], p["against"]) for p in pairs] == [("mel", "digits")]
    assert pairs[0]["difference"] == pytest.approx(0.3)
    (pair,) = csv.DictReader(
        call(*args, "--pairs", "--against", "mel", "--format", "csv").output.splitlines()
    )
    assert (pair["recipe"], float(pair["difference"])) == ("digits", pytest.approx(-0.3))
    shown = call(*args, "--pairs").output
    assert "40.0 [" in shown
    assert "Systems against digits" in shown
    assert isinstance(call(*args, "--against", "mel").exception, UserError)


def test_compare_does_not_join_runs_of_different_systems(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = [result_row(name, 0.5) | {"frontend": name}]
        (tmp_path / name / "results.json").write_text(json.dumps(rows))
    result = call("compare", "a+b", "--exp", tmp_path)
    assert isinstance(result.exception, UserError)
    assert "a+b are not runs of one system" in result.exception.what


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference_words": 8}, "the same reference_words on test set test"),
        ({"lm_text": "another"}, "the same lm_text on test set test"),
        ({"test_utterances": 3}, "the same test_utterances on test set test"),
        ({"lm_text": "another", "budget": "2min"}, "the same lm_text on test set test"),
    ],
)
def test_compare_does_not_join_runs_on_other_speech(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    for name, changed in (("a", {}), ("b", changes)):
        (tmp_path / name).mkdir()
        rows = [result_row(name, 0.5) | {"test_utterances": 4} | changed]
        (tmp_path / name / "results.json").write_text(json.dumps(rows))
    result = call("compare", "a+b", "--exp", tmp_path)
    assert isinstance(result.exception, UserError)
    assert told in result.exception.constraint
    assert "in a, " in result.exception.found and result.exception.found.endswith("in b")


def test_compare_names_what_only_one_of_joined_runs_has(tmp_path: Path) -> None:
    here = {"a": [("1min", "x"), ("all", "x")], "b": [("1min", "x"), ("1min", "y")]}
    for name, places in here.items():
        (tmp_path / name).mkdir()
        rows = [result_row(name, 0.5) | {"budget": b, "fold": f} for b, f in places]
        (tmp_path / name / "results.json").write_text(json.dumps(rows))
    result = call("compare", "a+b", "--exp", tmp_path, "--format", "json")
    assert result.stderr.splitlines() == ["a+b: fold y only in b.", "a+b: budget all only in a."]
    assert [(r["budget"], len(r["seeds"])) for r in json.loads(result.stdout)] == [
        ("1min", 2),
        ("all", 1),
    ]


def test_compare_tells_what_has_no_partner(tmp_path: Path) -> None:
    head = '{"test_set":"test","fold":null,"utterances":["u"],"names":["ann"],"speakers":[0],'
    head += '"reference_words":[9],"reference_chars":[9]}'
    for name, budget in (("a", "1min"), ("b", "60s")):
        (tmp_path / name).mkdir()
        row = result_row(name, 0.5) | {"budget": budget}
        (tmp_path / name / "results.json").write_text(json.dumps([row]))
        key = {k: row[k] for k in ("test_set", "fold", "budget", "seed", "decoder")}
        kinds = ("substitutions", "deletions", "insertions", "char_errors")
        line = json.dumps(key | {kind: [1] for kind in kinds})
        (tmp_path / name / "counts.jsonl").write_text(f"{head}\n{line}\n")
    args = ["compare", "a", "b", "--pairs", "--exp", tmp_path]
    told = "b (test, 60s, greedy) has no partner: no budget 60s of a there, but 1min."
    assert told in call(*args).stdout
    result = call(*args, "--format", "json")
    assert json.loads(result.stdout) == []
    assert told in result.stderr


def test_compare_tells_results_of_one_recipe_apart_by_where_they_are(tmp_path: Path) -> None:
    for folder, wer in (("old", 0.5), ("new", 0.25)):
        (tmp_path / folder).mkdir()
        rows = [result_row("demo", wer), result_row(folder, 0.75)]
        (tmp_path / folder / "results.json").write_text(json.dumps(rows))
    old, new = (tmp_path / f / "results.json" for f in ("old", "new"))
    rows = json.loads(call("compare", old, new, "--exp", tmp_path, "--format", "json").output)
    told = {r["recipe"]: r["wer"] for r in rows}
    assert told == {f"demo ({old})": 0.5, f"demo ({new})": 0.25, "old": 0.75, "new": 0.75}
    table = call("compare", old, new, "--exp", tmp_path, "--format", "md").output
    assert "50.0 [" in table
    assert "25.0 [" in table
    rows = json.loads(call("compare", old, old, "--exp", tmp_path, "--format", "json").output)
    assert [r["recipe"] for r in rows] == ["demo", "old"]  # one source, however often
