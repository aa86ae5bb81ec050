"""The splits of a corpus as a plan needs them, and what its lists came to when last read.

Reading the lists of 281,241 utterances takes seconds, and looking at what they come to more. So
it is remembered in `lists/` beside the hashes of audio: what each split contains, where it is, and
by which size and time each audio file was known. It holds as long as no list or folder that was
read for it has changed, nor the hashes, nor the code of stage 0; `status` then reads no list, and
`run` looks at the audio files alone. Sources are read when a step is to work with them.

Small corpora, and speech that is made, are not remembered: their lists take no time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, overload

from pipeline.manifest import FilesById, audio_place
from pipeline.provenance import room_hash
from pipeline.recipe import CorpusSettings
from pipeline.store import write_atomically
from stages.prepare import sources, watched
from stages.prepare.corpus import Remark, Source
from stages.prepare.hashes import FileHashes
from stages.prepare.packed import Packed, by_id

WORTH = 2_000  # utterances: of fewer, reading the lists takes no time
FOLDER = "lists"

T = TypeVar("T")


class Later(Sequence[T]):
    """A sequence that is made when it is first looked at."""

    def __init__(self, make: Callable[[], Sequence[T]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Sequence[T]:
        return self._make()

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Iterator[T]:
        return iter(self._made)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self._made[at]


class AudioFiles(FilesById):
    """The first file of each source that has one, by its id.

    Attributes:
        place_sha256: of the lines of `audio_place`, where it is known without the sources.
    """

    def __init__(self, split: Sequence[Source], place_sha256: str | None = None) -> None:
        self._split, self.place_sha256 = split, place_sha256

    @cached_property
    def _files(self) -> dict[str, str]:
        return {s.id: s.files[0] for s in self._split if s.files}

    def __getitem__(self, utterance_id: str) -> str:
        return self._files[utterance_id]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.by_id())

    def __len__(self) -> int:
        return sum(bool(source.files) for source in self._split)

    def by_id(self) -> Iterator[tuple[str, str]]:
        return ((source.id, source.files[0]) for source in by_id(self._split) if source.files)


@dataclass(frozen=True)
class Split:
    """What a plan needs of a split.

    Attributes:
        content: `sources.content`; None where it is not known yet.
        root: the corpus' folder.
    """

    sources: Sequence[Source]
    content: str | None
    root: Path
    audio_files: AudioFiles


@dataclass(frozen=True)
class Official:
    """The utterances that the corpus' publisher has chosen for a budget, and their hash.

    Attributes:
        remarks: `sources.budget_remarks`, read when it is called.
    """

    ids: Sequence[str]
    content: str
    remarks: Callable[[], Sequence[Remark]]


class Listing:
    """The splits of a corpus, and its official budgets.

    Args:
        settings: of the corpus; of one of its folds, where folds cut the splits.
        hashes: of the audio; whose mode says whether audio files are looked at.
    """

    def __init__(self, settings: CorpusSettings, hashes: FileHashes) -> None:
        self._settings, self.hashes = settings, hashes
        self._read: set[str] = {os.path.abspath(settings.root)}
        self._path = hashes.cache.parent / FOLDER / f"{_named(settings)}.json"
        self._known = self._remembered()
        self._has_news = False
        self._splits: dict[str, Split] = {}
        self._official: dict[str, str | None] = {}
        self._asked: dict[str, Official | None] = {}

    @property
    def names(self) -> list[str]:
        """The splits."""
        return list(self._known["splits"] if self._known else self._sources)

    def split(self, name: str) -> Split:
        """One of them."""
        if name not in self._splits:
            rows: Sequence[Source] = Later(lambda: self._sources[name])
            told = (self._known or {"splits": {}})["splits"].get(name)
            if told is not None:
                files = AudioFiles(rows, told["place_sha256"])
                made = Split(rows, told["content"], Path(told["root"]), files)
            else:
                content = sources.content(rows, self.hashes)
                made = Split(rows, content, rows[0].root, AudioFiles(rows))
                self._has_news = True
            self._splits[name] = made
        return self._splits[name]

    def official(self, settings: CorpusSettings, budget: str) -> Official | None:
        """The utterances of a published budget; None where we choose them.

        Args:
            settings: of the fold, which may have a budget of its own.
        """
        # Others are the same for every fold, and each reading goes through all of train.
        of_folds = sources.budgets_of_folds(settings) or ()
        key = f"{_named(settings)} {budget}" if budget in of_folds else budget
        if key not in self._asked:
            self._asked[key] = self._official_of(settings, budget, key)
        return self._asked[key]

    def _official_of(self, settings: CorpusSettings, budget: str, key: str) -> Official | None:
        def read() -> list[str] | None:
            with watched.watching() as seen:
                found = sources.budget_ids(settings, budget, self._sources["train"])
            self._read |= seen
            return found

        remarks = partial(sources.budget_remarks, settings, budget)
        if self._known and key in self._known["official"]:
            content = self._known["official"][key]
            if content is None:
                return None
            return Official(Later(lambda: read() or []), content, remarks)
        ids = read()
        content = None
        if ids is not None:
            content = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]
        self._official[key] = content
        self._has_news = True
        return None if ids is None or content is None else Official(ids, content, remarks)

    @cached_property
    def _sources(self) -> dict[str, Packed]:
        with watched.watching() as seen:
            found = sources.splits(self._settings)
        self._read |= seen
        return {name: Packed(found.pop(name)) for name in list(found)}

    def _remembered(self) -> dict[str, Any] | None:
        """What was remembered, if it still holds."""
        if self.hashes.mode == "verify":
            return None
        try:
            told: dict[str, Any] = json.loads(self._path.read_text("utf-8"))
            holds = told["code"] == _code() and told["hashes"] == _facts(self.hashes.cache)
            holds = holds and all(_facts(path) == facts for path, facts in told["read"].items())
            if holds and (self.hashes.mode == "trust" or self._audio_is_the_same()):
                return told
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
            pass
        return None

    def _audio_is_the_same(self) -> bool:
        with open(self._audio, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                size, time_ns, path = line[:-1].split(" ", 2)
                if _facts(path) != [int(size), int(time_ns)]:
                    return False
        return True

    @property
    def _audio(self) -> Path:
        """A line for each audio file: size, time, path."""
        return self._path.with_suffix(".audio")

    def remember(self) -> None:
        """Remember what the lists came to, where that is worth it and sure to be noticed to change.

        Nothing is said where it cannot be written: who only looks may not be allowed to write.
        """
        if not self._has_news or not self._path.parent.parent.is_dir():
            return
        rows = self._sources
        asked = {name: self._splits[name] for name in rows if name in self._splits}
        if sum(map(len, rows.values())) < WORTH or self.hashes.saw_absent:
            return
        if any(split.content is None for split in asked.values()):
            return
        if not all(map(_is_file, (s for name in asked for s in rows[name]))):
            return
        read = watched.all_facts(self._read)
        if read is None:
            return
        known = self._known or {"read": {}, "official": {}}
        # What is kept of before depends on what was read for it then, as it was then.
        read |= known["read"]
        told = {
            "code": _code(),
            "hashes": _facts(self.hashes.cache),
            "read": read,
            # Of what nobody has asked for, only that it is there.
            "splits": {name: _told(asked[name]) if name in asked else None for name in rows},
            "official": known["official"] | self._official,
        }
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            self._path.unlink(missing_ok=True)  # so that it never tells of other audio
            write_atomically(self._audio, self._audio_lines(asked))
            write_atomically(self._path, json.dumps(told))

    def _audio_lines(self, splits: Iterable[str]) -> Iterator[bytes]:
        for source in (s for name in splits for s in self._sources[name]):
            for name in source.files:
                path = os.path.abspath(source.root / name)
                size, time_ns = self.hashes.facts(Path(path))
                yield os.fsencode(f"{size} {time_ns} {path}\n")


def _is_file(source: Source) -> bool:
    """Whether its samples are those of files whose names fit on a line."""
    return bool(source.files) and not any("\n" in name for name in source.files)


def _told(split: Split) -> dict[str, Any]:
    place = hashlib.sha256()
    for line in audio_place(split.root, split.audio_files):
        place.update(line.encode())
    return {
        "content": split.content,
        "root": str(split.root),
        "place_sha256": place.hexdigest(),
    }


def _named(settings: CorpusSettings) -> str:
    """A name for what the settings say, and for the folder that they say it in."""
    told = [settings.model_dump(mode="json"), os.path.abspath(settings.root)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _code() -> str:
    return room_hash(Path(__file__).parent)


def _facts(path: str | Path) -> list[int] | None:
    return watched.facts(str(path))
