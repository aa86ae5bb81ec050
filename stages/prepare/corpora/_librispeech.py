"""What the corpora `librispeech` and `librilight` have in common: layout, budgets, folds, download.

LibriSpeech (CC BY 4.0, https://www.openslr.org/12) has a folder a set, a folder a speaker, a folder
a chapter; 16 kHz FLAC, and a file of transcripts a chapter, a line an utterance:
    LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac
    LibriSpeech/train-clean-100/103/1240/103-1240.trans.txt
        103-1240-0000 CHAPTER ONE MISSUS RACHEL LYNDE IS SURPRISED
Libri-light's limited supervision (arXiv 1912.07875, facebookresearch/libri-light,
data_preparation/README.md) holds copies of utterances of train-clean-100 and train-other-500, under
the names that they have there, half of each set clean and half other:
    librispeech_finetuning/1h/0..5/{clean,other}/SPEAKER/CHAPTER/    six times ten minutes
    librispeech_finetuning/9h/{clean,other}/SPEAKER/CHAPTER/
10min is one of 1h/0 to 1h/5, 1h all six, 10h all six and 9h. 100h is train-clean-100.
What belongs to a part is told by its audio: a transcript without it is no part of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.errors import UserError
from pipeline.recipe import CorpusSettings, LmSettings
from pipeline.section import NO_RESULT, each_once
from stages.prepare.corpora import _official, _shared
from stages.prepare.corpora._chapters import read_folder, read_part
from stages.prepare.corpus import Source

TrainSet = Literal["train-clean-100", "train-clean-360", "train-other-500"]
DevSet = Literal["dev-clean", "dev-other"]
TestSet = Literal["dev-clean", "dev-other", "test-clean", "test-other"]
LIBRISPEECH = "LibriSpeech"
FOLDS = 6  # sets of ten minutes
BUDGETS_OF_FOLDS = frozenset({"10min"})  # folds differ in nothing else
LIMITED = ("10min", "1h", "10h")  # what is in Libri-light's folder
CLEAN_100, CLEAN_100_SET = "100h", "train-clean-100"
CONDITIONS = ("clean", "other")
LM_TEXT_FILE = "librispeech-lm-norm.txt.gz"
LM_TEXT = "LibriSpeech's official text, without the books of dev and test"
BY_DOWNLOAD = "or let `vqasr run` download it (--set corpus.download=true)"


class LibriSettings(CorpusSettings):
    """The sets, where they are, and whether what is missing is downloaded."""

    train: list[TrainSet] = Field(
        ["train-clean-100", "train-clean-360", "train-other-500"],
        description="LibriSpeech's training sets; 960 hours together",
    )
    dev: list[DevSet] = Field(
        ["dev-other"],
        min_length=1,
        description="what weights are tuned on, joined where there are both; dev-other alone is "
        "what wav2vec 2.0 was tuned on",
    )
    test_sets: list[TestSet] = Field(
        ["test-clean", "test-other"],
        description="test sets, each by itself; a set of dev that serves no tuning may be among "
        "them",
    )
    ten_minutes: int = Field(
        0, ge=0, lt=FOLDS, description="which of Libri-light's six sets 10min is; folds take all"
    )
    librilight: Path = Field(
        Path(_official.LIMITED.holds),
        description="Libri-light's folder of limited supervision, absolute or relative to root",
        json_schema_extra=NO_RESULT,
    )
    download: bool = Field(
        False,
        description="`vqasr run` downloads into root what the recipe needs and root lacks",
        json_schema_extra=NO_RESULT,
    )
    mirror: str = Field(
        _official.OPENSLR,
        description="where LibriSpeech comes from: the address above `12/` and `11/`",
        json_schema_extra=NO_RESULT,
    )
    librilight_mirror: str = Field(
        _official.LIBRILIGHT,
        description="where Libri-light comes from",
        json_schema_extra=NO_RESULT,
    )

    @field_validator("train", "dev", "test_sets")
    @classmethod
    def _sets_differ(cls, sets: list[str]) -> list[str]:
        return each_once(sets)

    @field_validator("test_sets")
    @classmethod
    def _not_tuned_on(cls, sets: list[str], info: ValidationInfo) -> list[str]:
        tuned = [name for name in sets if name in info.data.get("dev", ())]
        if tuned:
            raise ValueError(f"{tuned[0]} is corpus.dev, on which weights are tuned")
        return sets


def evaluation_splits(settings: LibriSettings) -> dict[str, list[Source]]:
    """`dev` and `test/<set>`.

    Raises:
        UserError: a set is not there or not as published.
    """
    made = {"dev": [s for name in settings.dev for s in read_set(settings, name)]}
    return made | {f"test/{name}": read_set(settings, name) for name in settings.test_sets}


def refuse_shared_speakers(settings: LibriSettings, splits: dict[str, list[Source]]) -> None:
    """Refuse a speaker in two splits, which the published sets have none of.

    Raises:
        UserError: names up to five of them.
    """
    names = list(splits)
    for number, name in enumerate(names if not settings.allow_shared_speakers else ()):
        for other in names[number + 1 :]:
            _shared.refuse_shared_speakers(name, splits[name], other, splits[other])


def set_folder(root: Path, name: str) -> Path:
    """Where a set of LibriSpeech is or will be: root may be the folder LibriSpeech itself."""
    own = root / name
    is_librispeech = root.name == LIBRISPEECH or any((root / s).is_dir() for s in _official.SPEECH)
    return own if own.is_dir() or is_librispeech else root / LIBRISPEECH / name


def read_set(settings: LibriSettings, name: str) -> list[Source]:
    """The utterances of one set of LibriSpeech, by speaker, chapter and number.

    Raises:
        UserError: it is not there, or `read_folder` refuses it.
    """
    folder = set_folder(settings.root, name)
    if not folder.is_dir():
        raise _not_there(f"LibriSpeech's {name}", folder, settings, _official.SPEECH[name])
    return read_folder(settings.root, folder)


@dataclass(frozen=True)
class Part:
    """A part of Libri-light's limited supervision.

    Attributes:
        sources: the utterances whose audio lies there.
        without_audio: what its transcripts name beside them, by id.
    """

    sources: list[Source] = field(default_factory=list)
    without_audio: list[str] = field(default_factory=list)


def limited(settings: LibriSettings) -> dict[str, Part]:
    """Libri-light's limited supervision: `1h/0` to `1h/5`, and `9h`.

    Raises:
        UserError: it is not there, a part of it is missing, or an utterance is in two parts.
    """
    folder = settings.root / settings.librilight
    parts = {part: folder / part for part in (*(f"1h/{n}" for n in range(FOLDS)), "9h")}
    found: dict[str, Part] = {}
    seen: dict[str, str] = {}
    for part, path in parts.items():
        found[part] = Part()
        for condition in CONDITIONS:
            if not (path / condition).is_dir():
                place = path / condition
                raise _not_there("Libri-light's", place, settings, _official.LIMITED)
            sources, without_audio = read_part(settings.root, path / condition)
            found[part].sources.extend(sources)
            found[part].without_audio.extend(without_audio)
        for source in found[part].sources:
            if source.id in seen:
                raise UserError(
                    f"{folder}: {source.id} is in {seen[source.id]} and in {part}.",
                    constraint="every utterance in one part",
                    remedy="unpack librispeech_finetuning.tgz anew",
                )
            seen[source.id] = part
    return found


def parts_of(settings: LibriSettings, budget: str, parts: dict[str, Part]) -> list[Part]:
    """Those that one of the budgets `LIMITED` is made of."""
    wanted = {"10min": [f"1h/{settings.ten_minutes}"], "10h": list(parts)}
    return [parts[name] for name in wanted.get(budget, [p for p in parts if p != "9h"])]


def budget_ids(settings: LibriSettings, budget: str, train: Sequence[Source]) -> list[str] | None:
    """The utterances of an official budget; None for a budget of another size.

    Raises:
        UserError: Libri-light's folder is not there, or train lacks utterances of the budget.
    """
    if budget == CLEAN_100:
        prefix = os.path.relpath(set_folder(settings.root, CLEAN_100_SET), settings.root)
        ids = [s.id for s in train if s.files[0].startswith(f"{prefix}/") and is_original(s)]
        if not ids:
            raise UserError(
                f"budgets: {CLEAN_100} is {CLEAN_100_SET}, which corpus.train does not name.",
                remedy=f"add {CLEAN_100_SET} to corpus.train, or leave the budget out",
            )
        return ids
    if budget not in LIMITED:
        return None
    ids = [s.id for part in parts_of(settings, budget, limited(settings)) for s in part.sources]
    absent = sorted(set(ids) - {s.id for s in train})
    if absent:
        raise UserError(
            f"budgets: {len(absent)} of the {len(ids)} utterances of Libri-light's {budget} are "
            "not in the training sets.",
            found=f"{_shared.listed(absent)}; corpus.train: {', '.join(settings.train)}",
            remedy="add train-clean-100 and train-other-500 to corpus.train, or take kind: "
            "librilight, which has their audio from Libri-light's folder",
        )
    return ids


def is_original(source: Source) -> bool:
    """Whether it is no copy at another speed."""
    return "speed" not in source.parameters


def folds(settings: LibriSettings) -> dict[str, LibriSettings]:
    """`fold0` to `fold5`: Libri-light's six sets of ten minutes, in turn.

    Raises:
        UserError: the recipe says which of them it takes.
    """
    if "ten_minutes" in settings.model_fields_set:
        raise UserError(
            "folds and corpus.ten_minutes contradict each other.",
            constraint="a fold is one of the six sets of ten minutes",
            remedy=f"leave one of them out, or choose by fold: folds: [fold{settings.ten_minutes}]",
        )
    return {f"fold{n}": settings.model_copy(update={"ten_minutes": n}) for n in range(FOLDS)}


def lm_text(settings: LibriSettings) -> Path:
    """The official text of the language model: 800 million words of 14,500 books.

    The books of dev and test are not among them. A sentence a line, in capitals.

    Raises:
        UserError: it is not there.
    """
    path = settings.root / LM_TEXT_FILE
    if not path.is_file():
        official = _official.LANGUAGE[LM_TEXT_FILE]
        raise UserError(
            f"The language model's text is not there: {path} ({official.gigabytes:g} GB)",
            remedy="`vqasr run` downloads it"
            if settings.download
            else f"get it from {_official.OPENSLR}/{official.resource}/{official.name}, "
            f"{BY_DOWNLOAD}; or set lm.text to train, or lm.arpa to an n-gram",
        )
    return path


def bring(
    settings: LibriSettings, sets: Sequence[str], lm: LmSettings, *, with_limited: bool
) -> None:
    """Download what is missing: these sets, Libri-light's folder if it is wanted, and files of lm.

    Of the section lm: the official text where it is what `text: corpus` stands for; and what
    `arpa`, `lexicon` and `text` name, where that lies in root and bears an official name.

    Raises:
        UserError, RunError: see `_official.bring`.
    """
    wanted = [
        (_official.SPEECH[name], set_folder(settings.root, name), settings.mirror)
        for name in dict.fromkeys(sets)
    ]
    if with_limited:
        place = settings.root / settings.librilight
        wanted.append((_official.LIMITED, place, settings.librilight_mirror))
    named = [path for path in (lm.arpa, lm.lexicon, lm.text) if isinstance(path, Path)]
    if lm.text == "corpus" and lm.arpa is None:
        named.append(settings.root / LM_TEXT_FILE)
    wanted += [
        (_official.LANGUAGE[path.name], path, settings.mirror)
        for path in named
        if path.name in _official.LANGUAGE and path.parent.resolve() == settings.root.resolve()
    ]
    _official.bring(settings.root, wanted)


def _not_there(
    what: str, place: Path, settings: LibriSettings, official: _official.Official
) -> UserError:
    by_download = (
        "`vqasr run` downloads it"
        if settings.download
        else f"set corpus.root to the folder that has it, {BY_DOWNLOAD}"
    )
    return UserError(
        f"{what} folder is not there: {place}",
        constraint=f"{official.holds} of {official.name} ({official.gigabytes:g} GB)",
        remedy=by_download,
    )
