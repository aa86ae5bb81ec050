"""An exported folder made ready: read as data, whoever made it. Nothing that lies in it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import plugins
from pipeline.errors import UserError
from pipeline.recipe import FRONT_ENDS, DecodeSettings
from stages.use.folder import (
    GREEDY,
    LM,
    QUANTIZER,
    REMEDY,
    UNITS,
    Decoding,
    Hearing,
    refuse_other,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.audio import Samples
    from stages.acoustic.decoding import Decoder, Weights
    from stages.acoustic.features import FromAudio
    from stages.acoustic.model import AcousticModel
    from stages.acoustic.search import Job
    from stages.acoustic.search_ahead import SearchAhead


@dataclass(frozen=True)
class Opened:
    """The parts of a folder, and speech to words by them."""

    hearing: Hearing
    heard: FromAudio
    model: AcousticModel
    decoder: Decoder
    weights: Weights
    device: str
    job: Job

    @classmethod
    def read(cls, folder: Path, *, greedy: bool, device: str) -> Opened:
        """Open `folder`; with `greedy`, language model and lexicon are left alone.

        Raises:
            UserError: it is not an exported folder, or damaged.
        """
        refuse_other(folder)
        from safetensors import SafetensorError

        try:
            return cls._read(folder, greedy, device)
        except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise UserError(f"{folder} is damaged.", found=told, remedy=REMEDY) from error

    @classmethod
    def _read(cls, folder: Path, greedy: bool, device: str) -> Opened:
        import torch

        from stages.acoustic import decoding
        from stages.acoustic.model import read
        from stages.acoustic.search import Job
        from stages.acoustic.windows import refuse_few_positions

        hearing, told = Hearing.read(folder), Decoding.read(folder)
        model = read(folder)
        refuse_few_positions(model)
        torch.nn.Module.to(model, device)
        frontend: dict[str, Any] = model.config.frontend
        module = plugins.find(FRONT_ENDS, frontend["name"], "front-end")
        inputs = {"quantizer": folder / QUANTIZER, "vocabulary": folder / UNITS}
        settings = module.Settings(**frontend)
        heard = module.open_audio(settings, inputs, device, hearing.unit_precision)
        search = DecodeSettings(beam=[told.beam], beam_threshold=told.beam_threshold)
        job = Job(GREEDY if greedy else told.decoder, folder / LM, search)
        try:
            decoder = decoding.build(job.decoder, job.folder_lm, job.settings)
        except RuntimeError as error:  # of KenLM and SentencePiece
            raise ValueError(" ".join(str(error).split())) from error
        if len(decoder.targets) != model.config.targets:
            raise UserError(
                f"{folder}: the targets are not those of the model.",
                constraint=f"{model.config.targets} targets",
                found=f"{len(decoder.targets)} in {LM}/targets.json",
                remedy=REMEDY,
            )
        weights = decoding.Weights(told.lm_weight, told.word_score, told.beam)
        return cls(hearing, heard, model, decoder, weights, device, job)

    def search(self, processes: int) -> SearchAhead:
        """From log-probabilities to words, in so many processes where that is worth it."""
        from stages.acoustic.search_ahead import SearchAhead

        return SearchAhead(self.job, self.decoder, self.weights, processes)

    def filled(self, samples: int) -> float:
        """How many of its frames an utterance of so many samples fills, as stage 6 counts them."""
        return self.heard.frames(samples) / self.model.step

    def log_probs(self, utterances: Sequence[Samples]) -> list[NDArray[np.float32]]:
        """Log-probabilities (T, V) of utterances (S,) at 16 kHz; T may be 0.

        Those that the model has positions for are computed at once, and each comes out as it would
        alone, but for rounding; longer ones are read in windows that overlap, as in stage 6.
        """
        import numpy as np
        import torch

        from pipeline.batches import pad
        from stages.acoustic.windows import log_probs as log_probs_in_windows

        feats = self.heard.compute(utterances)
        found = [np.zeros((0, self.model.config.targets), np.float32) for _ in utterances]
        longest = self.model.encoder.longest_frames
        for n, feats_F in enumerate(feats):
            if len(feats_F) > longest:
                found[n] = log_probs_in_windows(self.model, feats_F, self.device)
        there = [n for n, feats_F in enumerate(feats) if 0 < len(feats_F) <= longest]
        if not there:
            return found
        padded, lengths_B = pad([feats[n] for n in there])
        with torch.inference_mode():
            log_probs = self.model(padded.to(self.device), lengths_B.to(self.device)).cpu().numpy()
        frames_B = self.model.frames(lengths_B).tolist()
        for n, row, frames in zip(there, log_probs, frames_B, strict=True):
            found[n] = row[:frames]
        return found
