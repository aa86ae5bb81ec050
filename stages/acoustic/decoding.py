"""From log-probabilities to words: the cache, and the decoders by name.

Legend: T frames after subsampling, V targets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from pipeline import plugins
from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.recipe import DECODERS, DecodeSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.acoustic.hypothesis import Hypothesis
    from stages.acoustic.targets import Targets

    LogProbs = NDArray[np.float32]

LOG_PROBS = "log_probs.safetensors"
FILLED = "filled"  # in that file's metadata
BLANK_SHARE = 0.95  # of empty hypotheses, above which a model is said to emit only blanks


class Weights(NamedTuple):
    """What of a decoder is tuned on dev.

    Attributes:
        lm_weight: by which the n-gram's log10 probability is multiplied.
        word_score: added for each word.
        beam: hypotheses kept; None for a decoder that keeps none.
    """

    lm_weight: float = 0.0
    word_score: float = 0.0
    beam: int | None = None


NO_WEIGHTS = Weights()


class Decoder(Protocol):
    """A way to write words; `tunable` where the weights make a difference."""

    tunable: bool
    targets: Targets

    def decode(self, log_probs_TV: LogProbs, weights: Weights) -> list[str]:
        """The words of one utterance."""
        ...

    def nbest(self, log_probs_TV: LogProbs, weights: Weights, count: int) -> list[Hypothesis]:
        """At most `count` hypotheses and at least one, the best first: its words as `decode`'s."""
        ...


def build(name: str, folder_lm: Path, settings: DecodeSettings) -> Decoder:
    """The decoder of file `decoders/<name>.py`, for the targets and n-gram of stage 4.

    Raises:
        pipeline.errors.UserError: there is none of that name.
    """
    module = plugins.find(DECODERS, name, "decoder")
    decoder: Decoder = module.build(folder_lm, settings)
    return decoder


@dataclass(frozen=True)
class Outputs:
    """What an acoustic model says of a split.

    Attributes:
        log_probs: one (T, V) array per utterance id.
        filled: how many of the T frames the features of the utterance fill, for its times: the
            last one may reach beyond them.
    """

    log_probs: Mapping[str, NDArray[np.floating[Any]]]
    filled: Mapping[str, float]


def write_log_probs(path: Path, outputs: Outputs) -> None:
    """Write one array per utterance id, as float32 in a safetensors file.

    Raises:
        RunError: an array holds NaN, or has not two axes.
    """
    log_probs = outputs.log_probs
    for utterance_id, array_TV in log_probs.items():
        if array_TV.ndim != 2 or np.isnan(array_TV).any():
            raise RunError(
                f"Utterance {utterance_id}: its log-probabilities cannot be decoded.",
                constraint="frames x targets, none of them NaN",
                found=f"shape {array_TV.shape}, {int(np.isnan(array_TV).sum())} NaN",
                remedy="look at the training's losses; a smaller finetune.learning_rate helps",
            )
    arrays = {i: np.ascontiguousarray(log_probs[i], np.float32) for i in sorted(log_probs)}
    part = path.with_name(path.name + ".part")
    save_file(arrays, part, {FILLED: json.dumps(dict(outputs.filled), sort_keys=True)})
    part.replace(path)


def read_log_probs(path: Path) -> dict[str, LogProbs]:
    """What `write_log_probs` wrote, sorted by utterance id."""
    arrays: dict[str, LogProbs] = load_file(path)
    return {i: arrays[i] for i in sorted(arrays)}


def read_filled(path: Path) -> dict[str, float]:
    """`Outputs.filled` of what `write_log_probs` wrote."""
    with safe_open(path, framework="numpy") as file:
        filled: dict[str, float] = json.loads(file.metadata()[FILLED])
    return filled


class LogProbsOnDisk(Mapping[str, "LogProbs"]):
    """What `write_log_probs` wrote, an utterance read when it is asked for.

    The file is mapped, so that the processes that read it share its pages.
    """

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="numpy")
        self._ids = sorted(self._file.keys())

    def __getitem__(self, utterance_id: str) -> LogProbs:
        array_TV: LogProbs = self._file.get_tensor(utterance_id)
        return array_TV

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def empty_share(texts: Mapping[str, str]) -> float:
    """The share of hypotheses without a word."""
    return sum(not text for text in texts.values()) / max(len(texts), 1)


def check_matches(log_probs: Mapping[str, LogProbs], manifest: Manifest) -> None:
    """Refuse log-probabilities of other utterances than the manifest's.

    Raises:
        RunError: an utterance is missing on one side.
    """
    differ = sorted(log_probs.keys() ^ {u.id for u in manifest})
    if differ:
        raise RunError(
            "Log-probabilities and manifest are not of the same utterances.",
            found=f"{len(differ)} on one side only, such as {differ[0]}",
        )
