"""Which sources a recipe's splits hold, and what they contain: the part of stage 0 that plans."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pipeline import plugins
from pipeline.audio import file_sha256
from pipeline.errors import UserError
from pipeline.recipe import CORPORA, CorpusSettings
from pipeline.store import write_atomically
from stages.prepare.corpus import Source


def corpus_module(settings: CorpusSettings) -> ModuleType:
    """The file in corpora/ that the settings belong to."""
    return plugins.find(CORPORA, settings.kind, "kind of corpus")


def splits(settings: CorpusSettings) -> dict[str, list[Source]]:
    """All splits of the corpus, unlabelled speech included, by name.

    Raises:
        UserError: the corpus is not there, or its lists are wrong.
    """
    from stages.prepare.corpora._shared import unlabelled_sources

    if not settings.root.is_dir():
        raise UserError(
            f"No such corpus folder: {settings.root}; set it with --set corpus.root=DIR"
        )
    found: dict[str, list[Source]] = corpus_module(settings).splits(settings)
    found |= unlabelled_sources(settings, found)
    for split, sources in found.items():
        if not sources:
            raise UserError(
                f"The split {split} has no utterances.", remedy="see corpus in the recipe"
            )
    return found


class FileHashes:
    """SHA-256 of audio files, remembered by size and time so that only what changed is read.

    Args:
        cache: the file that remembers.
        mode: "trust" asks for no file (unknown ones stay unknown), "look" compares size and
            time, "verify" reads every file.
    """

    def __init__(self, cache: Path, mode: str) -> None:
        self._path, self._mode = cache, mode
        try:
            self._known: dict[str, list[str | int]] = json.loads(cache.read_text("utf-8"))
        except (FileNotFoundError, ValueError):  # not there, or damaged
            self._known = {}
        self._changed = False

    def of(self, path: Path) -> str | None:
        """The file's hash; "absent" where there is no such file; None if not known."""
        key = os.path.realpath(path)
        known = self._known.get(key)
        if self._mode == "trust":
            return str(known[2]) if known else None
        try:
            facts = os.stat(path)
        except OSError:
            return "absent"
        if self._mode == "look" and known and known[:2] == [facts.st_size, facts.st_mtime_ns]:
            return str(known[2])
        sha = file_sha256(path)
        self._known[key] = [facts.st_size, facts.st_mtime_ns, sha]
        self._changed = True
        return sha

    def save(self) -> None:
        if self._changed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._known))
            self._changed = False


def content(sources: Sequence[Source], hashes: FileHashes) -> str | None:
    """Hash of all that decides a split: ids, speakers, transcripts, parameters, audio bytes.

    Paths do not count: a corpus that was moved is the same. None: not known yet.
    """
    told = hashlib.sha256()
    for source in sorted(sources, key=lambda s: s.id):
        files = [hashes.of(source.root / name) for name in source.files]
        if None in files:
            return None
        row = [source.id, source.speaker, source.transcript, dict(source.parameters), files]
        told.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
    return told.hexdigest()[:16]
