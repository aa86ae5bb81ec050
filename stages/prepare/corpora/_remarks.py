"""What the corpora `librispeech` and `librilight` lack of what their publishers tell."""

from __future__ import annotations

from collections.abc import Iterable

from stages.prepare.corpora import _librispeech, _shared
from stages.prepare.corpora._librispeech import LibriSettings, Part
from stages.prepare.corpus import Remark


def without_audio_in_budget(settings: LibriSettings, budget: str) -> list[Remark]:
    """Transcripts without audio in the parts of Libri-light that a budget is made of."""
    if budget not in _librispeech.LIMITED:
        return []
    return _without_audio(_librispeech.parts_of(settings, budget, _librispeech.limited(settings)))


def without_audio_in_all(settings: LibriSettings) -> list[Remark]:
    """Transcripts without audio in Libri-light's folder."""
    return _without_audio(_librispeech.limited(settings).values())


def _without_audio(parts: Iterable[Part]) -> list[Remark]:
    ids = [identity for part in parts for identity in part.without_audio]
    if not ids:
        return []
    line = f"left out for lack of audio in Libri-light's folder: {_shared.listed(ids)}"
    return [Remark("transcripts_without_audio", len(ids), line)]
