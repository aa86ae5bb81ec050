"""Errors on dev in the course of a fine-tuning: which weights to keep.

The error rate, of words or of characters, is the greedy one that stage 7 would find on dev with the
same weights. Where it is the same, as while a model writes nothing yet, the CTC loss tells which
weights are better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.evaluation import Evaluation, Row
from pipeline.finetune_settings import CtcSettings
from stages.acoustic.decoders.greedy import Greedy
from stages.acoustic.labelled import Labelled, count_frames
from stages.acoustic.scoring import NOTHING, check_references, count_characters, count_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from stages.acoustic.model import AcousticModel
    from stages.acoustic.targets import Targets

WER, CER, LOSS = "dev_wer", "dev_cer", "dev_loss"
FIGURES = {"wer": WER, "cer": CER}  # by the setting `validate_by`


class ByErrors(Evaluation):
    """The fewest errors are the best; among equals the least loss, then the earliest."""

    def best(self, history: Sequence[Row]) -> Row | None:
        rows = [row for row in history if self.figure in row]
        return min(rows, key=lambda row: (row[self.figure], row[LOSS]), default=None)


class DevErrors:
    """Greedy word error rate and CTC loss of a model on dev; with `validate_by: cer` its CER too.

    Utterances longer than the model has positions are read in windows, as in stage 6; of one too
    short for a frame nothing is heard.

    Args:
        features: of an utterance of dev, as the front-end gives them.
        transcripts: what was said, by utterance. One that has no targets (an unknown word) or
            that CTC cannot align counts for the errors and not for the loss.

    Raises:
        pipeline.errors.UserError: an utterance without a transcript.
    """

    def __init__(
        self,
        model: AcousticModel,
        features: Callable[[str], NDArray[Any]],
        transcripts: Mapping[str, str | None],
        targets: Targets,
        settings: CtcSettings,
        device: str,
    ) -> None:
        self._model, self._greedy = model, Greedy(targets)
        self._features, self._device = features, device
        self._characters = settings.validate_by == "cer"
        self._references = check_references(transcripts)
        lengths = count_frames(features, self._references)
        sayable = {i: t for i, t in self._references.items() if _has_targets(t, targets)}
        self._dev = Labelled(features, sayable, targets, settings, 0, device)
        needs = self._dev.needs(model, lengths)
        self._alignable = {name for name, have, need in needs if have >= need}
        most = model.encoder.longest_frames
        self._long = sorted(name for name, frames in lengths.items() if frames > most)
        whole = {name: frames for name, frames in lengths.items() if 0 < frames <= most}
        self._batches = _by_length(whole, settings.batch_frames)

    def __call__(self, done: int) -> dict[str, float]:
        """The figures of the model as it is, which is in evaluation mode."""
        texts = dict.fromkeys(self._references, "")  # of one without a frame nothing is heard
        loss, labels = 0.0, 0
        for names, log_probs_BTV, frames_B in self._heard():
            rows = log_probs_BTV.cpu().numpy()
            for name, row_TV, frames in zip(names, rows, frames_B.tolist(), strict=True):
                texts[name] = " ".join(self._greedy.decode(row_TV[:frames]))
            at = [n for n, name in enumerate(names) if name in self._alignable]
            if at:
                kept = [names[n] for n in at]
                summed, count = self._dev.ctc(log_probs_BTV[at], frames_B[at], kept)
                loss, labels = loss + summed.item(), labels + int(count)
        figures = {WER: count_words(self._references, texts).rate}
        if self._characters:
            characters = count_characters(self._references, texts)
            figures[CER] = sum(characters.values(), NOTHING).rate
        figures[LOSS] = loss / max(labels, 1)
        return {name: round(value, 6) for name, value in figures.items()}

    def _heard(self) -> Iterator[tuple[list[str], Tensor, Tensor]]:
        """Utterances, their log-probabilities (B, T, V) and the valid frames of each (B,)."""
        import torch

        from stages.acoustic.windows import log_probs

        for names in self._batches:
            yield names, *self._dev.log_probs(self._model, names)
        for name in self._long:
            rows_TV = torch.from_numpy(log_probs(self._model, self._features(name), self._device))
            yield [name], rows_TV[None].to(self._device), torch.tensor([len(rows_TV)])


def _has_targets(transcript: str, targets: Targets) -> bool:
    try:
        targets.encode(transcript)
    except RunError:
        return False
    return True


def _by_length(lengths: Mapping[str, int], batch_frames: int) -> list[list[str]]:
    """Utterances of like length together, the shortest first."""
    batches: list[list[str]] = []
    for name in sorted(lengths, key=lambda i: (lengths[i], i)):
        if not batches or lengths[name] * (len(batches[-1]) + 1) > batch_frames:
            batches.append([])
        batches[-1].append(name)
    return batches
