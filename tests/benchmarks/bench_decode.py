"""Words from log-probabilities: our lexicon beam search against pyctcdecode.

Both get the same log-probabilities, n-gram and vocabulary, one core each, and weights tuned on the
same dev over the same grid. The goal is what pyctcdecode does on dev with its own beam of 100. Each
side runs with the smallest beam of `BEAMS` that makes no more errors on dev, and ours with one that
makes no more than pyctcdecode on test either: where a small beam does on dev by luck, ours takes a
larger one. WER and time are of test. `BEAMS` is the same for both: 1, 2 and 5 times powers of ten
up to 500, not those at which some test came out well. pyctcdecode prunes as it does by default; its
score of an unknown word is so low that it writes none, as we do (with its default it is half as
fast and makes more errors).

- `ctc_decode`: the log-mel model of recipes/demo_log_mel.yaml, trained here if exp/store does not
  hold it yet.
- `ctc_decode_large`: a trigram of some 16,000 made-up words, on log-probabilities made up too: a
  frame in seven shows another letter. What a larger vocabulary costs, not how well speech is read.

`python -m tests.benchmarks.bench_decode` shows what takes our time.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.recipe import DecodeSettings
from stages.acoustic import decoding, scoring
from stages.acoustic.decoders import lexicon_beam
from stages.acoustic.lexicon import read_lexicon
from stages.acoustic.ngram import BINARY
from stages.acoustic.targets import BOUNDARY, Targets
from tests.benchmarks.made_up_speech import make_corpus
from tests.benchmarks.rows import Row, higher_is_better, machine, seconds_in_turn

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
EXP = Path("exp")
NAME = "bench_decode"  # of the recipe whose links lie in exp
BEAMS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
[DEFAULT_BEAM] = DecodeSettings().beam
PEERS_BEAM = 100  # its default
LM_WEIGHTS, WORD_SCORES = (0.5, 1.0, 2.0, 3.0), (-1.0, 0.0, 1.0)
NO_UNKNOWN_WORD = -100.0

Texts = dict[str, str]
Point = tuple[float, float]  # lm_weight, word_score
Search = Callable[[Mapping[str, np.ndarray]], Texts]


@dataclass(frozen=True)
class Split:
    """What is decoded: log-probabilities and references by utterance, and the audio's length."""

    log_probs: Mapping[str, np.ndarray]
    references: Texts
    seconds: float

    def errors(self, search: Search) -> scoring.Counts:
        return scoring.count_words(self.references, search(self.log_probs))


@dataclass(frozen=True)
class Case:
    """A language model (artifact of stage 4), dev to tune on and test to measure on."""

    what: str
    lm: Path
    dev: Split
    test: Split


def measure() -> Iterator[Row]:
    """The rows that the module names."""
    import torch

    torch.set_num_threads(1)
    yield row("ctc_decode", demo_case())
    yield row("ctc_decode_large", large_case())


def row(name: str, case: Case) -> Row:
    """Seconds of audio per second of both sides, tuned."""
    grid = list(itertools.product(LM_WEIGHTS, WORD_SCORES))
    _, goal = tuned(case.dev, grid, lambda point: peer(case.lm, *point, PEERS_BEAM))
    peers_beam, peer_weights, peer_found = smallest(case, grid, peer, goal)
    on_test = case.test.errors(peer(case.lm, *peer_weights, peers_beam))
    beam, weights, found = smallest(case, grid, ours, goal, on_test)
    sides = {
        "ours": ours(case.lm, *weights, beam),
        "peer": peer(case.lm, *peer_weights, peers_beam),
        "default": ours(case.lm, *weights, DEFAULT_BEAM),
    }
    wer = {side: case.test.errors(search).rate for side, search in sides.items()}
    calls = {side: _called(search, case.test) for side, search in sides.items()}
    taken = seconds_in_turn(calls, ROUNDS)
    rate = {side: case.test.seconds / seconds for side, seconds in taken.items()}
    conditions = (
        f"{case.what}; test: {len(case.test.references)} utterances, {case.test.seconds:.0f} s; "
        f"WER ours {wer['ours']:.1%} (dev {found.rate:.1%}) with beam {beam}, "
        f"{_weights(weights)}; pyctcdecode {wer['peer']:.1%} (dev {peer_found.rate:.1%}) with beam "
        f"{peers_beam}, {_weights(peer_weights)}; ours with the default beam of "
        f"{DEFAULT_BEAM}: {rate['default']:.0f} x, {wer['default']:.1%}; "
        f"one process each, {machine()}"
    )
    return higher_is_better(
        name, rate["ours"], rate["peer"], "seconds of audio per second", conditions
    )


def smallest(
    case: Case,
    grid: list[Point],
    make: Callable[..., Search],
    goal: scoring.Counts,
    on_test: scoring.Counts | None = None,
) -> tuple[int, Point, scoring.Counts]:
    """The smallest beam with no more errors on dev than `goal`, its weights and its errors.

    Args:
        on_test: errors on test that it must not make more of; None: any.

    Raises:
        RuntimeError: there is none.
    """
    for beam in BEAMS:
        weights, found = tuned(case.dev, grid, lambda point, b=beam: make(case.lm, *point, b))
        if found.errors > goal.errors:
            continue
        if (
            on_test is None
            or case.test.errors(make(case.lm, *weights, beam)).errors <= on_test.errors
        ):
            return beam, weights, found
    raise RuntimeError(f"no beam reaches {goal.rate:.1%} WER on dev, and the peer's on test")


def _called(search: Search, split: Split) -> Callable[[], object]:
    return lambda: search(split.log_probs)


def _weights(point: Point) -> str:
    return "lm_weight {:g} and word_score {:g}".format(*point)


def tuned(
    dev: Split,
    grid: list[Point],
    make: Callable[[Point], Search],
) -> tuple[Point, scoring.Counts]:
    """The point of the grid with the fewest errors on dev, and these."""
    found = {point: dev.errors(make(point)) for point in grid}
    best = min(grid, key=lambda point: found[point].errors)
    return best, found[best]


def ours(lm: Path, lm_weight: float, word_score: float, beam: int) -> Search:
    """The program's decoder."""
    decoder = lexicon_beam.build(lm, DecodeSettings())
    weights = decoding.Weights(lm_weight, word_score, beam)

    def search(log_probs: Mapping[str, np.ndarray]) -> Texts:
        return {i: " ".join(decoder.decode(x, weights)) for i, x in log_probs.items()}

    return search


def peer(lm: Path, lm_weight: float, word_score: float, beam: int) -> Search:
    """pyctcdecode with the same weights in its own units: natural logarithms of the n-gram."""
    import logging

    import pyctcdecode

    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    targets = Targets.load(lm)
    labels = ["", *(" " if s == BOUNDARY else s for s in targets.symbols[1:])]
    decoder = pyctcdecode.build_ctcdecoder(
        labels,
        str(lm / BINARY),
        unigrams=list(read_lexicon(lm, targets)),
        alpha=lm_weight / math.log(10),
        beta=word_score,
        unk_score_offset=NO_UNKNOWN_WORD,
    )

    def search(log_probs: Mapping[str, np.ndarray]) -> Texts:
        return {i: decoder.decode(x, beam_width=beam) for i, x in log_probs.items()}

    return search


def demo_case() -> Case:
    """The demo's log-mel model at its largest budget, by the program itself."""
    command = [sys.executable, "-m", "pipeline.cli", "run", "recipes/demo_log_mel.yaml"]
    for change in ("budgets=[all]", f"name={NAME}", "decode.decoders=[greedy]"):
        command += ["--set", change]
    command += ["--exp", str(EXP), "--stop-stage", "6"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    links = EXP / NAME
    lm = links / "4-lm-ngram"
    facts = json.loads((lm / "lm.json").read_text("utf-8"))
    what = (
        f"log-mel model of the demo, espeak's speech, {facts['order']}-gram of "
        f"{facts['vocabulary']} words"
    )
    return Case(what, lm, _split(links, "dev"), _split(links, "test"))


def _split(links: Path, name: str) -> Split:
    greedy = (links / f"6-decode-{name}-all" / "greedy.jsonl").read_text("utf-8")
    rows = [json.loads(x) for x in greedy.splitlines()]
    references = {r["utt_id"]: r["ref"] for r in rows}
    seconds = sum(r["seconds"] for r in rows)
    log_probs = links / f"6-decode-log_probs-{name}-all" / decoding.LOG_PROBS
    return Split(decoding.read_log_probs(log_probs), references, seconds)


def large_case() -> Case:
    """Made up, and kept in exp/bench_decode_large."""
    folder = EXP / "bench_decode_large"
    corpus = make_corpus(folder)
    splits = []
    for sentences, log_probs in (corpus.dev, corpus.test):
        seconds = sum(map(len, log_probs.values())) * corpus.frame_seconds
        splits.append(Split(log_probs, sentences, seconds))
    what = f"made-up log-probabilities and language, 3-gram of {corpus.vocabulary} words"
    return Case(what, corpus.lm, *splits)


def profile() -> Any:
    """Where the time of our search goes, for people."""
    import cProfile
    import pstats

    case = demo_case()
    search = ours(case.lm, 2.0, 0.0, DEFAULT_BEAM)
    with cProfile.Profile() as found:
        search(case.test.log_probs)
    return pstats.Stats(found).sort_stats("tottime").print_stats(8)


if __name__ == "__main__":
    profile()
