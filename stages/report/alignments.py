"""Utterances with what was heard beside what was said: the worst, and some drawn by lot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.stage import in_links
from stages.acoustic.score_stage import ALIGNMENTS
from stages.report.collect import Piece, Source
from stages.report.tables import decoder_name

WORDS_AT_MOST = 60  # of an utterance
MOST_OF_A_KIND = 8  # worst ones of a system, and drawn ones
SHOWN_IN_ALL = 240  # about so many on the page

KINDS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}


@dataclass(frozen=True)
class Pair:
    """A word said and the word heard for it; `kind` is S, D, I or, where they agree, empty."""

    kind: str
    said: str
    heard: str


@dataclass(frozen=True)
class Heard:
    """An utterance as one decoder heard it; `left_out` words are not shown."""

    decoder: str
    errors: int
    words: int
    pairs: Sequence[Pair]
    left_out: int


@dataclass(frozen=True)
class Utterance:
    """An utterance with what each decoder heard."""

    id: str
    speaker: str
    heard: Sequence[Heard]


@dataclass(frozen=True)
class System:
    """The utterances that are shown of one model."""

    name: str
    budget: str
    worst: Sequence[Utterance]
    drawn: Sequence[Utterance]


def systems(sources: Sequence[Source], test_set: str, test_sets: int = 1) -> list[System]:
    """Of each source and fold the model of its largest budget (and first seed).

    The worst have the highest WER, the last decoder's; the drawn ones are the same for all
    systems, as a hash of their ids decides.

    Args:
        test_sets: how many share the page.
    """
    chosen = [pair for source in sources for pair in _models(source, test_set)]
    each = min(max(SHOWN_IN_ALL // max(2 * len(chosen) * test_sets, 1), 2), MOST_OF_A_KIND)
    return [_system(name, budget, piece, each) for name, budget, piece in chosen]


def _models(source: Source, test_set: str) -> list[tuple[str, str, Piece]]:
    """(name, budget, score step) of each fold's largest budget that has alignments."""
    pieces = {in_links(piece.label): piece for piece in source.done("score")}
    found: dict[Any, tuple[str, str, Piece]] = {}
    backwards = reversed(source.rows)  # of equals the last is taken: that is the first seed
    for row in sorted(backwards, key=lambda r: float(r["budget_seconds"])):
        if row["test_set"] != test_set:
            continue
        parts = [row["fold"]] if row["fold"] else []
        place = "/".join([*parts, test_set, row["budget"]])
        for label in (place, f"{place}/seed{row['seed']}"):
            piece = pieces.get(in_links(label))
            if piece is not None and piece.folder and (piece.folder / ALIGNMENTS).is_file():
                fold = f", fold {row['fold']}" if row["fold"] else ""
                found[row["fold"]] = (f"{source.name}{fold}", row["budget"], piece)
    return list(found.values())


def _system(name: str, budget: str, piece: Piece, each: int) -> System:
    assert piece.folder is not None  # it is done
    lines = _read(piece.folder / ALIGNMENTS)
    by_utterance: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_utterance.setdefault(line["utt_id"], []).append(line)

    def badness(utterance: str) -> tuple[float, int, str]:
        errors, words = _counts(by_utterance[utterance][-1])
        return -errors / max(words, 1), -errors, utterance

    wrong = [u for u in by_utterance if badness(u)[1] < 0]
    worst = sorted(wrong, key=badness)[:each]
    drawn = sorted(by_utterance, key=_lot)[:each]
    return System(
        name=name,
        budget=budget,
        worst=[_utterance(by_utterance[u]) for u in worst],
        drawn=[_utterance(by_utterance[u]) for u in drawn],
    )


def _read(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _lot(utterance: str) -> str:
    return hashlib.sha256(f"drawn {utterance}".encode()).hexdigest()


def _counts(line: Mapping[str, Any]) -> tuple[int, int]:
    errors = line["substitutions"] + line["deletions"] + line["insertions"]
    return errors, line["reference_words"]


def _utterance(lines: Sequence[Mapping[str, Any]]) -> Utterance:
    heard = []
    for line in lines:
        pairs = word_pairs(line["alignment"])
        errors, words = _counts(line)
        left_out = max(len(pairs) - WORDS_AT_MOST, 0)
        name = decoder_name(line["decoder"])
        heard.append(Heard(name, errors, words, pairs[:WORDS_AT_MOST], left_out))
    return Utterance(lines[0]["utt_id"], lines[0]["speaker"], heard)


def word_pairs(alignment: Sequence[Sequence[str]]) -> list[Pair]:
    """Word by word, from (operation, words said, words heard) as alignments.jsonl has them."""
    pairs = []
    for operation, said, heard in alignment:
        both = said.split(), heard.split()
        length = max(map(len, both))
        for words in zip(*(words + [""] * (length - len(words)) for words in both), strict=True):
            pairs.append(Pair(KINDS[operation], *words))
    return pairs
