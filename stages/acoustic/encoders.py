"""Encoders under the CTC layer: features or tokens in, one hidden vector a frame out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from stages.units.vocabulary import MASK


class UnitEncoder(nn.Module):
    """A BERT on unit tokens, pretrained or not.

    Args:
        config: {"bert": arguments of BertConfig}.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.is_pretrained = False
        self.bert = BertModel(BertConfig(**config["bert"]), add_pooling_layer=False)
        self.dim = int(config["bert"]["hidden_size"])
        self.mask_channels, self.stride = self.dim, 1
        self.longest_frames = int(config["bert"]["max_position_embeddings"])

    @classmethod
    def pretrained(cls, folder: Path) -> UnitEncoder:
        """The BERT of stage 3, without its output layer."""
        bert = BertModel.from_pretrained(folder, add_pooling_layer=False)
        config = bert.config.to_dict()
        config.pop("_name_or_path", None)  # a folder of this machine is no part of the model
        encoder = cls({"bert": config})
        encoder.bert.load_state_dict(bert.state_dict())
        encoder.is_pretrained = True
        return encoder

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        return self.bert.parameters() if self.is_pretrained else ()

    def forward(
        self,
        tokens_BF: Tensor,
        attended_BF: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (B, F, D). Masked frames are [MASK], as in pretraining."""
        if time_mask_BF is not None:
            tokens_BF = tokens_BF.masked_fill(time_mask_BF, MASK)
        embedded_BFD = self.bert.embeddings.word_embeddings(tokens_BF)
        if channel_mask_BD is not None:
            embedded_BFD = embedded_BFD.masked_fill(channel_mask_BD[:, None], 0.0)
        states: Tensor = self.bert(
            inputs_embeds=embedded_BFD, attention_mask=attended_BF.long()
        ).last_hidden_state
        return states


class FeatureEncoder(nn.Module):
    """A convolution over neighbouring frames and a Transformer, on real-valued features.

    Args:
        config: {"channels": D of the features, "stride": frames that become one,
            "bert": arguments of BertConfig}.
    """

    CONTEXT_FRAMES = 7

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.dim = int(config["bert"]["hidden_size"])
        self.mask_channels, self.stride = int(config["channels"]), int(config["stride"])
        self.longest_frames = self.stride * int(config["bert"]["max_position_embeddings"])
        self.project = nn.Conv1d(
            self.mask_channels,
            self.dim,
            self.CONTEXT_FRAMES,
            self.stride,
            padding=self.CONTEXT_FRAMES // 2,
        )
        self.norm = nn.LayerNorm(self.dim)
        self.bert = BertModel(BertConfig(**config["bert"]), add_pooling_layer=False)

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def forward(
        self,
        feats_BFD: Tensor,
        attended_BF: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (B, ceil(F / stride), D). Masked frames and channels are 0, the mean."""
        if time_mask_BF is not None:
            feats_BFD = feats_BFD.masked_fill(time_mask_BF[..., None], 0.0)
        if channel_mask_BD is not None:
            feats_BFD = feats_BFD.masked_fill(channel_mask_BD[:, None], 0.0)
        feats_BFD = feats_BFD.masked_fill(~attended_BF[..., None], 0.0)
        projected_BFD = self.norm(self.project(feats_BFD.mT).mT)
        states: Tensor = self.bert(
            inputs_embeds=nn.functional.gelu(projected_BFD),
            attention_mask=attended_BF[:, :: self.stride].long(),
        ).last_hidden_state
        return states


def attended(lengths_B: Tensor, frames: int) -> Tensor:
    """(B, F) booleans: which frames are speech and not padding."""
    return torch.arange(frames, device=lengths_B.device)[None] < lengths_B[:, None]
