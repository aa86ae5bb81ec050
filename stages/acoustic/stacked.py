"""An acoustic encoder on the hidden vectors of a BERT, as in the vq-wav2vec paper.

There it was wav2letter's convolutions; here it is one of the encoders that features have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pipeline.recipe import BertSettings
from stages.acoustic.encoders import FeatureEncoder, UnitEncoder
from stages.acoustic.recurrent import RecurrentEncoder
from stages.units.bert import bert_config

if TYPE_CHECKING:
    from stages.acoustic.over_units import AcousticSettings


class StackedEncoder(nn.Module):
    """A convolution and a Transformer or LSTMs on a BERT, frozen or fine-tuned with them.

    Args:
        config: {"under": config of the UnitEncoder, "over": config of the FeatureEncoder, or of
            the RecurrentEncoder, which has no "bert"}.
        under: the BERT with its weights; without, one that has none.
    """

    def __init__(self, config: dict[str, Any], under: UnitEncoder | None = None) -> None:
        super().__init__()
        self.config = config
        self.under = under or UnitEncoder(config["under"])
        kind = FeatureEncoder if "bert" in config["over"] else RecurrentEncoder
        self.over: FeatureEncoder | RecurrentEncoder = kind(config["over"])
        self.dim, self.stride = self.over.dim, self.over.stride
        self.mask_channels = self.under.mask_channels
        self.longest_frames = min(self.under.longest_frames, self.over.longest_frames)

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        return self.under.pretrained_parameters()

    def forward(
        self,
        tokens_BF: Tensor,
        attended_BF: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (B, ceil(F / stride), D); masks are the BERT's."""
        hidden_BFD = self.under(tokens_BF, attended_BF, time_mask_BF, channel_mask_BD)
        states: Tensor = self.over(hidden_BFD, attended_BF)
        return states


def over_config(settings: AcousticSettings, under: UnitEncoder) -> dict[str, Any]:
    """The config of the encoder that stands on `under`, for utterances as long as it takes."""
    told = {"channels": under.dim, "stride": settings.stride}
    if settings.kind == "lstm":
        size = settings.dim
        return told | settings.model_dump(include={"layers", "dim", "dropout"}) | {"hidden": size}
    sizes = settings.model_dump(include={"layers", "dim", "ffn_dim", "heads", "dropout"})
    sizes["positions"] = under.longest_frames
    if under.attention_frames:
        told["attention_frames"] = under.attention_frames
    return told | {"bert": bert_config(BertSettings(**sizes), 1)}
