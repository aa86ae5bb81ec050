"""What the corpora have in common: unlabelled speech, names of test sets, speakers kept apart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.recipe import CorpusSettings
from stages.prepare.corpus import Source, read_tsv

if TYPE_CHECKING:
    from pipeline.audio import Samples

_NAMED_AT_MOST = 5  # speakers or ids in one message
_NOTHING: Mapping[str, Sequence[Source]] = {}


def unlabelled_sources(
    settings: CorpusSettings, splits: Mapping[str, Sequence[Source]] = _NOTHING
) -> dict[str, list[Source]]:
    """Speech alone: `unlabelled/<n>` for each TSV of `settings.unlabelled`, transcripts dropped.

    Speakers and ids get the name of the TSV's folder in front, so that those of two corpora are
    not taken for the same. `parameters` hold `bandwidth_hz` where the settings limit it.

    Args:
        splits: the labelled splits; speech of their dev and test speakers is refused.

    Raises:
        UserError: a list that cannot be read or stands twice, an id twice, or speech of dev or
            test among it.
    """
    found: dict[str, list[Source]] = {}
    seen: dict[str, str] = {}
    for number, name in enumerate(settings.unlabelled):
        plain = read_of_root(settings, name)
        for split, sources in splits.items():
            if split == "train":
                continue
            refuse_shared_files(f"unlabelled list {name}", plain, split, sources)
            if not settings.allow_shared_speakers:
                _refuse_same_folders_speakers(name, plain, split, sources)
        found[f"unlabelled/{number}"] = prefixed = [_unlabelled(s, name, settings) for s in plain]
        for source in prefixed:
            if source.id in seen:
                raise UserError(
                    f"corpus.unlabelled: '{source.id}' is in {seen[source.id]} and in {name}.",
                    constraint="an id once in all lists; the folder's name is a part of it",
                    remedy="name each list once, and keep lists of two corpora in two folders",
                )
            seen[source.id] = name
    return found


def listed_tests(
    settings: CorpusSettings, splits: Mapping[str, Sequence[Source]]
) -> dict[str, list[Source]]:
    """`test/<name>` for each TSV of `settings.test`.

    `parameters` hold `widest_hz` where the settings limit the band, in these lists alone: what the
    corpus has of its own stays as it is, and so does all that is trained. Recordings of a rate that
    allows for no more are not filtered again: `vqasr transcribe` hears them so, too.

    Args:
        splits: those that the corpus has of its own; the lists are kept apart from them.

    Raises:
        UserError: a list that is wrong, empty or without transcripts, the name of a test set that
            the corpus has, or speakers or recordings of train or dev.
    """
    found: dict[str, list[Source]] = {}
    for name, path in settings.test.items():
        split = f"test/{name}"
        if split in splits:
            raise UserError(
                f"corpus.test: the corpus has a test set '{name}' of its own.",
                remedy="call the other one differently",
            )
        hertz = settings.test_bandwidth_hz
        band = {} if hertz is None else {"widest_hz": hertz}
        found[split] = [replace(s, parameters=band) for s in read_list(settings, path)]
        refuse_untranscribed(split, found[split])
        for other in ("train", "dev"):
            refuse_overlap(settings, other, splits[other], split, found[split])
    return found


def read_of_root(settings: CorpusSettings, name: str) -> list[Source]:
    """The sources of a TSV, absolute or relative to the corpus' root.

    Raises:
        UserError: see `read_tsv`; it is not there because nobody said where the corpus is.
    """
    path = settings.root / name
    if "root" not in settings.model_fields_set and not path.is_absolute() and not path.exists():
        raise UserError(
            "corpus.root is not set.",
            found=f"no {name} in the working directory",
            remedy=f"--set corpus.root=DIR, the folder that holds {name}",
        )
    return read_tsv(path)


def read_list(settings: CorpusSettings, path: str) -> list[Source]:
    """The utterances of a TSV, absolute or relative to the corpus' root.

    Raises:
        UserError: see `read_of_root`; no utterance, or one without a speaker.
    """
    sources = read_of_root(settings, path)
    if not sources:
        raise UserError(f"{path} lists no utterance.")
    for source in sources:
        if not source.speaker:
            raise UserError(
                f"{path}: '{source.id}' has no speaker.",
                remedy="where speakers are not known, give each utterance its own name as speaker",
            )
    return sources


def refuse_untranscribed(split: str, sources: Sequence[Source]) -> None:
    """Refuse a split of dev or test that cannot be scored.

    Raises:
        UserError: names up to five utterances without a transcript.
    """
    missing = [s.id for s in sources if not s.transcript]
    if missing:
        raise UserError(
            f"{split}: {len(missing)} utterances have no transcript, so nothing can be scored.",
            found=listed(missing),
        )


def refuse_overlap(
    settings: CorpusSettings,
    name: str,
    sources: Sequence[Source],
    other: str,
    others: Sequence[Source],
) -> None:
    """Refuse two splits that share recordings, or speakers unless the settings allow it.

    Raises:
        UserError: names up to five of them.
    """
    refuse_shared_files(name, sources, other, others)
    if not settings.allow_shared_speakers:
        refuse_shared_speakers(name, sources, other, others)


def _unlabelled(source: Source, name: str, settings: CorpusSettings) -> Source:
    # The name as the recipe has it, not the folder that it leads to: that differs by machine.
    folder = PurePosixPath(name).parent.name
    prefix = folder if folder not in ("", "..") else "unlabelled"
    return replace(
        source,
        id=f"{prefix}-{source.id}",
        speaker=f"{prefix}-{source.speaker or source.id}",
        transcript=None,
        parameters=_band(settings.unlabelled_bandwidth_hz),
    )


def _band(hertz: int | None) -> dict[str, Any]:
    """The parameters of a source whose band is limited; none where it stays as recorded."""
    return {} if hertz is None else {"bandwidth_hz": hertz}


def _refuse_same_folders_speakers(
    name: str, unlabelled: Sequence[Source], split: str, sources: Sequence[Source]
) -> None:
    """Within one folder the same name means the same speaker."""
    folders = {s.root for s in sources}
    if unlabelled and unlabelled[0].root.resolve() in {f.resolve() for f in folders}:
        refuse_shared_speakers(f"unlabelled list {name}", unlabelled, split, sources)


def refuse_shared_speakers(
    name: str, sources: Sequence[Source], other: str, others: Sequence[Source]
) -> None:
    """Refuse two splits that share speakers.

    Raises:
        UserError: names up to five of them.
    """
    both = sorted({s.speaker for s in sources} & {s.speaker for s in others})
    if both:
        raise UserError(
            f"{name} and {other} share {len(both)} speakers.",
            constraint="no speaker of dev or test anywhere else",
            found=listed(both),
            remedy="move their utterances, or set corpus.allow_shared_speakers",
        )


def refuse_shared_files(
    name: str, sources: Sequence[Source], other: str, others: Sequence[Source]
) -> None:
    """Refuse two splits that share a recording, under whatever ids and speakers.

    Raises:
        UserError: names up to five of them.
    """
    fewer, more = sorted((sources, others), key=len)
    theirs = set(_files(fewer))
    both = sorted({file for file in _files(more) if file in theirs})
    if both:
        raise UserError(
            f"{name} and {other} share {len(both)} recordings.",
            constraint="a recording in one split only",
            found=listed(both),
        )


def _files(sources: Sequence[Source]) -> Iterator[str]:
    roots = {root: os.path.realpath(root) for root in {s.root for s in sources}}
    return (os.path.normpath(f"{roots[s.root]}/{name}") for s in sources for name in s.files)


def listed(names: Sequence[str]) -> str:
    """The first names as text, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    text = ", ".join(names[:_NAMED_AT_MOST])
    return f"{text} and {more} more" if more > 0 else text


def white_noise(count: int, seed: int) -> Samples:
    """White Gaussian noise, RMS 1. NumPy keeps this generator's stream frozen for good."""
    import numpy as np

    return np.random.RandomState(seed % 2**32).standard_normal(count).astype(np.float32)
