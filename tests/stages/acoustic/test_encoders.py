"""Encoders: padding changes nothing, masks hide, sizes are as told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.recipe import BertSettings
from stages.acoustic.encoders import FeatureEncoder, UnitEncoder, attended
from stages.units.bert import bert_config
from stages.units.vocabulary import MASK

VOCABULARY, CHANNELS, DIM = 28, 12, 16
BERT = bert_config(
    BertSettings(layers=2, dim=DIM, ffn_dim=32, heads=2, positions=64, dropout=0.1), VOCABULARY
)
NEAR = 3  # frames that those called near see on either side in each of two layers
KINDS = ["units", "features stride 1", "features stride 2", "features stride 3"]
KINDS += [f"near {kind}" for kind in KINDS]


def encoder(kind: str) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    near = {"attention_frames": NEAR} if kind.startswith("near") else {}
    if kind.endswith("units"):
        made: Any = UnitEncoder({"bert": BERT} | near)
    else:
        sizes = {"channels": CHANNELS, "stride": int(kind[-1])}
        made = FeatureEncoder(sizes | {"bert": BERT} | near)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def speech(kind: str, frames: int) -> Tensor:
    draw = torch.Generator().manual_seed(frames)
    if kind.endswith("units"):
        return torch.randint(3, VOCABULARY, (1, frames), generator=draw)
    return torch.randn(1, frames, CHANNELS, generator=draw)


def padded(feats: Tensor, frames: int, value: int) -> Tensor:
    more = torch.full((1, frames - feats.shape[1], *feats.shape[2:]), value, dtype=feats.dtype)
    return torch.cat([feats, more], dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 7, 16, 31])
def test_padding_changes_no_frame(kind: str, frames: int) -> None:
    model, alone = encoder(kind), speech(kind, frames)
    together = torch.cat([padded(alone, 40, 9), speech(kind, 40)])
    with torch.inference_mode():
        expected = model(alone, attended(torch.tensor([frames]), frames))
        found = model(together, attended(torch.tensor([frames, 40]), 40))
    kept = -(-frames // model.stride)
    assert expected.shape == (1, kept, DIM)
    assert found.shape == (2, -(-40 // model.stride), DIM)
    torch.testing.assert_close(found[:1, :kept], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_in_time_cannot_be_seen(kind: str) -> None:
    model, one = encoder(kind), speech(kind, 20)
    other = one.clone()
    other[:, 5:9] = 4
    attended_BF = attended(torch.tensor([20]), 20)
    mask_BF = torch.zeros(1, 20, dtype=torch.bool)
    mask_BF[:, 5:9] = True
    with torch.inference_mode():
        assert not torch.equal(model(one, attended_BF), model(other, attended_BF))
        masked = [model(x, attended_BF, mask_BF) for x in (one, other)]
    torch.testing.assert_close(masked[0], masked[1], atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["near units", "near features stride 1"])
def test_near_frames_are_seen_in_each_layer_and_no_others(kind: str) -> None:
    model, one = encoder(kind), speech(kind, 40)
    other = one.clone()
    other[:, 20] = 4 if one[0, 20].flatten()[0] != 4 else 5
    attended_BF = attended(torch.tensor([40]), 40)
    with torch.inference_mode():
        changed = (model(one, attended_BF) != model(other, attended_BF)).any(-1)[0]
    heard = 2 * NEAR + (FeatureEncoder.CONTEXT_FRAMES // 2 if "features" in kind else 0)
    assert changed.nonzero().flatten().tolist() == list(range(20 - heard, 21 + heard))


@pytest.mark.parametrize("kind", ["near units", "near features stride 2"])
def test_where_all_frames_are_near_the_encoder_is_the_one_that_sees_all(kind: str) -> None:
    near, everywhere, feats = encoder(kind), encoder(kind.removeprefix("near ")), speech(kind, 30)
    near.attention_frames = 30
    attended_BF = attended(torch.tensor([30]), 30)
    with torch.inference_mode():
        found, expected = near(feats, attended_BF), everywhere(feats, attended_BF)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_masked_units_are_the_mask_token_of_pretraining() -> None:
    model, one = encoder("units"), speech("units", 20)
    attended_BF = attended(torch.tensor([20]), 20)
    mask_BF = torch.zeros(1, 20, dtype=torch.bool)
    mask_BF[:, 5:9] = True
    by_hand = one.clone()
    by_hand[:, 5:9] = MASK
    with torch.inference_mode():
        assert torch.equal(model(one, attended_BF, mask_BF), model(by_hand, attended_BF))


def test_masked_channels_cannot_be_seen() -> None:
    model, one = encoder("features stride 2"), speech("features stride 2", 20)
    other = one.clone()
    other[:, :, 3:6] = 4
    attended_BF = attended(torch.tensor([20]), 20)
    mask_BD = torch.zeros(1, model.mask_channels, dtype=torch.bool)
    mask_BD[:, 3:6] = True
    with torch.inference_mode():
        masked = [model(x, attended_BF, None, mask_BD) for x in (one, other)]
    assert torch.equal(*masked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_mask_fits_the_channels_told(kind: str) -> None:
    model, one = encoder(kind), speech(kind, 20)
    attended_BF = attended(torch.tensor([20]), 20)
    nothing, some = (
        torch.arange(model.mask_channels)[None] < count for count in (0, model.mask_channels // 2)
    )
    with torch.inference_mode():
        plain = model(one, attended_BF)
        assert torch.equal(model(one, attended_BF, None, nothing), plain)
        assert not torch.equal(model(one, attended_BF, None, some), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_made_from_its_config_is_not_pretrained(kind: str) -> None:
    assert not list(encoder(kind).pretrained_parameters())


def test_attended_frames_are_those_before_the_length() -> None:
    assert attended(torch.tensor([0, 2, 3]), 3).int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]
