"""`vqasr check`: tells what works from what does not, and never falls over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import check_probes, checks
from pipeline.check_probes import COMPONENTS, REMEDY
from pipeline.checks import run_checks, try_component
from pipeline.errors import RunError
from pipeline.kenlm_tools import kenlm_tool

PROBES = {name: (distribution, probe) for name, distribution, probe in COMPONENTS}


def try_by_name(name: str) -> checks.Check:
    return try_component(name, *PROBES[name])


@pytest.mark.parametrize("name", PROBES)
def test_works_here(name: str) -> None:
    check = try_by_name(name)
    assert check.works, check.line()
    assert check.version[0].isdigit()
    assert "\n" not in check.line()


SABOTAGE: list[tuple[str, str, Any]] = [
    ("torch", "torch.arange", lambda *_: __import__("torch").zeros(6)),
    ("soundfile", "soundfile.read", lambda *_, **__: ([0.0] * 15_000, 16_000)),
    ("soxr", "soxr.resample", lambda samples, *_: samples),
    ("pyarrow", "pyarrow.parquet.read_table", lambda _: __import__("pyarrow").table({})),
    ("kenlm", "kenlm.Model.score", lambda *_: 0.0),
    ("jiwer", "jiwer.process_words", lambda *_: type("Counts", (), {"wer": 1.0})),
    ("tensorboard", "torch.utils.tensorboard.SummaryWriter", None),
    ("transformers", "transformers.BertModel", None),
    ("espeak-ng", "stages.prepare.espeak.synthesize", lambda *_: []),
    ("fairseq", "stages.quantizer.fairseq.bridge.import_fairseq", lambda _: None),
]


@pytest.mark.parametrize(("name", "target", "broken"), SABOTAGE, ids=[s[0] for s in SABOTAGE])
def test_a_broken_component_is_reported(
    monkeypatch: pytest.MonkeyPatch, name: str, target: str, broken: Any
) -> None:
    try:
        monkeypatch.setattr(target, broken)
    except TypeError:  # a method of a compiled class
        owner, _, _ = target.rpartition(".")
        fake = type("Model", (), {"__init__": lambda *_: None, "score": broken})
        monkeypatch.setattr(owner, fake)
    check = try_by_name(name)
    assert not check.works
    assert check.detail
    assert check.remedy == REMEDY


@pytest.mark.parametrize("name", ["lmplz", "build_binary", "kenlm", "flashlight"])
def test_kenlm_tools_that_do_not_load_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho libboost_thread.so is gone >&2\nexit 127\n")
    tool.chmod(0o755)
    monkeypatch.setattr(check_probes, "kenlm_tool", lambda _: tool)
    check = try_by_name(name)
    assert not check.works
    assert "ended with 127: libboost_thread.so is gone" in check.detail


def test_a_missing_kenlm_tool_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="lmplz is not there") as failure:
        kenlm_tool("lmplz")
    assert failure.value.remedy == REMEDY


def test_kenlm_tools_are_found_beside_python_or_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, on_path = tmp_path / "bin", tmp_path / "path"
    for folder in (beside, on_path):
        folder.mkdir()
        (folder / "lmplz").write_text("#!/bin/sh\n")
        (folder / "lmplz").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(on_path))
    assert kenlm_tool("lmplz") == beside / "lmplz"
    (beside / "lmplz").unlink()
    assert kenlm_tool("lmplz") == on_path / "lmplz"


def raising(error: Exception) -> Callable[[], str]:
    def probe() -> str:
        raise error

    return probe


def test_a_failure_is_one_line_and_its_remedy() -> None:
    check = try_component("thing", "no-such-thing", raising(ImportError("no module\nmore")))
    first, second = check.line().splitlines()
    assert first.split() == ["FAILED", "thing", "-", "ImportError:", "no", "module"]
    assert second.split(maxsplit=1) == ["remedy:", REMEDY]


def test_the_remedy_of_an_error_of_ours_is_kept() -> None:
    check = try_component("thing", "", raising(RunError("too long", remedy="a shorter path")))
    assert check.remedy == "a shorter path"


def test_one_broken_component_fails_the_whole_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (("one", "", raising(OSError())), ("two", "", lambda: "did it"))
    monkeypatch.setattr(checks, "COMPONENTS", table)
    assert [check.works for check in run_checks()] == [False, True]
    assert checks.main() == 1
    said = capsys.readouterr().out
    assert "does not work: one\n" in said
    assert "did it" in said
    monkeypatch.setattr(checks, "COMPONENTS", table[1:])
    assert checks.main() == 0
