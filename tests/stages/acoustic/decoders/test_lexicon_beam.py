"""The beam search against an exhaustive one, on cases small enough to write every path down."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import kenlm
import numpy as np
import pytest

from pipeline.recipe import DecodeSettings
from stages.acoustic.decoders.greedy import Greedy, collapse
from stages.acoustic.decoders.lexicon_beam import LexiconBeam
from stages.acoustic.decoding import Weights
from stages.acoustic.hypothesis import word_times
from stages.acoustic.targets import Targets

SETTINGS = DecodeSettings(beam=[5000], beam_threshold=1000.0)
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
    with_touching: bool = False,
) -> list[tuple[float, tuple[str, ...]]]:
    """What every sequence of words scores on its best path, the best first."""
    reverse = {tuple(s): w for w, s in lexicon.items()}
    pieces = targets.boundary is None
    frames, symbols = log_probs_TV.shape
    best: dict[tuple[str, ...], float] = {}
    for path in itertools.product(range(symbols), repeat=frames):
        words = spelt(list(path), targets, reverse)
        if words is None or (not with_touching and pieces and touching_run(list(path), reverse)):
            continue
        score = sum(float(log_probs_TV[t, v]) for t, v in enumerate(path))
        score += lm_weight * lm.score(" ".join(words)) + word_score * len(words)
        best[tuple(words)] = max(best.get(tuple(words), -math.inf), score)
    return sorted(((score, words) for words, score in best.items()), reverse=True)


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
    starts = [i for i, v in enumerate(ids) if targets.symbols[v].startswith("▁")]
    if not starts or starts[0]:
        return None
    ends = [*starts[1:], len(ids)]
    words = [reverse.get(tuple(ids[a:b])) for a, b in zip(starts, ends, strict=True)]
    return None if None in words else words


def ends_anywhere(reverse: dict[tuple[int, ...], str]) -> dict[tuple[int, ...], str]:
    """Spellings without the boundary after them, too."""
    return reverse | {spelling[:-1]: w for spelling, w in reverse.items() if spelling[-1] == 1}


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
        case = (log_probs_TV, targets, lexicon, lm, *weights)
        expected, whole = exhaustive(*case), exhaustive(*case, with_touching=True)
        words = expected[0][1]
        assert decoder.decode(log_probs_TV, Weights(*weights)) == list(words)
        several += len(words) > 1
        found = decoder.nbest(log_probs_TV, Weights(*weights), count=1000)
        assert len(found) == len(expected) > 5  # all there are
        totals = [h.total for h in found]
        assert totals == sorted(totals, reverse=True)
        least, most = ({w: score for score, w in each} for each in (expected, whole))
        for h in found:
            assert least[h.words] - 1e-4 < h.total < most[h.words] + 1e-4
            assert h.lm == pytest.approx(lm.score(" ".join(h.words)), abs=1e-4)
            path = [float(log_probs_TV[t, v]) for t, v in enumerate(h.path)]
            assert h.acoustic == pytest.approx(sum(path), abs=1e-4)
            total = h.acoustic + weights[0] * h.lm + weights[1] * len(h.words)
            assert h.total == pytest.approx(total, abs=1e-4)
            reverse = {tuple(s): w for w, s in lexicon.items()}
            assert spelt(list(h.path), targets, reverse) == list(h.words)
            times = word_times(h, log_probs_TV, {0, targets.boundary})
            for word in times:
                piece = spelt(list(h.path[word.first : word.stop]), targets, ends_anywhere(reverse))
                assert piece == [word.word]
        cut = [h.words for h in decoder.nbest(log_probs_TV, Weights(*weights), count=3)]
        assert cut == [h.words for h in found[:3]]
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
    assert decoder.decode(sharp(path, 4), Weights(0.5, 0.0)) == words


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
    assert decoder.decode(sharp(path, 4), Weights(0.0, word_score)) == words


@pytest.mark.parametrize("kind", ["letters", "pieces"])
def test_nothing_hangs_on_where_hypotheses_lie_in_memory(arpa: Path, kind: str) -> None:
    """Decoders between other things in memory: pieces have many paths of equal score."""
    targets, lexicon = (LETTERS, SPELT) if kind == "letters" else (PIECES, PIECED)
    random = np.random.default_rng(3)
    speech = [random.normal(size=(40, 4)).astype(np.float32) * 0.3 for _ in range(40)]
    kept, found = [], set()
    for _ in range(8):
        kept.append([bytearray(int(n)) for n in random.integers(10, 5000, 500)])
        decoder = LexiconBeam(targets, lexicon, arpa, DecodeSettings(beam=[5]))
        kept.append(decoder)
        hypotheses = [decoder.nbest(x)[0] for x in speech]
        words = [tuple(decoder.decode(x)) for x in speech]
        assert words == [h.words for h in hypotheses]
        found.add(tuple((h.words, h.path, h.ends) for h in hypotheses))
    assert len(found) == 1


def test_logits_and_log_probabilities_give_the_same_words(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    logits_TV = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32) * 3
    log_probs_TV = logits_TV - np.log(np.exp(logits_TV).sum(1, keepdims=True))
    words = decoder.decode(logits_TV, Weights(1.0, 1.0))
    assert len(words) > 2
    assert decoder.decode(log_probs_TV, Weights(1.0, 1.0)) == words


def test_the_language_model_settles_what_the_sound_leaves_open(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    log_probs_TV = sharp([2, 1, 2, 3], 4)
    log_probs_TV[3] = [-0.6, -5.0, -5.0, -0.9]  # `one one` a little likelier than `one two`
    assert decoder.decode(log_probs_TV, Weights(0.0, 0.0)) == ["one", "one"]
    assert decoder.decode(log_probs_TV, Weights(2.0, 0.0)) == ["one", "two"]


def test_infinitely_unlikely_targets_do_no_harm(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    log_probs_TV = np.where(sharp([2, 2, 3, 1, 2], 4) < -1, -np.inf, 0.0).astype(np.float32)
    assert decoder.decode(log_probs_TV, Weights(1.0, 0.0)) == ["two", "one"]


def test_no_frames_give_no_words(arpa: Path) -> None:
    decoder = LexiconBeam(LETTERS, SPELT, arpa, DecodeSettings())
    assert decoder.decode(np.zeros((0, 4), np.float32), Weights(1.0, 1.0)) == []
    [found] = decoder.nbest(np.zeros((0, 4), np.float32), Weights(1.0, 1.0), 3)
    assert (found.words, found.path) == ((), ())


def test_agrees_with_greedy_where_only_the_sound_counts(arpa: Path) -> None:
    """No weights, clear speech, and every word of it in the lexicon."""
    letters = {"a": [2], "ab": [2, 3], "bb": [3, 3]}
    lexicon = {word: [*spelling, 1] for word, spelling in letters.items()}
    decoder, greedy = LexiconBeam(LETTERS, lexicon, arpa, DecodeSettings()), Greedy(LETTERS)
    random = np.random.default_rng(3)
    told = set()
    for _ in range(30):
        path = [0] * int(random.integers(3))
        for word in random.choice(list(letters), random.integers(1, 6)):
            for last, letter in itertools.pairwise([0, *letters[str(word)], 1]):
                path += [0] * int(letter == last or random.integers(2))
                path += [letter] * int(random.integers(1, 4))
        log_probs_TV = sharp(path, 4) + random.normal(size=(len(path), 4)).astype(np.float32)
        words = greedy.decode(log_probs_TV)
        told.add(tuple(words))
        [beamed], [best] = decoder.nbest(log_probs_TV), greedy.nbest(log_probs_TV)
        assert decoder.decode(log_probs_TV) == words == list(beamed.words)
        assert beamed.path == best.path
        assert beamed.acoustic == pytest.approx(best.acoustic, abs=1e-3)
        times = [word_times(h, log_probs_TV, {0, 1}) for h in (beamed, best)]
        assert times[0] == times[1]
    assert len(told) > 20


def test_a_cut_off_word_is_none_and_does_no_harm(arpa: Path) -> None:
    """Three letters that no word has, all kept: nothing can be closed."""
    targets = Targets("letters", ["<blank>", "|", "a", "b"])
    decoder = LexiconBeam(targets, {"long": [2, 3, 2, 3, 1]}, arpa, DecodeSettings(beam=[1]))
    log_probs_TV = sharp([2, 3, 0, 2], 4)
    for found in decoder.nbest(log_probs_TV, count=2):
        assert found.words == () and len(found.path) == 4
        assert word_times(found, log_probs_TV, {0, 1}) == ()
