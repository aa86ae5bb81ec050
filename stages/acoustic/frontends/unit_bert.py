"""Units of vq-wav2vec under the BERT that was pretrained on them (Discrete BERT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.recipe import BertSettings, Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.acoustic.encoders import UnitEncoder

STAGES = frozenset({"quantizer", "discretize", "bert"})


class Settings(Section):
    """Nothing to set: the quantizer and bert sections say it all."""

    name: Literal["unit_bert"] = "unit_bert"


def open_split(
    settings: Settings, folders: Mapping[str, Path]
) -> Callable[[str], NDArray[np.int64]]:
    """Token ids (F,) of an utterance."""
    from stages.units.corpus import UnitCorpus
    from stages.units.vocabulary import Vocabulary

    vocabulary, units = Vocabulary.load(folders["vocabulary"]), UnitCorpus(folders["units"])
    return lambda utterance_id: vocabulary.tokens(units[utterance_id])


def new_encoder(settings: Settings, bert: BertSettings, folders: Mapping[str, Path]) -> UnitEncoder:
    """The pretrained BERT, all of whose weights count as pretrained."""
    from stages.acoustic.encoders import UnitEncoder

    return UnitEncoder.pretrained(folders["bert"])


def empty_encoder(config: Mapping[str, Any]) -> UnitEncoder:
    """The encoder of a saved model, before its weights are loaded."""
    from stages.acoustic.encoders import UnitEncoder

    return UnitEncoder(dict(config))
