"""Set-up: what it refuses, what it repeats and what it leaves alone. Nothing is installed here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline import bootstrap, bootstrap_environment
from pipeline.bootstrap import Setup
from pipeline.bootstrap_environment import KENLM_TOOLS, ROOT, Environment, pinned
from pipeline.errors import RunError, UserError

WORKING, BROKEN = "#!/bin/sh\nexit 1\n", "#!/bin/sh\nexit 127\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of our own, with the real files that set-up depends on."""
    folder = tmp_path / "project"
    (folder / "pipeline").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "pipeline/bootstrap.py"):
        shutil.copy(ROOT / name, folder / name)
    monkeypatch.setattr(bootstrap_environment, "ROOT", folder)
    return folder


@pytest.fixture
def finished(root: Path) -> Environment:
    """An environment that went through set-up to its end."""
    environment = Environment(root / ".venv")
    (environment.venv / "bin").mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    for tool in KENLM_TOOLS:
        write_program(environment.venv / "bin" / tool, WORKING)
    (environment.venv / "kenlm-built").write_text(pinned("kenlm"))
    environment.finish()
    return environment


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_a_finished_environment_is_left_alone(
    finished: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(bootstrap, "Setup")  # whoever wants to work fails
    assert bootstrap.main(["--venv", str(finished.venv)]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "pipeline/bootstrap.py"])
def test_a_changed_source_makes_set_up_run_again(
    finished: Environment, root: Path, name: str
) -> None:
    assert finished.is_finished()
    with (root / name).open("a") as file:
        file.write("# changed\n")
    assert not finished.is_finished()


@pytest.mark.parametrize("tool", KENLM_TOOLS)
def test_a_lost_or_broken_kenlm_tool_makes_set_up_run_again(
    finished: Environment, tool: str
) -> None:
    path = finished.venv / "bin" / tool
    write_program(path, BROKEN)
    assert not finished.is_finished()
    path.write_bytes(b"\x7fELF half a file")
    assert not finished.is_finished()
    path.unlink()
    assert not finished.is_finished()


def test_another_kenlm_version_builds_the_tools_again(finished: Environment) -> None:
    (finished.venv / "kenlm-built").write_text("0.2.0")
    assert not finished.has_kenlm_tools()


def test_a_moved_project_makes_set_up_run_again(
    finished: Environment, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = root.with_name("moved")
    shutil.copytree(root, moved, symlinks=True)
    monkeypatch.setattr(bootstrap_environment, "ROOT", moved)
    assert not Environment(moved / ".venv").is_finished()


def test_an_interrupted_set_up_has_no_stamp(
    finished: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished.venv / "bin" / "lmplz").unlink()

    def interrupt(_: Setup) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Setup, "make", interrupt)
    assert bootstrap.main(["--venv", str(finished.venv)]) == 130
    assert not finished.stamp.exists()
    assert "goes on from here" in capsys.readouterr().err


def test_a_failed_check_is_a_failed_set_up(
    finished: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished.venv / "bin" / "lmplz").unlink()
    write_program(finished.venv / "bin" / "vqasr", "#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(Setup, "make", lambda _: None)
    assert bootstrap.main(["--venv", str(finished.venv)]) == 1
    assert not finished.stamp.exists()
    assert "not everything works" in capsys.readouterr().err


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (2, 7)])
def test_other_pythons_are_refused_in_clear_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, int],
) -> None:
    monkeypatch.setattr(Environment, "python_version", lambda _: version)
    assert bootstrap.main(["--venv", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert "must: be 3.11 or 3.12" in said
    assert f"found: {version[0]}.{version[1]}" in said
    assert "PYTHON=" in said
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not an environment"):
        Environment(tmp_path).refuse_unusable()
    with pytest.raises(UserError, match="not an environment"):
        Environment(tmp_path / "thesis.txt").refuse_unusable()


def test_an_empty_an_absent_and_a_begun_folder_are_accepted(tmp_path: Path) -> None:
    Environment(tmp_path).refuse_unusable()
    Environment(tmp_path / "absent").refuse_unusable()
    (tmp_path / "setup.log").write_text("killed while the environment was made")
    Environment(tmp_path).refuse_unusable()


def test_a_python_that_does_not_start_is_named(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    (tmp_path / "bin").mkdir()
    write_program(environment.python, "#!/bin/sh\necho gone >&2\nexit 127\n")
    with pytest.raises(UserError, match="does not start\n  found: gone\n  remedy: remove"):
        environment.python_version()


def test_a_new_environment_is_asked_for_what_it_holds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path)]
    subprocess.run(command, check=True)
    environment = Environment(tmp_path)
    assert environment.python_version() == sys.version_info[:2]
    assert not environment.has_pip()
    assert environment.installed("torch") is None


def test_the_torch_of_a_given_environment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment, "installed", lambda *_: "2.11.0+cu128")
    lines = Environment(tmp_path).constraints().splitlines()
    assert [line for line in lines if line.startswith("torch==")] == ["torch==2.11.0+cu128"]
    ours = Environment(ROOT / ".venv").constraints().splitlines()
    assert f"torch=={pinned('torch')}" in ours


def test_a_torch_that_is_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment, "installed", lambda *_: "2.9.1")
    with pytest.raises(UserError, match=r"be at least 2\.10\n  found: 2\.9\.1"):
        Environment(tmp_path).constraints()


def test_an_environment_without_torch_gets_the_pinned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment, "installed", lambda *_: None)
    assert f"torch=={pinned('torch')}" in Environment(tmp_path).constraints().splitlines()


STEPS = (
    "make_venv",
    "install_dependencies",
    "install_fairseq",
    "install_peer",
    "build_kenlm_tools",
)


def steps_taken(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]
) -> list[str]:
    taken: list[str] = []
    for name in STEPS:
        monkeypatch.setattr(Setup, name, lambda _, name=name: taken.append(name))
    monkeypatch.setattr(bootstrap, "missing_packages", lambda **_: [])
    monkeypatch.setattr(Environment, "has_pip", lambda _: True)
    monkeypatch.setattr(Environment, "installed", lambda _, name: versions.get(name))
    Setup(environment).make()
    return taken


def test_partial_work_is_used(finished: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"fairseq": bootstrap.FAIRSEQ, "kenlm": pinned("kenlm")}
    versions |= {"pyctcdecode": pinned("pyctcdecode")}
    assert steps_taken(finished, monkeypatch, versions) == ["install_dependencies"]


def test_what_is_missing_is_made(finished: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    (finished.venv / "bin" / "lmplz").unlink()
    finished.python.unlink()
    assert steps_taken(finished, monkeypatch, {"fairseq": "0.10.0"}) == list(STEPS)


def test_set_up_goes_on_without_what_benchmarks_alone_need(
    finished: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Setup, *arguments: str, **__: object) -> None:
        raise RunError(f"no such thing: {arguments}")

    monkeypatch.setattr(Setup, "pip", refuse)
    Setup(finished).install_peer()
    told = capsys.readouterr().out
    assert "for the benchmarks ... failed" in told
    assert f"pip install --no-deps pyctcdecode=={pinned('pyctcdecode')}" in told
    with pytest.raises(RunError):
        Setup(finished).install_fairseq()


def test_an_unpinned_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="fairseq"):
        pinned("fairseq")


def test_constraints_are_exact_versions_without_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    wrong = [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)]
    assert wrong == []


def test_every_declared_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=]", line)[0].lower() for line in declared}
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pins = {line.split("==")[0] for line in lines}
    assert names - pins == set()
    assert set(bootstrap.BUILD_TOOLS) - pins == set()


def test_failure_of_pip_names_what_it_said(finished: Environment) -> None:
    with pytest.raises(RunError, match="unknown command") as failure:
        finished.python.unlink()
        finished.python.symlink_to(Path(sys.prefix, "bin", "python"))
        Setup(finished).pip("no-such-command")
    assert "check the network" in failure.value.remedy
