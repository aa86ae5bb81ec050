"""The section `bert`: sizes of the papers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.recipe import BertSettings
from stages.units.bert import bert_config

SIZES = ("layers", "dim", "ffn_dim", "heads", "dropout")


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"preset": "small"}, (12, 512, 2048, 8, 0.05)),
        ({"preset": "base"}, (12, 768, 3072, 12, 0.1)),
        ({"preset": "base", "layers": 6, "dropout": 0.0}, (6, 768, 3072, 12, 0.0)),
        ({"preset": None}, (4, 192, 768, 4, 0.1)),
    ],
)
def test_a_preset_gives_the_sizes_that_are_not_given(
    given: dict[str, Any], sizes: tuple[float, ...]
) -> None:
    settings = BertSettings(**given)
    assert tuple(getattr(settings, name) for name in SIZES) == sizes
    assert settings.positions >= 2048


def test_a_preset_is_signed_as_the_sizes_that_it_stands_for() -> None:
    base = {"layers": 12, "dim": 768, "ffn_dim": 3072, "heads": 12, "dropout": 0.1}
    assert BertSettings(preset="base").signed() == BertSettings(**base).signed()


@pytest.mark.parametrize(
    "given", [{"preset": "large"}, {"preset": "base", "heads": 7}, {"preset": 3}]
)
def test_what_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"preset|multiple of heads"):
        BertSettings(**given)


def test_attention_drops_out_as_the_rest_unless_the_recipe_says_otherwise() -> None:
    def of_attention(**given: float) -> float:
        made = bert_config(BertSettings(dropout=0.2, **given), vocabulary_size=9)
        assert made["hidden_dropout_prob"] == 0.2
        return float(made["attention_probs_dropout_prob"])

    assert of_attention() == 0.2
    assert of_attention(attention_dropout=0.0) == 0.0
    assert "attention_dropout" not in BertSettings().signed()
    assert BertSettings(attention_dropout=0.0).signed()["attention_dropout"] == 0.0


def test_more_memory_or_less_leaves_the_signature_as_it_was() -> None:
    plain = BertSettings().signed()
    assert not {"accumulate", "checkpoint_activations"} & plain.keys()
    assert BertSettings(checkpoint_activations=True).signed() == plain
    assert BertSettings(accumulate=4).signed() == plain | {"accumulate": 4}
    assert BertSettings(clip_norm=1.0).signed() == plain
    assert BertSettings(clip_norm=0).signed() == plain | {"clip_norm": 0.0}
    with pytest.raises(ValidationError, match="accumulate"):
        BertSettings(accumulate=0)
