"""The codebook's report on units whose figures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.quantizer.health import chance_bits, in_words, report


def test_codes_used_alike_have_full_perplexity() -> None:
    units_FG = np.stack([np.arange(32) % 4, np.arange(32) // 8], axis=1)
    found = report(units_FG, 4)
    assert found["perplexity"] == 8.0
    assert found["pairs_in_use"] == 16
    assert [group["dead_codes"] for group in found["groups"]] == [[], []]
    assert not found["collapsed"]


def test_one_code_for_everything_is_a_collapse_said_in_words() -> None:
    found = report(np.full((50, 2), 3), 8)
    assert found["perplexity"] == 2.0
    assert found["groups"][0] == {
        "perplexity": 1.0,
        "codes_in_use": 1,
        "dead_codes": [0, 1, 2, 4, 5, 6, 7],
    }
    assert found["collapsed"]
    assert "COLLAPSED" in in_words(found)


def test_chance_is_that_of_a_model_that_knows_nothing() -> None:
    assert chance_bits(10, infonce=True) == pytest.approx(math.log2(11))
    assert chance_bits(1, infonce=False) == pytest.approx(2.0)
