"""Which runs may be joined as those of one system, and what the refusal of others says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.joined_runs import join
from stages.acoustic.results import Results
from tests.stages.acoustic.made_results import made

TOLD = {"corpus": "digits", "parameters": 1_499_915, "updates": 600}
SETTINGS = {"prepare": "0a", "quantizer": "0b", "finetune": "0c"}


def joined(first: dict[str, Any], second: dict[str, Any]) -> Results:
    runs = {"a": first, "b": second}
    return join({name: made(name, (None, 1, [2, 4]), **TOLD | told) for name, told in runs.items()})


def refusal(first: dict[str, Any], second: dict[str, Any]) -> UserError:
    with pytest.raises(UserError, match="not runs of one system") as raised:
        joined(first, second)
    return raised.value


def test_runs_alike_are_seeds_of_the_first() -> None:
    rows = joined({}, {}).rows
    assert [(row["recipe"], row["seed"]) for row in rows] == [("a", "a:1"), ("a", "b:1")]


def test_confusions_of_runs_stay_with_their_rows() -> None:
    pairs = {"substitutions": [["two", "ten", 3]]}
    runs = {name: made(name, (None, 1, [2, 4]), **TOLD) for name in ("a", "b")}
    [key] = runs["b"].counts or {}
    runs["b"] = replace(runs["b"], confusions={key: pairs})
    joined = join(runs)
    assert joined.confusions == {key._replace(seed="b:1"): pairs}
    assert "counted among those that are the most frequent of each run" in joined.remarks[-1]


@pytest.mark.parametrize(
    ("changes", "constraint", "found"),
    [
        (
            {"parameters": 2_160_399},
            "the same parameters with budget 1min",
            "1499915 in a, 2160399 in b",
        ),
        ({"updates": 800}, "the same updates with budget 1min", "600 in a, 800 in b"),
        ({"corpus": "tsv"}, "one kind of corpus", "digits, tsv"),
        # No budget in common: updates may differ with it, a model's size does not.
        ({"budget": "all", "updates": 900, "parameters": 7}, "the same parameters", "1499915 in a"),
    ],
)
def test_runs_of_which_a_fact_differs_are_refused_and_it_is_named(
    changes: dict[str, Any], constraint: str, found: str
) -> None:
    error = refusal({}, changes)
    assert error.constraint == constraint
    assert str(error.found).startswith(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": "all", "updates": 900},
        {"parameters": None, "updates": None, "corpus": ""},  # not known
    ],
)
def test_what_is_of_another_budget_or_not_known_is_no_difference(changes: dict[str, Any]) -> None:
    assert len(joined({}, changes).rows) == 2


def test_settings_decide_where_both_runs_tell_them() -> None:
    told = {"settings": SETTINGS}
    # Another seed of the quantizer may have observed more units: a larger vocabulary.
    assert len(joined(told, told | {"parameters": 1_600_000}).rows) == 2
    other = {"settings": SETTINGS | {"quantizer": "1b", "bert": "1d"}}
    error = refusal(told, other)
    assert error.constraint == (
        "the same settings of stages quantizer, bert with budget 1min, seeds apart"
    )
    assert error.found == "others in a than in b"
    assert "parameters" in str(refusal(told, other | {"parameters": 1}).constraint)


def test_one_run_that_tells_settings_falls_back_to_what_both_tell() -> None:
    told = {"settings": SETTINGS}
    assert len(joined(told, {"settings": None}).rows) == 2
    assert "updates" in str(refusal(told, {"updates": 1}).constraint)


def test_each_two_of_three_runs_are_compared() -> None:
    """The first tells nothing that the others could differ from."""
    runs = {
        name: made(name, (None, 1, [2]), settings=settings)
        for name, settings in (
            ("a", None),
            ("b", SETTINGS),
            ("c", SETTINGS | {"finetune": "2c"}),
        )
    }
    with pytest.raises(UserError) as raised:
        join(runs)
    assert raised.value.found == "others in b than in c"
