"""Recordings to text by an exported folder.

    from stages.use.transcriber import Transcriber
    transcriber = Transcriber.load("model")
    print(transcriber.transcribe("recording.flac").text)

Recordings are read block by block and cut by the rule of pipeline/cuts.py; each piece is
transcribed by itself, as stage 6 does an utterance, and the text of a recording is that of its
pieces. Pieces of several recordings are computed together. So what is in memory does not grow with
their length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline import audio_stream, cuts, memory
from pipeline.audio import SAMPLE_RATE_HZ, BadAudio
from pipeline.errors import UserError
from stages.prepare.stage import SHORTEST_SECONDS
from stages.use.opened import Opened
from stages.use.transcript import Failure, Piece, Transcript, Word

if TYPE_CHECKING:
    from pipeline.audio import Samples
    from stages.acoustic.search import Decoded

Device = Literal["auto", "cpu", "cuda"]
BATCH_SECONDS = 120.0  # two pieces of the longest: one for each of two cores


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the recording that is being read."""

    start: int  # sample
    samples: Samples

    @property
    def bare(self) -> _Span:
        """Where it is."""
        return _Span(self.start, len(self.samples))


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a piece is: its first sample, and how many."""

    start: int
    count: int


@dataclass(frozen=True, slots=True)
class _End:
    """The recording that was being read ends; or why it cannot be used."""

    audio: str
    seconds: float
    reason: str | None = None


class Transcriber:
    """An exported folder, ready to transcribe.

    Args:
        batch_seconds: speech that is computed at once, padding included; it changes the text only
            where rounding decides between two targets.
        processes: at most so many search for words beside this one, where there is much to do. They
            import the main module, so a program that asks for more than one has to keep what it
            does under `if __name__ == "__main__"`.
    """

    def __init__(
        self, opened: Opened, batch_seconds: float = BATCH_SECONDS, processes: int = 1
    ) -> None:
        self._opened, self._processes = opened, processes
        self._batch_samples = round(batch_seconds * SAMPLE_RATE_HZ)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        greedy: bool = False,
        device: Device = "auto",
        batch_seconds: float = BATCH_SECONDS,
        processes: int = 1,
    ) -> Transcriber:
        """Open a folder that `vqasr export` wrote. It is read as data; nothing in it is run.

        Args:
            greedy: without language model and lexicon; KenLM need not be there then.
            batch_seconds, processes: see the class.

        Raises:
            UserError: it is no such folder, or damaged, or there is no such device.
        """
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("The device cuda is asked for, and torch finds no GPU.")
        has_gpu = device != "cpu" and torch.cuda.is_available()
        chosen = "cuda" if has_gpu else "cpu"
        opened = Opened.read(Path(folder), greedy=greedy, device=chosen)
        return cls(opened, batch_seconds, processes)

    def transcribe(self, recording: str | Path) -> Transcript:
        """What was said in a recording of any length.

        Raises:
            pipeline.audio.BadAudio: it cannot be used.
        """
        (found,) = self.transcribe_all([recording])
        if isinstance(found, Failure):
            raise BadAudio(f"{found.audio}: {found.reason}")
        return found

    def transcribe_all(self, recordings: Iterable[str | Path]) -> Iterator[Transcript | Failure]:
        """What was said in each recording, in their order, as far as it can be used."""
        done: list[Piece] = []
        for item in self._found(recordings):
            if isinstance(item, Piece):
                done.append(item)
                continue
            if item.reason is not None:
                yield Failure(item.audio, item.reason)
            else:
                yield Transcript(item.audio, item.seconds, tuple(done))
            done = []

    def _found(self, recordings: Iterable[str | Path]) -> Iterator[Piece | _End]:
        """The text of each piece, and the ends of recordings, in order.

        While some pieces are searched, the next are computed.
        """
        begun: deque[Callable[[], Piece | _End]] = deque()
        with self._opened.search(self._processes) as search:
            for batch in self._batches(recordings):
                samples = [part.samples for part in batch if isinstance(part, _Part)]
                heard = iter(self._opened.log_probs(samples))
                memory.give_back()
                for item in batch:
                    if isinstance(item, _Part):
                        filled = self._opened.filled(len(item.samples))
                        begun.append(partial(_timed, item.bare, filled, search.begin(next(heard))))
                    else:
                        begun.append(partial(_itself, item))
                while len(begun) > search.waiting:
                    yield begun.popleft()()
            while begun:
                yield begun.popleft()()

    def _batches(self, recordings: Iterable[str | Path]) -> Iterator[list[_Part | _End]]:
        """What is computed together: padded to the longest, `batch_seconds` at most."""
        batch: list[_Part | _End] = []
        longest = count = 0
        for item in self._parts(recordings):
            if isinstance(item, _Part):
                longest = max(longest, len(item.samples))
                if count and (count + 1) * longest > self._batch_samples:
                    yield batch
                    batch, longest, count = [], len(item.samples), 0
                count += 1
            batch.append(item)
        if batch:
            yield batch

    def _parts(self, recordings: Iterable[str | Path]) -> Iterator[_Part | _End]:
        hearing = self._opened.hearing
        for recording in recordings:
            start, reason = 0, None
            blocks = audio_stream.stream(Path(recording), hearing.bandwidth_hz)
            try:
                for samples in cuts.each_piece(blocks, hearing.longest_samples, SAMPLE_RATE_HZ):
                    if start + len(samples) < SHORTEST_SECONDS * SAMPLE_RATE_HZ:
                        raise BadAudio(f"shorter than {SHORTEST_SECONDS} s: {len(samples)} samples")
                    yield _Part(start, samples)
                    start += len(samples)
            except BadAudio as error:
                reason = error.what
            yield _End(str(recording), start / SAMPLE_RATE_HZ, reason)


def _itself(end: _End) -> _End:
    return end


def _timed(span: _Span, filled: float, search: Callable[[], Decoded]) -> Piece:
    """Words with their times; features are spread evenly over the piece, as in stage 6's CTM."""
    decoded = search()
    start, seconds = span.start / SAMPLE_RATE_HZ, span.count / SAMPLE_RATE_HZ
    frame = seconds / (filled or 1.0)
    words = tuple(
        Word(w.word, start + w.first * frame, start + min(w.stop * frame, seconds), w.confidence)
        for w in decoded.times
    )
    return Piece(start, start + seconds, words)
