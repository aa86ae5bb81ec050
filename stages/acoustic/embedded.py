"""Bidirectional LSTMs on the vectors of unit tokens: no attention, nothing pretrained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.recipe import BertSettings
from stages.acoustic import on_features
from stages.acoustic.encoders import masked
from stages.acoustic.recurrent import RecurrentEncoder
from stages.units.bert import build
from stages.units.vocabulary import MASK, Vocabulary


class EmbeddedUnits(nn.Module):
    """A vector for each token, trained with the LSTMs that read them.

    Args:
        config: {"tokens": kinds of tokens, "over": config of a RecurrentEncoder}.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.over = RecurrentEncoder(config["over"])
        self.vectors = nn.Embedding(int(config["tokens"]), self.over.mask_channels)
        self.dim, self.stride = self.over.dim, self.over.stride
        self.mask_channels, self.longest_frames = self.over.mask_channels, self.over.longest_frames

    @classmethod
    def start(cls, bert: BertSettings, vocabulary: Vocabulary) -> EmbeddedUnits:
        """Vectors as a BERT's are before stage 3, and LSTMs about as large as its Transformer.

        All is drawn from the seed that torch was given last.
        """
        vectors = build(bert, vocabulary, torch.initial_seed()).bert.embeddings.word_embeddings
        over = on_features.lstms(bert.dim, 1, bert)
        encoder = cls({"tokens": len(vocabulary), "over": over.config})
        encoder.over.load_state_dict(over.state_dict())
        encoder.vectors.load_state_dict(vectors.state_dict())
        return encoder

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def forward(
        self,
        tokens_BF: Tensor,
        attended_BF: Tensor,
        time_mask_BF: Tensor | None = None,
        channel_mask_BD: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (B, F, D). Masked frames are [MASK], masked channels 0."""
        if time_mask_BF is not None:
            tokens_BF = tokens_BF.masked_fill(time_mask_BF, MASK)
        states: Tensor = self.over(
            masked(self.vectors(tokens_BF), None, channel_mask_BD), attended_BF
        )
        return states
