"""Bidirectional LSTMs: those of torch on packed sequences; padding, masks, parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stages.acoustic.encoders import attended
from stages.acoustic.recurrent import BothWays, RecurrentEncoder, _backwards, hidden_for

CHANNELS, DIM = 12, 10


def encoder(stride: int = 2, layers: int = 2, hidden: int = 14) -> RecurrentEncoder:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = {"channels": CHANNELS, "stride": stride, "layers": layers, "hidden": hidden}
    return RecurrentEncoder(config | {"dim": DIM, "dropout": 0.3}).eval()


def speech(frames: int) -> Tensor:
    return torch.randn(1, frames, CHANNELS, generator=torch.Generator().manual_seed(frames))


def test_a_layer_is_torchs_bidirectional_lstm_on_packed_sequences() -> None:
    torch.manual_seed(0)
    layer, theirs = BothWays(6), nn.LSTM(6, 6, bidirectional=True, batch_first=True)
    for name, parameter in layer.onward.named_parameters():
        getattr(theirs, name).data.copy_(parameter.data)
    for name, parameter in layer.back.named_parameters():
        getattr(theirs, f"{name}_reverse").data.copy_(parameter.data)
    lengths_B, x_BFD = torch.tensor([5, 1, 9, 8]), torch.randn(4, 9, 6)
    packed = pack_padded_sequence(x_BFD, lengths_B, batch_first=True, enforce_sorted=False)
    both_BFD, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    expected = layer.norm(both_BFD[..., :6] + both_BFD[..., 6:])
    found = layer(x_BFD, _backwards(lengths_B, 9))
    there_BF = attended(lengths_B, 9)
    torch.testing.assert_close(found[there_BF], expected[there_BF], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 7, 16, 31])
def test_padding_changes_no_frame(stride: int, frames: int) -> None:
    model, alone = encoder(stride), speech(frames)
    noise = torch.full((1, 40 - frames, CHANNELS), 9.0)
    together = torch.cat([torch.cat([alone, noise], dim=1), speech(40)])
    with torch.inference_mode():
        expected = model(alone, attended(torch.tensor([frames]), frames))
        found = model(together, attended(torch.tensor([frames, 40]), 40))
    kept = -(-frames // stride)
    assert expected.shape == (1, kept, DIM)
    assert found.shape == (2, -(-40 // stride), DIM)
    torch.testing.assert_close(found[:1, :kept], expected, atol=1e-5, rtol=0)


def test_every_frame_hears_the_first_and_the_last() -> None:
    model, one = encoder(), speech(30)
    everything = attended(torch.tensor([30]), 30)
    with torch.inference_mode():
        plain = model(one, everything)
        for place in (0, 29):
            other = one.clone()
            other[:, place] += 3
            changed = (model(other, everything) - plain).abs().amax(-1)[0]
            assert (changed > 0).all(), place


def test_what_is_masked_cannot_be_seen() -> None:
    model, one = encoder(), speech(20)
    time_BF, channel_BD = torch.zeros(1, 20).bool(), torch.zeros(1, CHANNELS).bool()
    time_BF[:, 5:9], channel_BD[:, 3:6] = True, True
    everything = attended(torch.tensor([20]), 20)
    for place, masks in (
        ((slice(None), slice(5, 9)), (time_BF, None)),
        ((slice(None), slice(None), slice(3, 6)), (None, channel_BD)),
    ):
        other = one.clone()
        other[place] = 4
        with torch.inference_mode():
            assert not torch.equal(model(one, everything), model(other, everything))
            assert torch.equal(model(one, everything, *masks), model(other, everything, *masks))


def test_recurrences_are_in_fp32_where_the_rest_is_in_bf16() -> None:
    model, everything = encoder(), attended(torch.tensor([20]), 20)
    seen: list[tuple[torch.dtype, bool]] = []

    def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append((given[0].dtype, torch.is_autocast_enabled("cpu")))

    for layer in model.layers:
        for lstm in (layer.onward, layer.back):
            lstm.register_forward_pre_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(speech(20), everything)
    assert seen == [(torch.float32, False)] * 4
    assert rounded.dtype == torch.bfloat16
    rounded.sum().backward()
    assert model.layers[0].onward.weight_hh_l0.grad is not None
    torch.testing.assert_close(rounded.float(), model(speech(20), everything), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("parameters", [500, 9_000, 400_000])
def test_no_other_size_comes_closer_to_a_number_of_parameters(layers: int, parameters: int) -> None:
    def distance(hidden: int) -> int:
        made = encoder(layers=layers, hidden=hidden)
        return abs(sum(p.numel() for p in made.parameters()) - parameters)

    found = hidden_for(parameters, channels=CHANNELS, layers=layers, dim=DIM)
    assert found >= 1
    assert distance(found) <= distance(found + 1)
    assert found == 1 or distance(found) <= distance(found - 1)
