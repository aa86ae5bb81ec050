"""What the corpora `librispeech` and `librilight` lack of what their publishers tell."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from stages.prepare.corpora import _librispeech, _official, _shared
from stages.prepare.corpora._librispeech import LibriSettings, Part
from stages.prepare.corpus import Remark, Source


def incomplete_sets(settings: LibriSettings, split: str, sources: Sequence[Source]) -> list[Remark]:
    """The sets of LibriSpeech that have fewer utterances than published.

    Who takes a part of a set on purpose may, so this is no error. It tells by transcripts; of what
    has one and no audio tells the split itself, which rejects it.

    Args:
        sources: of the split; copies at other speeds do not count.
    """
    of_split: dict[str, Sequence[str]] = {"train": settings.train, "dev": settings.dev}
    names = of_split.get(split, [split.removeprefix("test/")])
    folders = {
        f"{os.path.relpath(_librispeech.set_folder(settings.root, name), settings.root)}/": name
        for name in names
    }
    found: Counter[str] = Counter()
    for source in filter(_librispeech.is_original, sources):
        found.update(n for f, n in folders.items() if source.files[0].startswith(f))
    fewer = [
        {"name": name, "found": found[name], "published": _official.SPEECH[name].utterances}
        for name in names
        if found[name] < _official.SPEECH[name].utterances
    ]
    if not fewer:
        return []
    told = ", ".join(f"{row['name']} {row['found']} of {row['published']}" for row in fewer)
    line = f"fewer utterances than published, used as they are: {told}"
    return [Remark("incomplete_sets", fewer, line)]


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
    line = (
        f"transcripts without audio in Libri-light's folder, left out: {len(ids)} "
        f"({_shared.listed(ids)})"
    )
    return [Remark("transcripts_without_audio", len(ids), line)]
