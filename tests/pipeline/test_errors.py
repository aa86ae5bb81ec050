from __future__ import annotations

import pytest

from pipeline.errors import RunError, UserError, VqasrError, nearest


def test_a_message_has_a_line_for_each_part_that_is_there() -> None:
    error = UserError("It is wrong.", constraint="1 to 3", found="4", remedy="lower it")
    assert str(error) == "It is wrong.\n  must: 1 to 3\n  found: 4\n  remedy: lower it"
    assert str(RunError("It failed.", remedy="again")) == "It failed.\n  remedy: again"


@pytest.mark.parametrize(("kind", "status"), [(VqasrError, 1), (RunError, 1), (UserError, 2)])
def test_what_the_user_gave_ends_with_2_and_a_failed_run_with_1(
    kind: type[VqasrError], status: int
) -> None:
    assert kind("x").exit_status == status


def test_a_typo_finds_the_name_meant() -> None:
    assert (
        nearest("updats", ["seeds", "updates"]) == "did you mean updates? There are: seeds, updates"
    )
    assert nearest("zzz", ["seeds", "updates"]) == "there are: seeds, updates"
