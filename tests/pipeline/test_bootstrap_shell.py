"""Commands of set-up: seconds for the user, the words in a log, their end in a failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.bootstrap_shell import TAIL_LINES, Shell, step, tail
from pipeline.errors import RunError


def test_a_step_prints_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with step("boiling water"):
        pass
    assert re.fullmatch(r"  boiling water \.\.\. \d+\.\d s\n", capsys.readouterr().out)


def test_a_failed_step_says_so_and_lets_the_error_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="dry"), step("boiling water"):
        raise ValueError("dry")
    assert capsys.readouterr().out == "  boiling water ... failed\n"


def test_output_goes_to_the_log_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "new" / "setup.log")
    shell.run(["sh", "-c", "echo to the log; echo $EXTRA >&2"], remedy="", env={"EXTRA": "given"})
    assert "to the log\ngiven\n" in shell.log.read_text()
    assert capfd.readouterr() == ("", "")


def test_a_failure_holds_the_end_of_what_was_said(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "setup.log")
    shell.run(["echo", "from before"], remedy="")
    with pytest.raises(RunError) as failure:
        shell.run(["sh", "-c", "echo no disk space; exit 3"], remedy="buy a disk")
    text = failure.value.text()
    assert "status 3" in text
    assert "    no disk space\n" in text
    assert "remedy: buy a disk" in text
    assert "from before" not in text


def test_a_program_that_is_not_there_is_a_failure_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot run no-such-program.*\n  remedy: find it"):
        Shell(tmp_path / "setup.log").run(["no-such-program"], remedy="find it")


def test_the_tail_leaves_noise_out() -> None:
    text = "Requirement already satisfied: a\n[notice] a new pip\n\nERROR: b\n"
    assert tail(text) == "    ERROR: b"
    assert len(tail("\n".join(map(str, range(100)))).splitlines()) == TAIL_LINES
