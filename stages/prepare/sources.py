"""Which sources a recipe's splits hold, and what they contain: the part of stage 0 that plans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Literal

from pipeline import plugins
from pipeline.errors import UserError, nearest
from pipeline.manifest import COPY_MARK, copy_id
from pipeline.recipe import CORPORA, CorpusSettings, Recipe
from pipeline.section import PLAIN_NAME
from stages.prepare.corpus import Remark, Source
from stages.prepare.hashes import FileHashes as FileHashes
from stages.prepare.packed import by_id

# Of copies at other speeds: raise it when stage 0 makes other ones of the same speed. It is signed
# with each copy, so that corpora without copies stay as they are.
COPY_VERSION = 2


def corpus_module(settings: CorpusSettings) -> ModuleType:
    """The file in corpora/ that the settings belong to."""
    return plugins.find(CORPORA, settings.kind, "kind of corpus")


def folds(
    settings: CorpusSettings, wanted: Literal["all"] | Sequence[str] | None
) -> dict[str | None, CorpusSettings]:
    """The corpus as each wanted fold cuts it, in the corpus' order; as it is where none is wanted.

    Args:
        wanted: `folds` of the recipe.

    Raises:
        UserError: a corpus without folds, or one that does not have those wanted.
    """
    if wanted is None:
        return {None: settings}
    module = corpus_module(settings)
    if not hasattr(module, "folds"):
        raise UserError(f"folds: a corpus of kind {settings.kind} has none; leave the key out.")
    _check_root(settings)
    there: dict[str, CorpusSettings] = module.folds(settings)
    for name in there.keys() if wanted == "all" else wanted:
        if name not in there:
            raise UserError(f"folds: there is no fold '{name}'; {nearest(name, there)}")
        if not PLAIN_NAME.fullmatch(name):  # it becomes a part of links and tables
            raise UserError(f"folds: '{name}' cannot name a fold: letters, digits, - and _ can.")
    return {name: cut for name, cut in there.items() if wanted == "all" or name in wanted}


def fetch(recipe: Recipe) -> None:
    """Let the corpus bring what is missing of it, if it can and its settings say so.

    Raises:
        UserError, RunError: it cannot be had.
    """
    if getattr(recipe.corpus, "download", False):
        corpus_module(recipe.corpus).fetch(recipe.corpus, recipe.budgets, recipe.lm)


def budgets_of_folds(settings: CorpusSettings) -> frozenset[str] | None:
    """The budgets that folds differ in, where they share all splits; None where they cut them."""
    found: frozenset[str] | None = getattr(corpus_module(settings), "BUDGETS_OF_FOLDS", None)
    return found


def budget_ids(settings: CorpusSettings, budget: str, train: Sequence[Source]) -> list[str] | None:
    """The utterances of a budget that the corpus' publisher has chosen; None where there are none.

    Raises:
        UserError: the corpus lacks some of them.
    """
    module = corpus_module(settings)
    if not hasattr(module, "budget_ids"):
        return None
    found: list[str] | None = module.budget_ids(settings, budget, train)
    return found


def split_remarks(settings: CorpusSettings, split: str, sources: Sequence[Source]) -> list[Remark]:
    """What the corpus says of one of its splits, beside what is checked for all corpora alike."""
    tell = getattr(corpus_module(settings), "split_remarks", None)
    return (
        [] if tell is None or is_listed(settings, split) else list(tell(settings, split, sources))
    )


def budget_remarks(settings: CorpusSettings, budget: str) -> list[Remark]:
    """What the corpus says of one of its publisher's budgets."""
    tell = getattr(corpus_module(settings), "budget_remarks", None)
    return [] if tell is None else list(tell(settings, budget))


def _check_root(settings: CorpusSettings) -> None:
    if not settings.root.is_dir() and getattr(settings, "download", False):
        raise UserError(
            f"No such corpus folder yet: {settings.root}",
            remedy="`vqasr run` without --dry-run downloads the corpus into it",
        )
    if not settings.root.is_dir():
        raise UserError(
            f"No such corpus folder: {settings.root}; set it with --set corpus.root=DIR"
        )


def splits(settings: CorpusSettings) -> dict[str, list[Source]]:
    """All splits of the corpus, by name, with the lists of more test sets and unlabelled speech.

    Raises:
        UserError: the corpus is not there, or its lists are wrong.
    """
    from stages.prepare.corpora._shared import listed_tests, unlabelled_sources

    _check_root(settings)
    found: dict[str, list[Source]] = corpus_module(settings).splits(settings)
    found |= listed_tests(settings, found)
    found |= unlabelled_sources(settings, found)
    for split, sources in found.items():
        _refuse_marked(split, sources)
    found["train"] = with_copies(found["train"], settings.train_speeds)
    for split, sources in found.items():
        if not sources:
            raise UserError(
                f"The split {split} has no utterances.", remedy="see corpus in the recipe"
            )
    return found


def is_listed(settings: CorpusSettings, split: str) -> bool:
    """Whether a split is a list of the recipe: plain files, and the same for every fold."""
    role, _, name = split.partition("/")
    return role == "unlabelled" or (role == "test" and name in settings.test)


def with_copies(sources: Sequence[Source], speeds: Sequence[float]) -> list[Source]:
    """The sources, and behind them a copy of each at every other speed."""
    told = {"copy_version": COPY_VERSION}
    copies = [
        replace(s, id=copy_id(s.id, speed), parameters={**s.parameters, **told, "speed": speed})
        for speed in speeds
        for s in sources
    ]
    return [*sources, *copies]


def _refuse_marked(split: str, sources: Sequence[Source]) -> None:
    # Also where no copies are made: an id alone tells later stages what is a copy, which budgets
    # and the text of the language model leave out.
    taken = next((s.id for s in sources if COPY_MARK in s.id), None)
    if taken is not None:
        raise UserError(
            f"{split}: utterance id '{taken}' looks like that of a copy at another speed.",
            constraint=f"no {COPY_MARK} in an id or in the name of an unlabelled list's folder",
            remedy="rename the utterance, or the folder",
        )


def content(sources: Sequence[Source], hashes: FileHashes) -> str | None:
    """Hash of all that decides a split: ids, speakers, transcripts, parameters, audio bytes.

    Paths do not count: a corpus that was moved is the same. None: not known yet.
    """
    told = hashlib.sha256()
    as_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
    hashes.read(lambda: (source.root / name for source in sources for name in source.files))
    for source in by_id(sources):
        files = [hashes.of(source.root / name) for name in source.files]
        if None in files:
            return None
        row = [source.id, source.speaker, source.transcript, dict(source.parameters), files]
        told.update(as_json(row).encode())
    return told.hexdigest()[:16]
