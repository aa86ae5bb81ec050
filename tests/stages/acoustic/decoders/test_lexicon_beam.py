"""The beam search against an exhaustive one, on cases small enough to write every path down."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import kenlm
import numpy as np
import pytest

from pipeline.recipe import DecodeSettings
from stages.acoustic.decoders.greedy import collapse
from stages.acoustic.decoders.lexicon_beam import LexiconBeam
from stages.acoustic.targets import Targets

SETTINGS = DecodeSettings(beam=5000, beam_threshold=1000.0)
ARPA = """\\data\\
ngram 1=6
ngram 2=5

\\1-grams:
-4\t<unk>
-99\t<s>\t-0.2
-0.9\t</s>
-0.5\tone\t-0.3
-0.7\ttwo\t-0.1
-1.1\tthree\t-0.4

\\2-grams:
-0.3\t<s> one
-0.4\tone two
-0.2\ttwo </s>
-1.5\tone one
-0.1\tthree </s>

\\end\\
"""


class Pieces:
    """Stands for a SentencePiece model: here only the spelling in the lexicon matters."""


# Blank is 0. Letters: 1 is the boundary. The words share beginnings and double letters.
LETTERS = Targets("letters", ["<blank>", "|", "a", "b"])
SPELT = {"one": [2, 1], "two": [2, 3, 1], "three": [3, 3, 1]}
PIECES = Targets("sentencepiece", ["<blank>", "▁a", "▁ab", "b"], Pieces())
PIECED = {"one": [1], "two": [1, 3], "three": [2, 3, 3]}


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


def exhaustive(
    log_probs_TV: np.ndarray,
    targets: Targets,
    lexicon: dict[str, list[int]],
    lm: kenlm.Model,
    lm_weight: float,
    word_score: float,
) -> tuple[float, list[str]]:
    """The best words over every path of every frame."""
    reverse = {tuple(s): w for w, s in lexicon.items()}
    frames, symbols = log_probs_TV.shape
    best = (-math.inf, ["nothing"])
    for path in itertools.product(range(symbols), repeat=frames):
        words = spelt(list(path), targets, reverse)
        if words is None:
            continue
        score = sum(log_probs_TV[t, v] for t, v in enumerate(path))
        score += lm_weight * lm.score(" ".join(words)) + word_score * len(words)
        best = max(best, (score, words))
    return best


def spelt(
    path: list[int], targets: Targets, reverse: dict[tuple[int, ...], str]
) -> list[str] | None:
    """The words of a path, or None where it writes none of the lexicon's."""
    ids = collapse(path, 0)
    if not ids:
        return []
    if targets.boundary is not None:
        runs = [tuple(g) for is_sep, g in itertools.groupby(ids, lambda i: i == 1) if not is_sep]
        words = [reverse.get((*run, 1)) for run in runs]
        return None if None in words else words
    if touching_run(path, reverse):
        return None
    starts = [i for i, v in enumerate(ids) if targets.symbols[v].startswith("▁")]
    if not starts or starts[0]:
        return None
    ends = [*starts[1:], len(ids)]
    words = [reverse.get(tuple(ids[a:b])) for a, b in zip(starts, ends, strict=True)]
    return None if None in words else words


def touching_run(path: list[int], reverse: dict[tuple[int, ...], str]) -> bool:
    """The alignment that the search leaves out: see the module under test."""
    runs = [(v, len(list(g))) for v, g in itertools.groupby(path)]
    return any(
        length > 1 and (v,) in reverse and after in (1, 2)
        for (v, length), (after, _) in itertools.pairwise(runs)
    )


@pytest.mark.parametrize("kind", ["letters", "pieces"])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, 0.0), (2.0, 1.5), (0.5, -1.0)])
def test_agrees_with_an_exhaustive_search(
    arpa: Path, kind: str, weights: tuple[float, float]
) -> None:
    targets, lexicon = (LETTERS, SPELT) if kind == "letters" else (PIECES, PIECED)
    decoder = LexiconBeam(targets, lexicon, arpa, SETTINGS)
    lm = kenlm.Model(str(arpa))
    random = np.random.default_rng(7)
    several = 0
    for _ in range(15):
        log_probs_TV = random.normal(size=(6, 4)).astype(np.float32) * 2
        _, words = exhaustive(log_probs_TV, targets, lexicon, lm, *weights)
        assert decoder.decode(log_probs_TV, *weights) == words
        several += len(words) > 1
    assert several  # the cases are not all trivial


def sharp(path: list[int], symbols: int) -> np.ndarray:
    """Log-probabilities that all but dictate a path."""
    logits = np.full((len(path), symbols), -12.0, np.float32)
    logits[np.arange(len(path)), path] = 0.0
    return logits


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([2, 2, 1, 2, 3, 3], ["one", "two"]),  # no boundary at the end, last letter lasts
        ([1, 1, 3, 0, 3, 3, 1, 1], ["three"]),  # boundaries around, a double letter
        ([3, 0, 3, 0, 1, 0, 1, 2, 0], ["three", "one"]),  # two boundaries are one
        ([0, 0, 0], []),
    ],
)
def test_sharp_letters_give_what_they_spell(arpa: Path, path: list[int], words: list[str]) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    assert decoder.decode(sharp(path, 4), 0.5, 0.0) == words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([1, 1, 1, 0, 1, 1], ["one", "one"]),
        ([1, 1, 1, 1], ["one"]),  # a long run is one word, not two
        ([1, 1, 3, 3, 3], ["two"]),
        ([2, 3, 3, 0, 3, 3, 1, 3], ["three", "two"]),
    ],
)
@pytest.mark.parametrize("word_score", [0.0, 4.0])
def test_sharp_pieces_give_what_they_spell(
    arpa: Path, path: list[int], words: list[str], word_score: float
) -> None:
    decoder = LexiconBeam(PIECES, PIECED, arpa, DecodeSettings())
    assert decoder.decode(sharp(path, 4), 0.0, word_score) == words


def test_logits_and_log_probabilities_give_the_same_words(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    logits_TV = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32) * 3
    log_probs_TV = logits_TV - np.log(np.exp(logits_TV).sum(1, keepdims=True))
    words = decoder.decode(logits_TV, 1.0, 1.0)
    assert len(words) > 2
    assert decoder.decode(log_probs_TV, 1.0, 1.0) == words


def test_the_language_model_settles_what_the_sound_leaves_open(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    log_probs_TV = sharp([2, 1, 2, 3], 4)
    log_probs_TV[3] = [-0.6, -5.0, -5.0, -0.9]  # `one one` a little likelier than `one two`
    assert decoder.decode(log_probs_TV, 0.0, 0.0) == ["one", "one"]
    assert decoder.decode(log_probs_TV, 2.0, 0.0) == ["one", "two"]


def test_infinitely_unlikely_targets_do_no_harm(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    log_probs_TV = np.where(sharp([2, 2, 3, 1, 2], 4) < -1, -np.inf, 0.0).astype(np.float32)
    assert decoder.decode(log_probs_TV, 1.0, 0.0) == ["two", "one"]


def test_no_frames_give_no_words(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    assert decoder.decode(np.zeros((0, 4), np.float32), 1.0, 1.0) == []
