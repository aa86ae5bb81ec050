"""Windows over long utterances: every frame once, from where it has context on both sides."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe import BertSettings
from stages.acoustic.encoders import UnitEncoder
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.acoustic.windows import log_probs, windows
from stages.units.bert import bert_config


@given(st.integers(1, 3000), st.integers(40, 300), st.integers(1, 5))
def test_every_frame_is_kept_once_and_far_from_edges(frames: int, longest: int, step: int) -> None:
    made = windows(frames, longest, step)
    assert made[0].first == made[0].start == 0
    assert made[-1].last == made[-1].stop == frames
    for one, other in itertools.pairwise(made):
        assert one.last == other.first
        # An eighth of the window, less what rounding to steps takes.
        least = longest // 8 - 2 * step
        assert one.stop - one.last >= least and other.first - other.start >= least
    for window in made:
        assert window.start % step == window.first % step == 0
        assert window.start <= window.first < window.last <= window.stop
        assert window.stop - window.start <= longest
    assert len(made) <= 1 + 2 * frames // longest


def test_windows_without_an_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="too short to overlap"):
        windows(100, 14, 2)


def model(subsample: int, positions: int = 64) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=positions)
    encoder = UnitEncoder({"bert": bert_config(sizes, 28)})
    config = AcousticConfig({"name": "unit_bert"}, encoder.config, 9, subsample)
    return AcousticModel(config, encoder).eval()


@pytest.mark.parametrize("subsample", [1, 2, 3])
@pytest.mark.parametrize("frames", [64, 65, 100, 257])
def test_a_long_utterance_has_all_its_frames_each_from_its_window(
    subsample: int, frames: int
) -> None:
    made = model(subsample)
    tokens_F = np.random.RandomState(frames).randint(3, 28, frames)
    found_TV = log_probs(made, tokens_F, "cpu")
    assert found_TV.shape == (-(-frames // subsample), 9)
    for window in windows(frames, 64, subsample):
        piece = torch.from_numpy(tokens_F[window.start : window.stop])[None]
        with torch.inference_mode():
            alone_TV = made(piece, torch.tensor([piece.shape[1]]))[0].numpy()
        first, start = window.first // subsample, window.start // subsample
        stop = -(-window.last // subsample)
        np.testing.assert_array_equal(found_TV[first:stop], alone_TV[first - start : stop - start])


def test_one_window_is_the_model_itself() -> None:
    made, tokens_F = model(2), np.random.RandomState(0).randint(3, 28, 50)
    with torch.inference_mode():
        whole_TV = made(torch.from_numpy(tokens_F)[None], torch.tensor([50]))[0].numpy()
    np.testing.assert_array_equal(log_probs(made, tokens_F, "cpu"), whole_TV)
