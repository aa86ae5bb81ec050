"""Which words the search may write: of the text, its most frequent ones, or those of a lexicon."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from stages.prepare.lm_text import opened
from stages.prepare.text import normalise


@dataclass(frozen=True, slots=True)
class Counted:
    """How often each word stands in a text. A text of 800 M words has some 1 M of them."""

    words: Counter[str]
    sentences: int

    @property
    def running(self) -> int:
        """Words of the text, each as often as it stands there."""
        return self.words.total()

    def most_frequent(self, count: int | None) -> list[str]:
        """So many words, the most frequent first; all where `count` is None."""
        ranked = sorted(self.words.items(), key=lambda item: (-item[1], item[0]))
        return [word for word, _ in ranked[:count]]


def count(sentences: Iterable[str]) -> Counted:
    """Count words, a sentence at a time."""
    words: Counter[str] = Counter()
    number = 0
    for sentence in sentences:
        words.update(sentence.split())
        number += 1
    return Counted(words, number)


def read_lexicon_words(path: Path, alphabet: str) -> tuple[list[str], int]:
    """The words of a lexicon, by the rule of text, each once; and how many could not be taken.

    A line is a word, alone or with something behind it (the official lexicon of LibriSpeech has
    phones there). A word of other letters than the alphabet's, or that becomes two, is left out.

    Raises:
        UserError: the file cannot be read, or no word is left.
    """
    found: dict[str, None] = {}
    left_out = 0
    for first in _first_columns(path):
        if word := as_word(first, alphabet):
            found[word] = None
        else:
            left_out += 1
    if not found:
        raise UserError(
            f"lm.lexicon: {path} has no word that text.alphabet can spell.",
            constraint="a word a line, first on its line",
            found=f"{left_out} others" if left_out else "no line",
            remedy="give the lexicon as text, .gz or not, or correct text.alphabet",
        )
    return list(found), left_out


def as_word(token: str, alphabet: str) -> str | None:
    """A token as the rule of text leaves it; None where it would lose letters or become two."""
    word, dropped = normalise(token, alphabet)
    return word if word and not dropped and " " not in word else None


def _first_columns(path: Path) -> Iterator[str]:
    try:
        with opened(path) as lines:
            for line in lines:
                if fields := line.split(None, 1):
                    yield fields[0]
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"lm.lexicon: {path} cannot be read: {error}") from error
