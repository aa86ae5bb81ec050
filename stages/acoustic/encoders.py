"""Encoders under the CTC layer: features or tokens in, one hidden vector a frame out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from stages.units.vocabulary import MASK


class UnitEncoder(nn.Module):
    """A BERT on unit tokens, pretrained or not.

    Args:
        config: {"bert": arguments of BertConfig, "frozen": the BERT never trains,
            "layer_weights": the mean of all layers with learnt weights, as in ELMo,
            "attention_frames": that a frame sees on either side}; the last three may be absent
            for False, and for all frames.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.is_pretrained = False
        self.frozen = bool(config.get("frozen"))
        self.attention_frames = int(config.get("attention_frames", 0))
        self.bert = BertModel(BertConfig(**config["bert"]), add_pooling_layer=False)
        self.bert.requires_grad_(not self.frozen)
        self.layer_logits: nn.Parameter | None = None
        if config.get("layer_weights"):  # of the embeddings and each layer; alike at first
            self.layer_logits = nn.Parameter(torch.zeros(1 + config["bert"]["num_hidden_layers"]))
        self.dim = int(config["bert"]["hidden_size"])
        self.mask_channels, self.stride = self.dim, 1
        self.longest_frames = int(config["bert"]["max_position_embeddings"])

    @classmethod
    def pretrained(cls, folder: Path, ways: Mapping[str, Any] | None = None) -> UnitEncoder:
        """The BERT of stage 3, without its output layer; `ways` are of its config."""
        bert = BertModel.from_pretrained(folder, add_pooling_layer=False)
        config = bert.config.to_dict()
        config.pop("_name_or_path", None)  # a folder of this machine is no part of the model
        encoder = cls({"bert": config, **(ways or {})})
        encoder.bert.load_state_dict(bert.state_dict())
        encoder.is_pretrained = True
        return encoder

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        """What may rest at first: of a frozen BERT nothing, since it always does."""
        return self.bert.parameters() if self.is_pretrained and not self.frozen else ()

    def train(self, mode: bool = True) -> UnitEncoder:
        """A frozen BERT has no dropout: its vectors of an utterance are always the same."""
        super().train(mode)
        if self.frozen:
            self.bert.eval()
        return self

    def forward(
        self,
        tokens_BF: Tensor,
        attended_BF: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (B, F, D). Masked frames are [MASK], as in pretraining.

        The vectors of a frozen BERT are features: of them masked frames and channels are 0. They
        are computed in fp32 also where training is in bf16: dev and test have the same.
        """
        if self.frozen:
            with torch.no_grad(), torch.autocast(tokens_BF.device.type, enabled=False):
                states = self._states(tokens_BF, attended_BF)
            return masked(self._mixed(states), time_mask_BF, channel_mask_BD)
        if time_mask_BF is not None:
            tokens_BF = tokens_BF.masked_fill(time_mask_BF, MASK)
        return self._mixed(self._states(tokens_BF, attended_BF, channel_mask_BD))

    def _states(
        self, tokens_BF: Tensor, attended_BF: Tensor, channel_mask_BD: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """What the layers give, the embeddings' first where all are wanted, or the last alone."""
        embedded_BFD = self.bert.embeddings.word_embeddings(tokens_BF)
        embedded_BFD = masked(embedded_BFD, None, channel_mask_BD)
        output = self.bert(
            inputs_embeds=embedded_BFD,
            attention_mask=may_attend(attended_BF, self.attention_frames),
            output_hidden_states=self.layer_logits is not None,
        )
        states: tuple[Tensor, ...] = output.hidden_states or (output.last_hidden_state,)
        return states

    def _mixed(self, states: tuple[Tensor, ...]) -> Tensor:
        if self.layer_logits is None:
            return states[-1]
        weights = self.layer_logits.softmax(0)
        return torch.stack([w * s for w, s in zip(weights, states, strict=True)]).sum(0)


class FeatureEncoder(nn.Module):
    """A convolution over neighbouring frames and a Transformer, on real-valued features.

    Args:
        config: {"channels": D of the features, "stride": frames that become one,
            "bert": arguments of BertConfig, "attention_frames": that a frame sees on either
            side, after the stride; absent for all}.
    """

    CONTEXT_FRAMES = 7

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.dim = int(config["bert"]["hidden_size"])
        self.mask_channels, self.stride = int(config["channels"]), int(config["stride"])
        self.longest_frames = self.stride * int(config["bert"]["max_position_embeddings"])
        self.attention_frames = int(config.get("attention_frames", 0))
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
        feats_BFD = masked(feats_BFD, time_mask_BF, channel_mask_BD)
        feats_BFD = feats_BFD.masked_fill(~attended_BF[..., None], 0.0)
        projected_BFD = self.norm(self.project(feats_BFD.mT).mT)
        states: Tensor = self.bert(
            inputs_embeds=nn.functional.gelu(projected_BFD),
            attention_mask=may_attend(attended_BF[:, :: self.stride], self.attention_frames),
        ).last_hidden_state
        return states


def masked(
    feats_BFD: Tensor, time_mask_BF: Tensor | None, channel_mask_BD: Tensor | None
) -> Tensor:
    """Masked frames and channels are 0."""
    if time_mask_BF is not None:
        feats_BFD = feats_BFD.masked_fill(time_mask_BF[..., None], 0.0)
    if channel_mask_BD is not None:
        feats_BFD = feats_BFD.masked_fill(channel_mask_BD[:, None], 0.0)
    return feats_BFD


def may_attend(attended_BF: Tensor, frames: int) -> Tensor:
    """Which frames each frame sees: all of its utterance, or those so near on either side.

    Padding sees itself, so that no row of the attention is empty.
    """
    if not frames:
        return attended_BF.long()
    place_F = torch.arange(attended_BF.shape[1], device=attended_BF.device)
    apart_FF = (place_F[:, None] - place_F).abs()
    near_BFF = (apart_FF <= frames) & attended_BF[:, None]
    return (near_BFF | (apart_FF == 0))[:, None]


def attended(lengths_B: Tensor, frames: int) -> Tensor:
    """(B, F) booleans: which frames are speech and not padding."""
    return torch.arange(frames, device=lengths_B.device)[None] < lengths_B[:, None]
