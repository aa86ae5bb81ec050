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
out: `a <blank> b'`. A word of one piece could be followed by itself, where CTC would join the two;
it is spelled `b` (one frame) and `b <blank>` (any run, closed by a blank). So the one alignment
that is never considered is a run of two or more frames of a one-piece word that touches the next
word without a blank.
"""

from __future__ import annotations

import math
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
from stages.acoustic.lexicon import read_lexicon
from stages.acoustic.ngram import BINARY
from stages.acoustic.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMPOSSIBLE = -1e4  # finite: infinities would turn into NaN where the search subtracts


class LexiconBeam:
    """See the module. Weights change from call to call; lexicon and n-gram are read once."""

    tunable = True

    def __init__(
        self, targets: Targets, lexicon: dict[str, list[int]], lm: Path, settings: DecodeSettings
    ) -> None:
        self.targets, self.settings = targets, settings
        self.words = list(lexicon)
        twins = targets.boundary is None
        self.columns = 2 * len(targets) + 1 if twins else len(targets)
        self.silence = self.columns - 1 if twins else targets.boundary
        self.lm = KenLM(str(lm), _dictionary(self.words))
        self.trie = Trie(self.columns, self.silence)
        start = self.lm.start(False)
        for index, word in enumerate(self.words):
            score = self.lm.score(start, index)[1]
            for spelling in _spellings(lexicon[word], targets):
                self.trie.insert(spelling, index, score)
        self.trie.smear(SmearingMode.MAX)  # the best word still possible guides the search

    def decode(
        self, log_probs_TV: NDArray[Any], lm_weight: float = 0.0, word_score: float = 0.0
    ) -> list[str]:
        """The words of one utterance."""
        if not len(log_probs_TV):
            return []
        options = LexiconDecoderOptions(
            beam_size=self.settings.beam,
            beam_size_token=self.columns,
            beam_threshold=self.settings.beam_threshold,
            lm_weight=lm_weight,
            word_score=word_score,
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
        results = search.decode(emissions.ctypes.data, *emissions.shape)
        return [self.words[i] for i in results[0].words if i >= 0] if results else []

    def _emissions(self, log_probs_TV: NDArray[Any]) -> NDArray[np.float32]:
        """The columns that the search knows, with the closing frame."""
        frames, targets = log_probs_TV.shape
        emissions = np.full((frames + 1, self.columns), IMPOSSIBLE, np.float32)
        known = np.maximum(log_probs_TV, IMPOSSIBLE)
        emissions[:-1, :targets] = known
        if self.columns > targets:
            emissions[:-1, targets : 2 * targets] = known
        else:
            emissions[-1, self.silence] = 0.0
        emissions[-1, self.targets.blank] = 0.0
        return emissions


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
    blank, twin = targets.blank, last + len(targets)
    if not head:
        return [[last], [last, blank]]
    if head[-1] == last:
        head.append(blank)
    return [[*head, twin], [*head, last, twin]]


def build(folder_lm: Path, settings: DecodeSettings) -> LexiconBeam:
    """The decoder for the targets, lexicon and n-gram of stage 4."""
    targets = Targets.load(folder_lm)
    return LexiconBeam(targets, read_lexicon(folder_lm, targets), folder_lm / BINARY, settings)
