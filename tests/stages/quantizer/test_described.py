"""What a recipe tells of its model, and what front-ends say to models that they cannot use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.quantizer_settings import QuantizerSettings
from stages.quantizer.described import described, innumerable, unfit
from stages.quantizer.model import QuantizerConfig, QuantizerModel

SMALL: dict[str, Any] = {"encoder_layers": [(8, 10, 5)], "aggregator_layers": [(8, 2, 1)]}


def exported(folder: Path, **settings: Any) -> QuantizerSettings:
    QuantizerModel(QuantizerConfig(**SMALL, **settings)).save_pretrained(folder)
    return QuantizerSettings(from_=folder)


def test_a_model_to_train_is_what_the_recipe_says() -> None:
    told = described(QuantizerSettings(type="none", aggregator="gru", infonce=False))
    assert told == {"type": "none", "aggregator": "gru", "infonce": False}


@pytest.mark.parametrize(
    ("settings", "kind", "aggregator"),
    [
        ({}, "gumbel", "cnn"),  # the config's defaults, which its file leaves out
        ({"quantizer_type": "kmeans"}, "kmeans", "cnn"),
        ({"quantizer_type": "none"}, "none", "cnn"),
        (
            {"quantizer_type": "none", "aggregator": "gru", "gru_dim": 8, "gru_over_time": True},
            "none",
            "gru",
        ),
        (
            {"quantizer_type": "none", "aggregator": "gru", "gru_dim": 8},
            "none",
            "gru over the batch (fairseq's)",
        ),
    ],
)
def test_a_model_to_take_over_is_what_its_file_says(
    tmp_path: Path, settings: dict[str, Any], kind: str, aggregator: str
) -> None:
    told = described(exported(tmp_path, **settings))
    assert told == {"type": kind, "aggregator": aggregator}


def test_of_a_folder_without_a_model_nothing_is_known(tmp_path: Path) -> None:
    assert described(QuantizerSettings(from_=tmp_path)) == {}
    (tmp_path / "config.json").write_text(json.dumps([1]))
    assert described(QuantizerSettings(from_=tmp_path)) == {}
    assert unfit("cpc", QuantizerSettings(from_=tmp_path), {"type": ("none",)}) is None


def test_all_that_is_wrong_stands_in_one_line(tmp_path: Path) -> None:
    wanted = {"type": ("none",), "aggregator": ("gru",), "infonce": (True,)}
    told = unfit("cpc", QuantizerSettings(type="gumbel", infonce=False), wanted)
    assert told == (
        "front-end cpc needs quantizer type none, aggregator gru, infonce true; "
        "the quantizer has type gumbel, aggregator cnn, infonce false"
    )
    told = unfit("cpc", exported(tmp_path, quantizer_type="none"), wanted)
    assert told == (
        "front-end cpc needs quantizer aggregator gru; "
        f"quantizer.from, {tmp_path}, has aggregator cnn"
    )
    fits = QuantizerSettings(type="none", aggregator="gru")
    assert unfit("cpc", fits, wanted) is None


def test_combinations_that_int64_cannot_number_are_told(tmp_path: Path) -> None:
    most, more = (QuantizerSettings(groups=8, codes=codes) for codes in (234, 235))
    assert innumerable("units", most) is None
    told = innumerable("units", more)
    assert told == (
        "front-end units needs at most 2 ** 63 combinations of codes, which are numbered in "
        "int64; there are 235 codes in each of 8 groups: set fewer groups or codes"
    )
    assert innumerable("kmeans_mfcc", more, groups=2) is None
    assert innumerable("kmeans_mfcc", most, codes=235) is not None


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"groups": 8, "codes": 320}, True),
        ({"groups": 10**9, "codes": 10**9}, True),
        ({"groups": 2, "codes": 320}, False),
        ({"groups": "8", "codes": 320}, False),  # stage 1 says what is wrong with it
        ({}, False),
        ([1], False),
    ],
)
def test_of_a_model_to_take_over_its_file_tells_how_many(
    tmp_path: Path, config: Any, refused: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = innumerable("units", QuantizerSettings(from_=tmp_path))
    assert (told is not None) is refused
