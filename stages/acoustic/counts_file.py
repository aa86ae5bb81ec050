"""counts.jsonl: the errors of every utterance, beside results.json, small enough to commit.

What a comparison needs to draw the same utterances for two systems. The first lines are test
sets, one for each fold:

    {"test_set", "fold", "utterances", "names", "speakers", "reference_words", "reference_chars"}

where `utterances` are ids in order, `names` the speakers and `speakers` the place of each
utterance's speaker in `names`. Every further line is a system on one of them:

    {"test_set", "fold", "budget", "seed", "decoder",
     "substitutions", "deletions", "insertions", "char_errors"}

with a number for each utterance in that order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import RunError, UserError

COUNTS = "counts.jsonl"
ERRORS = ("substitutions", "deletions", "insertions", "char_errors")


class Key(NamedTuple):
    """What a row of results.json is known by within its recipe."""

    test_set: str
    fold: str | None
    budget: str
    seed: int | str
    decoder: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Key:
        """The key of a row of results.json, or of a line."""
        return cls(**{name: row[name] for name in cls._fields})


@dataclass(frozen=True)
class UtteranceSet:
    """A test set of a fold: of each utterance its id, its speaker, and its length."""

    utterances: Sequence[str]
    speakers: Sequence[str]
    reference_words: Sequence[int]
    reference_chars: Sequence[int]


@dataclass(frozen=True)
class UtteranceCounts:
    """One system's errors on each utterance of `on`, in its order."""

    on: UtteranceSet
    substitutions: Sequence[int]
    deletions: Sequence[int]
    insertions: Sequence[int]
    char_errors: Sequence[int]

    def errors(self, metric: str) -> list[int]:
        """Of each utterance: word errors for `wer`, character errors for `cer`."""
        if metric == "cer":
            return list(self.char_errors)
        three = (self.substitutions, self.deletions, self.insertions)
        return [sum(each) for each in zip(*three, strict=True)]

    def lengths(self, metric: str) -> Sequence[int]:
        """Of each utterance: words for `wer`, characters for `cer`."""
        return self.on.reference_chars if metric == "cer" else self.on.reference_words


Counted = Mapping[Key, UtteranceCounts]


def of_scores(told: Mapping[str, Any]) -> dict[str, UtteranceCounts]:
    """By decoder, what a score step left in its counts.json."""
    names = ("utterances", "speakers", "reference_words", "reference_chars")
    on = UtteranceSet(**{name: told[name] for name in names})
    return {
        decoder: UtteranceCounts(on, **{kind: errors[kind] for kind in ERRORS})
        for decoder, errors in told["decoders"].items()
    }


def text(counted: Counted) -> str:
    """The file's content.

    Raises:
        RunError: one test set holds other utterances in one system than in another.
    """
    sets: dict[tuple[str, str | None], UtteranceSet] = {}
    lines = []
    for key, counts in counted.items():
        known = sets.setdefault((key.test_set, key.fold), counts.on)
        if known != counts.on:
            raise RunError(
                f"The scores of test set {key.test_set} are of different utterances.",
                found=f"budget {key.budget}, seed {key.seed} differs from those before it",
                remedy="run again from stage 7 with --force",
            )
        lines.append(key._asdict() | {kind: list(getattr(counts, kind)) for kind in ERRORS})
    heads = [_head(*names, on) for names, on in sets.items()]
    return "".join(f"{_compact(line)}\n" for line in [*heads, *lines])


def _head(test_set: str, fold: str | None, on: UtteranceSet) -> dict[str, Any]:
    names = sorted(set(on.speakers))
    return {
        "test_set": test_set,
        "fold": fold,
        "utterances": list(on.utterances),
        "names": names,
        "speakers": [names.index(speaker) for speaker in on.speakers],
        "reference_words": list(on.reference_words),
        "reference_chars": list(on.reference_chars),
    }


def _compact(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def read(path: Path) -> dict[Key, UtteranceCounts]:
    """What `text` made of the counts.

    Raises:
        UserError: the file is not there, or is not one of counts.
    """
    remedy = "run the recipe again (vqasr run RECIPE); it writes the file beside results.json"
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return _parsed(lines)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is not there, and without the errors of each utterance systems cannot be "
            "compared.",
            remedy=remedy,
        ) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} holds no counts: {error}.", remedy=remedy) from error


def _parsed(lines: Sequence[Mapping[str, Any]]) -> dict[Key, UtteranceCounts]:
    sets: dict[tuple[str, str | None], UtteranceSet] = {}
    counted = {}
    for line in lines:
        if "utterances" in line:
            speakers = [line["names"][at] for at in line["speakers"]]
            lengths = line["reference_words"], line["reference_chars"]
            on = UtteranceSet(line["utterances"], speakers, *lengths)
            sets[line["test_set"], line["fold"]] = on
            continue
        on = sets[line["test_set"], line["fold"]]
        errors = {kind: line[kind] for kind in ERRORS}
        if any(len(each) != len(on.utterances) for each in errors.values()):
            raise ValueError(f"a line of {len(on.utterances)} utterances has another length")
        counted[Key.of(line)] = UtteranceCounts(on, **errors)
    return counted
