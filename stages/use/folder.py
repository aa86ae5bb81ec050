"""What lies in an exported folder, and where.

- README.md: the model card.
- config.json, model.safetensors: the acoustic model, encoder and CTC layer.
- quantizer/: stage 1's model, where the front-end reads one.
- units/: the unit tokenizer and the codebook's vectors, where there are units.
- lm/: CTC targets, lexicon, KenLM binary.
- preprocessor_config.json: see `Hearing`.
- decoder_config.json: see `Decoding`.
- results.json: the rows of this model.
- modeling_vqasr.py: for use without vqasr, where it knows the front-end. vqasr itself never runs
  what lies in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import audio, cuts
from pipeline.errors import UserError
from pipeline.model_folder import CONFIG, read_json

CARD = "README.md"
QUANTIZER, UNITS, LM = "quantizer", "units", "lm"
PREPROCESSOR, DECODER = "preprocessor_config.json", "decoder_config.json"
GREEDY = "greedy"
MODELLING = "modeling_vqasr.py"
REMEDY = "export the recipe again: vqasr export RECIPE DIR"
LONGEST_PIECE = round(cuts.LONGEST_SECONDS * audio.SAMPLE_RATE_HZ)
SHORTEST_PIECE = 2 * cuts.WINDOW_SHARE * audio.SAMPLE_RATE_HZ // cuts.STEPS_PER_SECOND


def refuse_other(folder: Path) -> None:
    """Refuse what `vqasr export` did not write, by what it lacks; nothing is read.

    Raises:
        UserError: it is no such folder.
    """
    if not folder.is_dir():
        told = "it is no folder" if folder.exists() else "it is not there"
        raise UserError(
            f"{folder} is no exported folder: {told}.",
            constraint="first the folder that `vqasr export RECIPE DIR` wrote, then recordings",
        )
    for name in (CONFIG, PREPROCESSOR, DECODER):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no exported folder: {name} is not there.", remedy=REMEDY)


def has_modelling_file(config: Mapping[str, Any]) -> bool:
    """Whether MODELLING knows the acoustic model of this config: units under a BERT or LSTMs."""
    encoder = config["encoder"]
    known = "bert" in encoder or ("over" in encoder and "bert" not in encoder["over"])
    return config["frontend"]["name"] in ("unit_bert", "units") and known


@dataclass(frozen=True)
class Hearing:
    """What becomes of a recording before the model: settings of the folder's preprocessor.

    Attributes:
        longest_samples: longer speech is cut, by the rule of pipeline/cuts.py. Pieces that have
            more frames than the model has positions are read in windows, as in stage 6.
        bandwidth_hz: what lies above is removed from recordings that have more, as from the
            recipe's lists of test sets; None: nothing is.
        unit_precision: of the quantizer, as in stage 2.
    """

    longest_samples: int = LONGEST_PIECE
    bandwidth_hz: int | None = None
    unit_precision: str = "fp32"

    def write(self, folder: Path) -> None:
        told = {
            "feature_extractor_type": "vqasr",
            "sampling_rate": audio.SAMPLE_RATE_HZ,
            **asdict(self),
            "cut_window_samples": self.longest_samples // cuts.WINDOW_SHARE,
            "cut_step_samples": audio.SAMPLE_RATE_HZ // cuts.STEPS_PER_SECOND,
        }
        _write(folder / PREPROCESSOR, told)

    @classmethod
    def read(cls, folder: Path) -> Hearing:
        """What `write` wrote.

        Raises:
            UserError: it is not there, or its values cannot be.
        """
        path = folder / PREPROCESSOR
        told = read_json(path)
        longest, bandwidth_hz = told.get("longest_samples"), told.get("bandwidth_hz")
        if not isinstance(longest, int) or not SHORTEST_PIECE <= longest <= LONGEST_PIECE:
            raise _wrong(path, "longest_samples", f"{SHORTEST_PIECE} to {LONGEST_PIECE}", longest)
        if bandwidth_hz is not None and not (isinstance(bandwidth_hz, int) and bandwidth_hz >= 500):
            raise _wrong(path, "bandwidth_hz", "500 or more, or null", bandwidth_hz)
        precision = told.get("unit_precision")
        if precision not in ("fp32", "bf16"):
            raise _wrong(path, "unit_precision", "fp32 or bf16", precision)
        if told.get("sampling_rate") != audio.SAMPLE_RATE_HZ:
            found = told.get("sampling_rate")
            raise _wrong(path, "sampling_rate", str(audio.SAMPLE_RATE_HZ), found)
        return cls(longest, bandwidth_hz, precision)


@dataclass(frozen=True)
class Decoding:
    """How words are found: the decoder that is taken unless greedy is asked for.

    Attributes:
        lm_weight, word_score: as tuned on dev; dev_wer: the error there, a fraction.
    """

    decoder: str
    lm_weight: float
    word_score: float
    beam: int
    beam_threshold: float
    dev_wer: float | None = None

    def write(self, folder: Path) -> None:
        _write(folder / DECODER, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Decoding:
        """What `write` wrote.

        Raises:
            UserError: it is not there, or its values cannot be.
        """
        path = folder / DECODER
        told = read_json(path)
        if not isinstance(told.get("decoder"), str):
            raise _wrong(path, "decoder", "the name of a decoder", told.get("decoder"))
        for name in ("lm_weight", "word_score", "beam_threshold"):
            if not isinstance(told.get(name), int | float):
                raise _wrong(path, name, "a number", told.get(name))
        if not isinstance(told.get("beam"), int):
            raise _wrong(path, "beam", "a whole number", told.get("beam"))
        known = {name: told.get(name) for name in cls.__dataclass_fields__}
        return cls(**known)  # type: ignore[arg-type]


def _wrong(path: Path, name: str, constraint: str, found: Any) -> UserError:
    return UserError(f"{path}: {name} cannot be.", constraint=constraint, found=repr(found)[:80])


def _write(path: Path, told: dict[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
