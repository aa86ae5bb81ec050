"""What both codebooks are made with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.quantizer.codebook import UtteranceNorm, input_norm
from stages.quantizer.model import QuantizerConfig, QuantizerModel


def features(frames: int = 40, dim: int = 6) -> torch.Tensor:
    return 3 + 2 * torch.randn(2, dim, frames, generator=torch.Generator().manual_seed(0))


def test_norm_over_the_utterance_is_that_of_instance_norm() -> None:
    z_BDF = features()
    torch.testing.assert_close(
        UtteranceNorm(6)(z_BDF), torch.nn.functional.instance_norm(z_BDF), rtol=1e-5, atol=1e-5
    )


def test_norm_over_the_utterance_forgets_the_microphone() -> None:
    z_BDF, norm = features(), UtteranceNorm(6)
    gains_D1, shifts_D1 = torch.tensor([1, 2, 3, 0.5, 1, 4])[:, None], torch.randn(6, 1)
    torch.testing.assert_close(
        norm(z_BDF * gains_D1 + shifts_D1), norm(z_BDF), rtol=1e-4, atol=1e-4
    )


def test_norm_over_each_frame_forgets_loudness() -> None:
    z_BDF, norm = features(), input_norm("frame", 6)
    assert norm is not None
    torch.testing.assert_close(norm(7 * z_BDF + 5), norm(z_BDF), rtol=1e-4, atol=1e-5)


def test_one_frame_alone_is_its_own_mean() -> None:
    assert not UtteranceNorm(6)(features(frames=1)).any()


def test_an_unknown_norm_is_named() -> None:
    with pytest.raises(ValueError, match="none, frame or utterance, not 'batch'"):
        input_norm("batch", 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gumbel", "kmeans"])
def test_codes_do_not_change_with_a_channel_that_is_louder(kind: str) -> None:
    layers: dict[str, Any] = {
        "encoder_layers": [(8, 10, 5), (8, 8, 4)],
        "aggregator_layers": [(8, 2, 1)],
    }
    torch.manual_seed(1)
    model = QuantizerModel(
        QuantizerConfig(
            **layers,
            quantizer_type=kind,
            codes=8,
            input_norm="utterance",
            codebook_init="normal",
            projection_init="normal",
        )
    )
    z_BDF = features(dim=8)
    louder_BDF = z_BDF * torch.linspace(0.5, 4, 8)[:, None] + torch.randn(8, 1)
    assert torch.equal(model.codes(louder_BDF), model.codes(z_BDF))
