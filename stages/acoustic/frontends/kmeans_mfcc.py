"""k-means on MFCC as units, under an encoder without pretraining: a control.

As many codes as the quantizer has, in as many groups, fitted on the same speech; nothing else of
the quantizer section counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.errors import UserError
from pipeline.quantizer_settings import MOST_CODES, QuantizerSettings
from stages.acoustic.frontends.units import UnitSettings
from stages.acoustic.frontends.units import empty_encoder as empty_encoder
from stages.acoustic.frontends.units import new_encoder as new_encoder
from stages.acoustic.frontends.units import open_split as open_split
from stages.quantizer import geometry, kmeans_mfcc
from stages.quantizer.described import innumerable
from stages.units.discretize_mfcc import discretize
from stages.units.source import UnitSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from stages.acoustic.features import FromAudio

STAGES = frozenset({"quantizer", "discretize"})


class Settings(UnitSettings):
    """The codes, the MFCC and the encoder. What is not given is as the quantizer section has it."""

    name: Literal["kmeans_mfcc"] = "kmeans_mfcc"
    groups: int | None = Field(
        None, ge=1, le=8, description="parts of the MFCC with a k-means each; 1: plain k-means"
    )
    codes: int | None = Field(None, ge=2, le=MOST_CODES, description="clusters per group")
    hop_samples: int | None = Field(None, ge=16, description="from unit to unit, at 16 kHz")
    highest_hz: int = Field(8000, ge=1000, le=8000, description="upper edge of the mel bands")
    fit_seconds: float = Field(
        7200.0, gt=0, description="of pretraining speech that k-means is fitted on, at most"
    )


def refusal(settings: Settings, quantizer: QuantizerSettings) -> str | None:
    """There can be too many units to be numbered."""
    return innumerable(settings.name, quantizer, settings.groups, settings.codes)


def unit_source(settings: Settings, quantizer: QuantizerSettings) -> UnitSource:
    """k-means in place of the recipe's quantizer.

    Raises:
        UserError: the sizes are those of a quantizer that the recipe does not describe.
    """
    given = {
        "groups": (settings.groups, quantizer.groups),
        "codes": (settings.codes, quantizer.codes),
        "hop_samples": (settings.hop_samples, geometry.hop(quantizer.encoder_layers)),
    }
    open_ = [name for name, (own, _) in given.items() if own is None]
    if quantizer.from_ is not None and open_:
        raise UserError(
            "Front-end kmeans_mfcc takes its sizes from the quantizer section, which says "
            "quantizer.from and so not what they are.",
            remedy="set " + ", ".join(f"frontend.{name}" for name in open_),
        )
    told: dict[str, Any] = {
        name: own if own is not None else theirs for name, (own, theirs) in given.items()
    }
    told |= {"highest_hz": settings.highest_hz, "fit_seconds": settings.fit_seconds}
    return UnitSource(
        label=settings.name,
        version=kmeans_mfcc.VERSION,
        settings={"kind": settings.name, **told},
        fit=partial(kmeans_mfcc.fit, **told),
        discretize=discretize,
    )


def open_audio(
    settings: Settings, folders: Mapping[str, Path], device: str = "cpu", precision: str = "fp32"
) -> FromAudio:
    """Token ids (F,) of any speech."""
    from stages.acoustic.features import FromAudio
    from stages.units.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(folders["vocabulary"])
    model = kmeans_mfcc.MfccKmeans.load(folders["quantizer"])

    def compute(utterances: Sequence[Samples]) -> list[NDArray[np.int64]]:
        return [vocabulary.tokens(model.units(samples)) for samples in utterances]

    return FromAudio(compute, lambda samples: 1 + samples // model.hop_samples)
