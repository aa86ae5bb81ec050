"""Units of vq-wav2vec under the BERT that was pretrained on them (Discrete BERT)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.recipe import BertSettings, Section
from stages.acoustic.frontends.units import empty_encoder as empty_encoder
from stages.acoustic.frontends.units import open_split as open_split

if TYPE_CHECKING:
    from stages.acoustic.encoders import UnitEncoder

STAGES = frozenset({"quantizer", "discretize", "bert"})


class Settings(Section):
    """Nothing to set: the quantizer and bert sections say it all."""

    name: Literal["unit_bert"] = "unit_bert"


def new_encoder(settings: Settings, bert: BertSettings, folders: Mapping[str, Path]) -> UnitEncoder:
    """The pretrained BERT, all of whose weights count as pretrained."""
    from stages.acoustic.encoders import UnitEncoder

    return UnitEncoder.pretrained(folders["bert"])
