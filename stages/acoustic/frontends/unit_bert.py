"""Units of vq-wav2vec under the BERT that was pretrained on them (Discrete BERT).

As it is, the BERT is fine-tuned under the CTC layer (Baevski, Auli, Mohamed 2019). With `freeze`
and `acoustic` its hidden vectors are the features of an acoustic model that learns from the
labelled speech alone, and the BERT never changes (vq-wav2vec, Baevski et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.recipe import BertSettings
from stages.acoustic.frontends.units import empty_encoder as empty_encoder
from stages.acoustic.frontends.units import open_audio as open_audio
from stages.acoustic.frontends.units import open_split as open_split
from stages.acoustic.frontends.units import refusal as refusal
from stages.acoustic.over_units import OverUnits

if TYPE_CHECKING:
    from stages.acoustic.encoders import UnitEncoder
    from stages.acoustic.stacked import StackedEncoder

STAGES = frozenset({"quantizer", "discretize", "bert"})


class Settings(OverUnits):
    """How the BERT is used; the quantizer and bert sections say what it is."""

    name: Literal["unit_bert"] = "unit_bert"
    freeze: bool = Field(
        False, description="the BERT never changes; masks then hide its hidden vectors, not units"
    )

    def signed(self) -> dict[str, Any]:
        """Without what is not used."""
        values = super().signed()
        if not self.freeze:
            del values["freeze"]
        return values


def new_encoder(
    settings: Settings, bert: BertSettings, folders: Mapping[str, Path]
) -> UnitEncoder | StackedEncoder:
    """The pretrained BERT, all of whose weights count as pretrained, and what stands on it."""
    from stages.acoustic.encoders import UnitEncoder

    ways = settings.under() | ({"frozen": True} if settings.freeze else {})
    return settings.stacked(UnitEncoder.pretrained(folders["bert"], ways))
