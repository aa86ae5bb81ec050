"""Units under the same encoder as unit_bert without pretraining, or under LSTMs alone: a control.

The weights start as those of the BERT did before stage 3 (`bert.embedding_init` included).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from pipeline.recipe import BertSettings, QuantizerSettings, Section
from stages.acoustic.over_units import OverUnits
from stages.acoustic.unit_tokens import UnitTokens
from stages.quantizer.described import innumerable, unfit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from stages.acoustic.embedded import EmbeddedUnits
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.features import FromAudio
    from stages.acoustic.stacked import StackedEncoder

STAGES = frozenset({"quantizer", "discretize"})


class UnitSettings(OverUnits):
    """The encoder; the quantizer and bert sections say what the units are, and its size."""

    encoder: Literal["transformer", "lstm"] = Field(
        "transformer",
        description="a Transformer as the BERT is, or bidirectional LSTMs of about as many "
        "parameters on a vector for each unit",
    )

    @model_validator(mode="after")
    def _of_the_transformer(self) -> UnitSettings:
        given = [name for name in OverUnits.model_fields if getattr(self, name)]
        if self.encoder == "lstm" and given:
            raise ValueError(f"{given[0]} is of a Transformer, and encoder: lstm has none")
        return self

    def signed(self) -> dict[str, Any]:
        """A model that was made before there was a choice is the Transformer's."""
        values = super().signed()
        if self.encoder == "transformer":
            del values["encoder"]
        return values


class Settings(UnitSettings):
    """Units of the quantizer."""

    name: Literal["units"] = "units"


def refusal(settings: Section, quantizer: QuantizerSettings) -> str | None:
    """Without a quantizer there are no units; and there can be too many to be numbered."""
    name = str(getattr(settings, "name"))  # noqa: B009
    wrong = unfit(name, quantizer, {"type": ("gumbel", "kmeans")})
    return wrong or innumerable(name, quantizer)


def open_split(settings: Section, folders: Mapping[str, Path], device: str = "cpu") -> UnitTokens:
    """Token ids (F,) of an utterance."""
    return UnitTokens(folders["vocabulary"], folders["units"])


def open_audio(
    settings: Section, folders: Mapping[str, Path], device: str = "cpu", precision: str = "fp32"
) -> FromAudio:
    """Token ids (F,) of any speech, by the quantizer itself, in that precision."""
    import torch

    from stages.acoustic.features import FromAudio
    from stages.quantizer.inference import Inference
    from stages.quantizer.model import read
    from stages.units.vocabulary import Vocabulary

    vocabulary, model = Vocabulary.load(folders["vocabulary"]), read(folders["quantizer"])
    torch.nn.Module.to(model, device)
    inference = Inference(model, precision)

    def compute(utterances: Sequence[Samples]) -> list[NDArray[np.int64]]:
        found = inference.codes([torch.from_numpy(samples) for samples in utterances])
        return [vocabulary.tokens(codes.units_FG.cpu().numpy()) for codes in found]

    return FromAudio(compute, model.frames)


def new_encoder(
    settings: UnitSettings, bert: BertSettings, folders: Mapping[str, Path]
) -> UnitEncoder | StackedEncoder | EmbeddedUnits:
    """A BERT that has seen nothing, or LSTMs, drawn from the seed that torch was given last."""
    import torch

    from stages.acoustic.embedded import EmbeddedUnits
    from stages.acoustic.encoders import UnitEncoder
    from stages.units.bert import bert_config, build
    from stages.units.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(folders["vocabulary"])
    if settings.encoder == "lstm":
        return EmbeddedUnits.start(bert, vocabulary)
    start = build(bert, vocabulary, torch.initial_seed()).bert.state_dict()
    encoder = UnitEncoder({"bert": bert_config(bert, len(vocabulary)), **settings.under()})
    encoder.bert.load_state_dict(start)
    return settings.stacked(encoder)


def empty_encoder(config: Mapping[str, Any]) -> UnitEncoder | StackedEncoder | EmbeddedUnits:
    """The encoder of a saved model, before its weights are loaded."""
    from stages.acoustic.embedded import EmbeddedUnits
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.stacked import StackedEncoder

    if "under" in config:
        return StackedEncoder(dict(config))
    kind = UnitEncoder if "bert" in config else EmbeddedUnits
    return kind(dict(config))
