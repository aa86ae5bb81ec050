"""Units under the same Transformer without pretraining, or LSTMs: isolates what the BERT adds.

The weights start as those of the BERT did before stage 3 (`bert.embedding_init` included).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.recipe import BertSettings, QuantizerSettings, Section
from stages.acoustic.on_features import EncoderSettings
from stages.quantizer.described import unfit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from stages.acoustic.embedded import EmbeddedUnits
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.features import FromAudio

STAGES = frozenset({"quantizer", "discretize"})


class Settings(EncoderSettings):
    """The encoder; the quantizer and bert sections say what the units are, and its size."""

    name: Literal["units"] = "units"


def refusal(settings: Section, quantizer: QuantizerSettings) -> str | None:
    """Without a quantizer there are no units."""
    name = getattr(settings, "name")  # noqa: B009
    return unfit(str(name), quantizer, {"type": ("gumbel", "kmeans")})


def open_split(
    settings: Section, folders: Mapping[str, Path], device: str = "cpu"
) -> Callable[[str], NDArray[np.int64]]:
    """Token ids (F,) of an utterance."""
    from stages.units.corpus import UnitCorpus
    from stages.units.vocabulary import Vocabulary

    vocabulary, units = Vocabulary.load(folders["vocabulary"]), UnitCorpus(folders["units"])
    return lambda utterance_id: vocabulary.tokens(units[utterance_id])


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
    settings: EncoderSettings, bert: BertSettings, folders: Mapping[str, Path]
) -> UnitEncoder | EmbeddedUnits:
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
    config: dict[str, Any] = {"bert": bert_config(bert, len(vocabulary))}
    if settings.attention_frames:
        config["attention_frames"] = settings.attention_frames
    encoder = UnitEncoder(config)
    encoder.bert.load_state_dict(start)
    return encoder


def empty_encoder(config: Mapping[str, Any]) -> UnitEncoder | EmbeddedUnits:
    """The encoder of a saved model, before its weights are loaded."""
    from stages.acoustic.embedded import EmbeddedUnits
    from stages.acoustic.encoders import UnitEncoder

    kind = UnitEncoder if "bert" in config else EmbeddedUnits
    return kind(dict(config))
