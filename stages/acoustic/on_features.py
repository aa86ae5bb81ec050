"""The encoder that stands on real-valued features: a Transformer, or LSTMs of as many parameters.

A baseline is to have the better of two reasonable encoders: see the front-ends' key `encoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from pipeline.recipe import BertSettings, Section

if TYPE_CHECKING:
    from stages.acoustic.encoders import FeatureEncoder
    from stages.acoustic.recurrent import RecurrentEncoder

GELU_DEVIATION = 0.59  # of GELU over a standard normal variable: what positions are added to
LSTM_LAYERS = 3  # with fewer parameters in a layer than in a Transformer's: see hidden_for


ATTENTION_FRAMES: Any = Field(
    0,
    ge=0,
    description="frames, after the stride, that a frame of a Transformer sees on either side in "
    "each layer, in stage 5 and after; 0: the whole utterance, as the papers",
)


class EncoderSettings(Section):
    """Which encoder stands on the features."""

    encoder: Literal["transformer", "lstm"] = Field(
        "transformer",
        description="a Transformer of the BERT's size, or bidirectional LSTMs of as many "
        "parameters, as the front-end mfcc has them",
    )
    attention_frames: int = ATTENTION_FRAMES

    @model_validator(mode="after")
    def _of_the_transformer(self) -> EncoderSettings:
        if self.encoder == "lstm" and self.attention_frames:
            raise ValueError("attention_frames is of a Transformer, and encoder: lstm has none")
        return self

    def signed(self) -> dict[str, Any]:
        """A model that was made before there was a choice is the Transformer's, which sees all."""
        values = super().signed()
        if not self.attention_frames:
            del values["attention_frames"]
        if self.encoder == "transformer":
            del values["encoder"]
        return values


def new_encoder(
    settings: EncoderSettings, channels: int, stride: int, bert: BertSettings
) -> FeatureEncoder | RecurrentEncoder:
    """The encoder that `settings` ask for, with random weights, on features of so many channels."""
    if settings.encoder == "lstm":
        return lstms(channels, stride, bert)
    return transformer(channels, stride, bert, settings.attention_frames)


def transformer(
    channels: int, stride: int, bert: BertSettings, attention_frames: int = 0
) -> FeatureEncoder:
    """A Transformer of the size of `bert`; attention_frames as in EncoderSettings."""
    from stages.acoustic.encoders import FeatureEncoder
    from stages.units.bert import POSITION_SCALE, bert_config, start_positions

    config = {"channels": channels, "stride": stride, "bert": bert_config(bert, 1)}
    if attention_frames:
        config["attention_frames"] = attention_frames
    encoder = FeatureEncoder(config)
    if bert.position_init == "sinusoidal":
        start_positions(encoder.bert, POSITION_SCALE * GELU_DEVIATION)
    return encoder


def lstms(
    channels: int,
    stride: int,
    bert: BertSettings,
    layers: int = LSTM_LAYERS,
    hidden: int | None = None,
) -> RecurrentEncoder:
    """Bidirectional LSTMs; what comes out has the size of `bert`.

    Args:
        hidden: units of each direction; None: as many as give the encoder the parameters that
            `transformer` has on these features.
    """
    import torch

    from stages.acoustic.recurrent import RecurrentEncoder, hidden_for

    if hidden is None:
        with torch.device("meta"):  # sizes alone: no memory, no random numbers
            made = transformer(channels, stride, bert)
        goal = sum(parameter.numel() for parameter in made.parameters())
        hidden = hidden_for(goal, channels=channels, layers=layers, dim=bert.dim)
    sizes = {"layers": layers, "hidden": hidden, "dim": bert.dim, "dropout": bert.dropout}
    return RecurrentEncoder({"channels": channels, "stride": stride} | sizes)


def empty_encoder(config: Mapping[str, Any]) -> FeatureEncoder | RecurrentEncoder:
    """The encoder of a saved model, before its weights are loaded."""
    from stages.acoustic.encoders import FeatureEncoder
    from stages.acoustic.recurrent import RecurrentEncoder

    kind = FeatureEncoder if "bert" in config else RecurrentEncoder
    return kind(dict(config))
