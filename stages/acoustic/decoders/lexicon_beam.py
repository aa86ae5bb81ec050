"""Beam search over a lexicon with the word n-gram: flashlight-text's LexiconDecoder.

It finds the words W and the CTC alignment with the highest
    sum of log-probabilities + lm_weight * log10 P(W) + word_score * |W|
among those that the beam keeps (the best alignment counts, not the sum over alignments).
P(W) includes the end of the sentence; KenLM's log10 is the unit in which published weights
stand. Raw logits give the same words as their log-softmax: a constant added to all targets of a
frame is added to every hypothesis. Words outside the lexicon cannot be written.

flashlight emits a word on the first frame of its last target and then waits for "silence", so
that a last target which lasts for two frames would have to be paid for as silence. Hence:

Letters: every spelling ends with the boundary `|`, which is that silence and may last. A frame is
appended in which only the blank and the boundary are possible, so that the last word of an
utterance is closed although no boundary follows it.

Pieces: there is no boundary, and each piece gets a second column, its word-final twin with the
same log-probability. A word `a b` is spelled `a b'` and `a b b'`: the twin takes the last frame
of a run of any length. If `a` is `b` too, CTC wants a blank between them, which then is written
out: `a <blank>' b'`. A word of one piece could be followed by itself, where CTC would join the two;
it is spelled `b` (one frame) and `b <blank>'` (any run, closed by a blank). So the one alignment
that is never considered is a run of two or more frames of a one-piece word that touches the next
word without a blank. And one is considered that is none: `b <blank>' b'`, which CTC reads as two.
A hypothesis with such a path is aligned again, to what spells it, before it is ranked.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    SmearingMode,
    Trie,
)
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from pipeline.recipe import DecodeSettings
from stages.acoustic.ctc_path import best_path
from stages.acoustic.decoders.greedy import collapse
from stages.acoustic.decoding import NO_WEIGHTS, Weights
from stages.acoustic.hypothesis import Hypothesis, runs
from stages.acoustic.lexicon import read_lexicon
from stages.acoustic.ngram import BINARY
from stages.acoustic.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Flashlight keeps one of two equal hypotheses by where they lie in memory, which is another place
# in another process. Twins, and words that may end now or a frame later, are equal by design. So
# in the search a twin is worse than its piece by TIE, a word better by TIE, and each target of each
# frame better by a part of TIE, always the same one. Results are ranked without all that.
TIE = 1e-4  # nats; a hundred times what a float tells apart at -10
IMPOSSIBLE = -1e4  # finite: infinities would turn into NaN where the search subtracts


class LexiconBeam:
    """See the module. Weights change from call to call; lexicon and n-gram are read once."""

    tunable = True

    def __init__(
        self, targets: Targets, lexicon: dict[str, list[int]], lm: Path, settings: DecodeSettings
    ) -> None:
        self.targets, self.settings = targets, settings
        self.words, self.lexicon = list(lexicon), lexicon
        twins = targets.boundary is None
        self.columns = 2 * len(targets) + 1 if twins else len(targets)
        self.silence = self.columns - 1 if twins else targets.boundary
        self._drawn = np.zeros((0, self.columns))
        self.lm = KenLM(str(lm), _dictionary(self.words))
        self.trie = Trie(self.columns, self.silence)
        start = self.lm.start(False)
        for index, word in enumerate(self.words):
            score = self.lm.score(start, index)[1]
            for spelling in _spellings(lexicon[word], targets):
                self.trie.insert(spelling, index, score)
        self.trie.smear(SmearingMode.MAX)  # the best word still possible guides the search

    def decode(self, log_probs_TV: NDArray[Any], weights: Weights = NO_WEIGHTS) -> list[str]:
        """The words of one utterance. Without a beam: the widest of the settings'."""
        if self.targets.boundary is None:
            return list(self.nbest(log_probs_TV, weights)[0].words)
        results = self._search(log_probs_TV, weights)
        if not results:
            return []
        within = results[0].score - self._doubt(log_probs_TV, results[0])
        near = list(itertools.takewhile(lambda r: r.score >= within, results))
        if len(near) == 1:
            return list(self._words(near[0]))
        found = [self._hypothesis(r, log_probs_TV, weights) for r in near]
        return list(min(found, key=lambda h: (-h.total, h.words)).words)

    def nbest(
        self, log_probs_TV: NDArray[Any], weights: Weights = NO_WEIGHTS, count: int = 1
    ) -> list[Hypothesis]:
        """The best hypotheses of different words, at most `count`, the best first.

        Their number is also bounded by what the beam keeps to the end. Equal ones are sorted by
        their words, so that nothing hangs on where they lie in memory.
        """
        results = self._search(log_probs_TV, weights)
        ranked = sorted(results, key=lambda result: (-result.score, self._words(result)))
        found: dict[tuple[str, ...], Hypothesis] = {}
        for result in ranked:
            could_be = result.score + self._doubt(log_probs_TV, result)
            better = sum(hypothesis.total > could_be for hypothesis in found.values())
            if better >= count:
                break
            hypothesis = self._hypothesis(result, log_probs_TV, weights)
            if self.targets.boundary is None:
                hypothesis = self._aligned(hypothesis, log_probs_TV)
            known = found.get(hypothesis.words)
            if known is None or hypothesis.total > known.total:
                found[hypothesis.words] = hypothesis
        best = sorted(found.values(), key=lambda h: (-h.total, h.words))[:count]
        return best or [Hypothesis((), 0.0, None, 0.0)]

    def _search(self, log_probs_TV: NDArray[Any], weights: Weights) -> list[Any]:
        """flashlight's results, the best first; none where there are no frames."""
        if not len(log_probs_TV):
            return []
        options = LexiconDecoderOptions(
            beam_size=weights.beam or max(self.settings.beam),
            beam_size_token=self.columns,
            beam_threshold=self.settings.beam_threshold,
            lm_weight=weights.lm_weight,
            word_score=weights.word_score + TIE,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=CriterionType.CTC,
        )
        blank, unknown = self.targets.blank, len(self.words)
        search = LexiconDecoder(
            options, self.trie, self.lm, self.silence, blank, unknown, [], False
        )
        emissions = self._emissions(log_probs_TV)
        results: list[Any] = search.decode(emissions.ctypes.data, *emissions.shape)
        return results

    def _words(self, result: Any) -> tuple[str, ...]:
        return tuple(self.words[i] for i in result.words if i >= 0)

    def _doubt(self, log_probs_TV: NDArray[Any], result: Any) -> float:
        """How much the search may have favoured any result, at most."""
        return 2 * TIE * (1 + len(log_probs_TV) + len(self._words(result)))

    def _hypothesis(self, result: Any, log_probs_TV: NDArray[Any], weights: Weights) -> Hypothesis:
        """A result in our terms: without the closing frame, twins as the pieces they are.

        flashlight keeps a target and a word for each frame, between a beginning and an end.
        """
        frames, targets = log_probs_TV.shape
        tokens = result.tokens[1 : frames + 1]
        blank = self.targets.blank  # in place of a silence that is no target
        path = [t if t < targets else t - targets if t < 2 * targets else blank for t in tokens]
        ends = [t for t, word in enumerate(result.words[1 : frames + 2]) if word >= 0]
        acoustic = sum(float(log_probs_TV[t, v]) for t, v in enumerate(path))
        ends = [min(end, frames - 1) for end in ends]  # the last one in the closing frame
        words, lm = self._words(result), result.lmScore
        total = acoustic + weights.lm_weight * lm + weights.word_score * len(words)
        return Hypothesis(words, acoustic, lm, total, tuple(path), tuple(ends))

    def _aligned(self, found: Hypothesis, log_probs_TV: NDArray[Any]) -> Hypothesis:
        """The hypothesis on a path that spells its words: pieces only, see the module."""
        spelling = [i for word in found.words for i in self.lexicon[word]]
        blank = self.targets.blank
        acoustic, path = found.acoustic, found.path
        if collapse(list(path), blank) != spelling:
            aligned = best_path(log_probs_TV, spelling, blank)
            if aligned is None:
                return replace(found, total=-math.inf)
            acoustic, path = aligned[0], tuple(aligned[1])
        lasts = [after - 1 for target, _, after in runs(path) if target != blank]
        counts = itertools.accumulate(len(self.lexicon[word]) for word in found.words)
        return replace(
            found,
            acoustic=acoustic,
            total=found.total - found.acoustic + acoustic,
            path=path,
            ends=tuple(lasts[count - 1] for count in counts),
        )

    def _emissions(self, log_probs_TV: NDArray[Any]) -> NDArray[np.float32]:
        """The columns that the search knows, with the closing frame."""
        frames, targets = log_probs_TV.shape
        emissions = np.full((frames + 1, self.columns), IMPOSSIBLE, np.float32)
        known = np.maximum(log_probs_TV, IMPOSSIBLE)
        emissions[:-1, :targets] = known
        if self.columns > targets:
            emissions[:-1, targets : 2 * targets] = known - TIE
            emissions[-1, targets + self.targets.blank] = -TIE
        else:
            emissions[-1, self.silence] = 0.0
        emissions[-1, self.targets.blank] = 0.0
        emissions += self._favours(len(emissions))
        return emissions

    def _favours(self, frames: int) -> NDArray[np.float64]:
        """By how much each column of each frame is favoured: the same whatever is asked first."""
        if frames > len(self._drawn):
            shape = (2 * frames, self.columns)
            self._drawn = TIE / 2 * np.random.RandomState(0).random_sample(shape)
        return self._drawn[:frames]


def _dictionary(words: list[str]) -> Dictionary:
    dictionary = Dictionary()
    for word in [*words, "<unk>"]:
        dictionary.add_entry(word)
    return dictionary


def _spellings(spelling: list[int], targets: Targets) -> list[list[int]]:
    """The paths of one word through the trie; the module tells why."""
    if targets.boundary is not None:
        return [spelling]
    *head, last = spelling
    blank, twin = targets.blank + len(targets), last + len(targets)
    if not head:
        return [[last], [last, blank]]
    if head[-1] == last:
        head.append(blank)
    return [[*head, twin], [*head, last, twin]]


def build(folder_lm: Path, settings: DecodeSettings) -> LexiconBeam:
    """The decoder for the targets, lexicon and n-gram of stage 4."""
    targets = Targets.load(folder_lm)
    return LexiconBeam(targets, read_lexicon(folder_lm, targets), folder_lm / BINARY, settings)
