"""The exported model: frames, codes, vectors, and its file form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quantizer import geometry
from stages.quantizer.model import QuantizerConfig, QuantizerModel

SMALL: dict[str, Any] = {
    "encoder_layers": [(16, 10, 5), (16, 8, 4), (16, 4, 2)],
    "aggregator_layers": [(12, 2, 1), (12, 3, 1)],
    "codes": 8,
    "input_norm": True,
    "codebook_init": "normal",
}


def model(**changes: Any) -> QuantizerModel:
    torch.manual_seed(0)
    return QuantizerModel(QuantizerConfig(**(SMALL | changes)))


def test_paper_has_a_frame_every_10_ms_that_sees_465_samples() -> None:
    paper = QuantizerConfig()
    assert (paper.hop, paper.receptive_field, paper.prediction_offset) == (160, 465, 3)
    assert paper.frames(464) == 0
    assert paper.frames(465) == 1
    assert paper.frames(160_000) == 998


@given(st.integers(1, 3000))
def test_frames_are_counted_as_the_encoder_makes_them(samples: int) -> None:
    quantizer = model()
    units_FG = quantizer.units(torch.randn(samples))
    assert units_FG.shape == (quantizer.frames(samples), 2)
    assert units_FG.dtype == torch.int64


@given(st.integers(1, 500))
def test_samples_is_the_least_that_gives_the_frames(frames: int) -> None:
    config = QuantizerConfig(**SMALL)
    samples = geometry.samples_of(config.layers, frames)
    assert (config.frames(samples), config.frames(samples - 1)) == (frames, frames - 1)


@pytest.mark.parametrize("kind", ["gumbel", "kmeans"])
@pytest.mark.parametrize("combine", [True, False])
def test_quantized_features_are_those_that_training_sees(kind: str, combine: bool) -> None:
    quantizer = model(quantizer_type=kind, combine_groups=combine)
    samples_BS = torch.randn(2, 2000)
    expected = quantizer.vector_quantizer(quantizer.features(samples_BS))["x"]
    torch.testing.assert_close(quantizer.quantized(samples_BS), expected)


def test_kmeans_takes_the_nearest_code() -> None:
    quantizer = model(quantizer_type="kmeans", combine_groups=False)
    z_BDF = quantizer.features(torch.randn(2, 2000))
    book = quantizer.vector_quantizer
    ze_BFGd = book.projected(z_BDF).transpose(1, 2).unflatten(2, (2, 8))
    distances = (ze_BFGd[..., None, :] - book.codebook()).norm(dim=-1)
    assert torch.equal(quantizer.codes(z_BDF), distances.argmin(-1))


def test_saved_model_is_the_same_model(tmp_path: Path) -> None:
    quantizer = model()
    samples_S = torch.randn(4000)
    quantizer.save_pretrained(tmp_path)
    loaded = QuantizerModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.units(samples_S), quantizer.units(samples_S))
    assert torch.equal(loaded.context(samples_S[None]), quantizer.context(samples_S[None]))


def test_a_gru_over_time_remembers_its_own_utterance_alone() -> None:
    settings = {"quantizer_type": "none", "aggregator": "gru", "gru_dim": 6}
    ours, fairseqs = model(gru_over_time=True, **settings), model(**settings)
    samples_BS = torch.randn(2, 2000)
    both = ours.context(samples_BS)
    torch.testing.assert_close(ours.context(samples_BS[1:]), both[1:])
    other = samples_BS.clone()
    other[:, :200] += 1
    assert not torch.equal(ours.context(other)[..., -1], both[..., -1])
    apart = fairseqs.context(samples_BS)[1:] - fairseqs.context(samples_BS[1:])
    assert apart.abs().max() > 0.01


def test_without_a_quantizer_there_are_no_codes_but_a_context() -> None:
    plain = model(quantizer_type="none")
    assert plain.context(torch.randn(1, 2000)).shape == (1, 12, plain.frames(2000))
    with pytest.raises(ValueError, match="no quantizer"):
        plain.units(torch.randn(2000))
