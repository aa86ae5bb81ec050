"""The codebook's report on units whose figures are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunError
from stages.quantizer.health import (
    chance_bits,
    collapsed_below,
    in_words,
    refuse_collapsed,
    report,
)


def test_codes_used_alike_have_full_perplexity() -> None:
    units_FG = np.stack([np.arange(32) % 4, np.arange(32) // 8], axis=1)
    found = report(units_FG, 4)
    assert found["perplexity"] == 8.0
    assert found["pairs_in_use"] == 16
    assert [group["dead_codes"] for group in found["groups"]] == [[], []]
    assert not found["collapsed"]


@pytest.mark.case(28)
def test_one_code_for_everything_is_a_collapse_said_in_words() -> None:
    found = report(np.full((50, 2), 3), 8)
    assert found["perplexity"] == 2.0
    assert found["groups"][0] == {
        "perplexity": 1.0,
        "codes_in_use": 1,
        "dead_codes": [0, 1, 2, 4, 5, 6, 7],
    }
    assert found["collapsed"] and found["collapsed_groups"] == [0, 1]
    assert "COLLAPSED" in in_words(found)


def test_a_healthy_group_does_not_hide_one_that_collapsed() -> None:
    found = report(np.stack([np.arange(64) % 8, np.zeros(64, int)], axis=1), 8)
    assert found["collapsed_groups"] == [1]
    assert found["collapsed"]


@pytest.mark.parametrize(("codes", "floor"), [(2, 1.5), (30, 1.5), (64, 3.2), (320, 8.0)])
def test_the_threshold_grows_with_the_codes_within_bounds(codes: int, floor: float) -> None:
    assert collapsed_below(codes) == pytest.approx(floor)


@pytest.mark.case(28)
def test_a_collapsed_quantizer_is_refused_with_its_figures(tmp_path: Path) -> None:
    (tmp_path / "codebook.json").write_text(json.dumps(report(np.full((50, 2), 3), 8)))
    with pytest.raises(RunError, match=r"(?s)collapsed.*1 of 8, 1 of 8 codes.*on_collapse"):
        refuse_collapsed(tmp_path)


def test_healthy_and_unreported_quantizers_are_let_through(tmp_path: Path) -> None:
    refuse_collapsed(tmp_path)
    healthy = report(np.stack([np.arange(32) % 4, np.arange(32) // 8], axis=1), 4)
    (tmp_path / "codebook.json").write_text(json.dumps(healthy))
    refuse_collapsed(tmp_path)
    (tmp_path / "codebook.json").write_text(json.dumps({"quantizer": "none"}))
    refuse_collapsed(tmp_path)


def test_chance_is_that_of_a_model_that_knows_nothing() -> None:
    assert chance_bits(10, infonce=True) == pytest.approx(math.log2(11))
    assert chance_bits(1, infonce=False) == pytest.approx(2.0)
