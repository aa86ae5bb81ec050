"""What was said in a recording, with times; as text, JSON and subtitles. Times are seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CUE_SECONDS, CUE_CHARACTERS = 6.0, 84  # of a subtitle at most: two lines of 42
CUE_PAUSE_SECONDS = 1.0  # between words, above which another subtitle begins


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it lies: begun late and ended early, as `TimedWord` of a CTC model."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Piece:
    """What was said between two cuts; the whole of a recording that was not cut."""

    start: float
    end: float
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        audio: the recording, as it was named.
    """

    audio: str
    seconds: float
    pieces: tuple[Piece, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for piece in self.pieces for word in piece.words)

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)

    def as_json(self) -> str:
        """An object in one line: audio, seconds, text, words, and the pieces it was cut into."""
        told: dict[str, Any] = {"audio": self.audio, "seconds": round(self.seconds, 3)}
        told |= {"text": self.text, "words": [_rounded(word) for word in self.words]}
        told["pieces"] = [
            {"start": round(p.start, 3), "end": round(p.end, 3), "text": p.text}
            for p in self.pieces
        ]
        return json.dumps(told, ensure_ascii=False)

    def as_srt(self) -> str:
        """Subtitles; nothing where nothing was said."""
        cues = [
            f"{number}\n{_clock(cue[0].start)} --> {_clock(cue[-1].end)}\n"
            f"{' '.join(word.word for word in cue)}\n"
            for number, cue in enumerate(self._cues(), start=1)
        ]
        return "\n".join(cues)

    def _cues(self) -> Iterator[Sequence[Word]]:
        """Words that are shown together: none from both sides of a pause or of a cut."""
        for piece in self.pieces:
            cue: list[Word] = []
            for word in piece.words:
                text = " ".join(w.word for w in [*cue, word])
                if cue and (
                    word.start - cue[-1].end > CUE_PAUSE_SECONDS
                    or word.end - cue[0].start > CUE_SECONDS
                    or len(text) > CUE_CHARACTERS
                ):
                    yield cue
                    cue = []
                cue.append(word)
            if cue:
                yield cue


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that cannot be used, and why, in words."""

    audio: str
    reason: str


def _rounded(word: Word) -> dict[str, Any]:
    return {k: v if isinstance(v, str) else round(v, 3) for k, v in asdict(word).items()}


def _clock(seconds: float) -> str:
    """`01:02:03,456`, as SRT has it."""
    total = round(1000 * seconds)
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
