"""The table of cases at the end of the output (cases.py), and a run that nothing disturbed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import cases, interpose, small
from tests.faults.interpose import Call
from tests.faults.whole import Whole


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties += [(cases.PROPERTY, number) for number in cases.numbers_of(item)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = cases.outcomes(terminalreporter.stats)
    if any(counts.total() for counts in found.values()):
        terminalreporter.section("cases of faults and bad input")
        for line in cases.table(found):
            terminalreporter.write_line(line)


@dataclass(frozen=True)
class Undisturbed:
    """A recipe that ran to its end, and all that it did to files of `exp`."""

    whole: Whole
    calls: Sequence[Call]


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    small.write_corpus(folder / "corpus")
    return small.write_recipe(folder, folder / "corpus")


@pytest.fixture(scope="session")
def undisturbed(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    if interpose.library() is None:
        pytest.skip("there is no C compiler (Debian: apt-get install gcc)")
    whole = Whole(tmp_path_factory.mktemp("undisturbed"), small_recipe)
    ended = whole.run(logged=True)
    assert ended.code == 0, ended.said
    return Undisturbed(whole, whole.calls())


@pytest.fixture
def copied(undisturbed: Undisturbed, tmp_path: Path) -> Callable[..., Whole]:
    """`copied("bert")`: the finished folder in a copy, without the artifacts of these stages."""

    def make(*without: str) -> Whole:
        whole = Whole(tmp_path / "copied", undisturbed.whole.recipe)
        whole.take_over(undisturbed.whole)
        for stage in without:
            whole.remove(stage)
        return whole

    return make
