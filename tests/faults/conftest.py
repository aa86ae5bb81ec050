"""The table of cases at the end of the output; see cases.py."""

from __future__ import annotations

import pytest

from tests.faults import cases


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties += [(cases.PROPERTY, number) for number in cases.numbers_of(item)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = cases.outcomes(terminalreporter.stats)
    if any(counts.total() for counts in found.values()):
        terminalreporter.section("cases of faults and bad input")
        for line in cases.table(found):
            terminalreporter.write_line(line)
