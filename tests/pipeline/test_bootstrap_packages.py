"""System packages: asked for only where really missing, and named where they cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import bootstrap_packages
from pipeline.bootstrap_packages import COMPILING, SystemPackage, links, missing_packages, provide
from pipeline.errors import RunError

BOOST, CMAKE = SystemPackage("libboost-thread-dev"), SystemPackage("cmake", program="cmake")
ZLIB = SystemPackage("zlib1g-dev", optional=True)


class Recorder:
    """Stands for Shell.run: keeps the commands, fails on those that hold `fails_on`."""

    def __init__(self, fails_on: str = "") -> None:
        self.commands: list[str] = []
        self.fails_on = fails_on

    def __call__(self, command: list[str], *, remedy: str) -> None:
        self.commands.append(" ".join(command))
        if self.fails_on and self.fails_on in command:
            raise RunError("it failed", remedy=remedy)


@pytest.fixture
def may(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str] | None], None]:
    """Say what the user may do: [] root, None nothing."""

    def set_prefix(prefix: list[str] | None) -> None:
        monkeypatch.setattr(bootstrap_packages, "administrator", lambda: prefix)
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    return set_prefix


def test_who_may_not_install_gets_the_exact_line(may: Callable[..., None]) -> None:
    may(None)
    run = Recorder()
    with pytest.raises(RunError) as refusal:
        provide([CMAKE, BOOST, ZLIB], run)
    told = refusal.value.text().splitlines()
    assert told[-3:] == [
        "    sudo apt-get update && sudo apt-get install -y cmake libboost-thread-dev",
        "  optional:",
        "    sudo apt-get install -y zlib1g-dev",
    ]
    assert refusal.value.found == "not there: cmake, libboost-thread-dev"
    assert run.commands == []


@pytest.mark.parametrize("fails_on", ["install", ""])
def test_without_optional_packages_no_line_speaks_of_them(
    may: Callable[..., None], fails_on: str
) -> None:
    may([] if fails_on else None)
    with pytest.raises(RunError) as refusal:
        provide([CMAKE, ZLIB] if fails_on else [CMAKE], Recorder(fails_on))
    assert refusal.value.text().splitlines()[-1].endswith("install -y cmake")
    assert "optional" not in refusal.value.text()


def test_optional_packages_alone_stop_nobody(may: Callable[..., None]) -> None:
    may(None)
    run = Recorder()
    provide([ZLIB], run)
    assert run.commands == []


@pytest.mark.parametrize("prefix", [[], ["sudo", "-n"]])
def test_who_may_install_gets_exactly_what_is_missing(
    may: Callable[..., None], prefix: list[str]
) -> None:
    may(prefix)
    run = Recorder()
    provide([CMAKE, BOOST], run)
    update, install = run.commands
    assert update.endswith(" update")
    assert install.endswith("install -y --no-install-recommends cmake libboost-thread-dev")
    assert install.startswith(" ".join([*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]))


def test_a_failed_update_is_no_reason_to_stop(may: Callable[..., None]) -> None:
    may([])
    run = Recorder(fails_on="update")
    provide([CMAKE], run)
    assert len(run.commands) == 2


def test_an_optional_package_that_apt_does_not_know_stops_nobody(
    may: Callable[..., None],
) -> None:
    may([])
    run = Recorder(fails_on="zlib1g-dev")
    provide([CMAKE, ZLIB, SystemPackage("sctk", optional=True)], run)
    assert [c.rpartition("recommends ")[2] for c in run.commands[1:]] == [
        "cmake",
        "zlib1g-dev",
        "sctk",
    ]


def test_a_failed_install_names_the_line_to_type(may: Callable[..., None]) -> None:
    may([])
    with pytest.raises(RunError, match="sudo apt-get install -y cmake"):
        provide([CMAKE], Recorder(fails_on="install"))


def test_without_sudo_a_user_is_no_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap_packages.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert bootstrap_packages.administrator() is None


@pytest.mark.parametrize(("status", "expected"), [(0, ["sudo", "-n"]), (1, None)])
def test_sudo_counts_only_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, expected: list[str] | None
) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(f"#!/bin/sh\nexit {status}\n")
    sudo.chmod(0o755)
    monkeypatch.setattr(bootstrap_packages.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap_packages.administrator() == expected


def test_nothing_is_asked_for_when_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemPackage, "is_present", lambda _: True)
    monkeypatch.setattr(bootstrap_packages.sys, "base_prefix", "/opt/python")
    assert missing_packages(compiling=True, needs_venv=True) == []


def test_nothing_is_looked_for_when_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemPackage, "is_present", lambda _: False)
    assert missing_packages(compiling=False, needs_venv=False) == []


def test_a_bare_debian_python_lacks_its_headers_and_venv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap_packages.sys, "base_prefix", "/usr")
    monkeypatch.setattr(bootstrap_packages.sys, "version_info", (3, 11, 2, "final", 0))
    monkeypatch.setattr(
        bootstrap_packages.sysconfig, "get_paths", lambda: {"include": str(tmp_path)}
    )
    monkeypatch.setattr(bootstrap_packages.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(SystemPackage, "is_present", lambda _: False)
    names = [package.name for package in missing_packages(compiling=True, needs_venv=True)]
    assert names == ["python3.11-venv", "python3.11-dev", *(package.name for package in COMPILING)]


def test_a_machine_without_compiler_and_dpkg_lacks_every_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [package for package in COMPILING if package.is_present()] == []


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_library_is_seen_by_linking_it() -> None:
    assert links("cstdio", "m")
    assert not links("cstdio", "no_such_library")
    assert not links("no/such/header.hpp", "m")
