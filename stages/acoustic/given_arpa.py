r"""An n-gram that is given as an ARPA file: its words brought to our rule of text, nothing else.

The official models of LibriSpeech write in capitals, our hypotheses are in small letters. Words
that the alphabet cannot spell stay as they are: the search has no such word, and their share of
probability belongs to them.

ARPA, as SRILM and KenLM write it: `\data\`, lines `ngram 1=200003`, and for each order a heading
`\1-grams:` with lines `log10 <tab> words <tab> log10 of the back-off`, the last of which may be
absent; `\end\`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import UserError
from stages.acoustic.vocabulary import as_word
from stages.prepare.lm_text import opened

COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")
SECTION = re.compile(r"\\(\d+)-grams:")
ENDS = ("<s>", "</s>")


@dataclass(frozen=True, slots=True)
class Given:
    """What an ARPA file holds.

    Attributes:
        ngrams: how many of each order.
        words: those that the alphabet can spell, by the rule of text.
    """

    ngrams: tuple[int, ...]
    words: tuple[str, ...]

    @property
    def order(self) -> int:
        return len(self.ngrams)


def take(path: Path, target: Path, alphabet: str, done: Callable[[int], None]) -> Given:
    """Write the ARPA file `path` to `target` with its words by the rule of text.

    Args:
        done: called with n-grams read.

    Raises:
        UserError: it cannot be read, is not ARPA or not what its header tells, or two of its
            words become one.
    """
    try:
        with opened(path) as lines, open(target, "w", encoding="utf-8") as out:
            return _Reader(path, lines, alphabet, done).copy(out)
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"lm.arpa: {path} is damaged: {error}") from error
    except OSError as error:
        if error.filename in (None, str(path)):  # not the disk that is written to
            raise UserError(f"lm.arpa: {path} cannot be read: {error}") from error
        raise


class _Reader:
    def __init__(
        self, path: Path, lines: Iterator[str], alphabet: str, done: Callable[[int], None]
    ) -> None:
        self._path, self._alphabet, self._done = path, alphabet, done
        self._numbered = enumerate(lines, 1)
        self._number = 0
        self._spelt: dict[str, str] = {}
        self._pending = ""  # a line that was read and belongs to what follows

    def copy(self, out: IO[str]) -> Given:
        counts = self._header()
        out.write("\\data\\\n" + "".join(f"ngram {n}={c}\n" for n, c in enumerate(counts, 1)))
        words: tuple[str, ...] = ()
        for order, count in enumerate(counts, 1):
            self._expect_section(order)
            out.write(f"\n\\{order}-grams:\n")
            if order == 1:
                unigrams = [self._entry(1) for _ in range(count)]
                self._spelt, words = self._spellings([fields[1] for fields in unigrams])
                for fields in unigrams:
                    out.write(self._line(fields, 1))
            else:
                for n in range(count):
                    out.write(self._line(self._entry(order), order))
                    if n % 10_000 == 9_999:
                        self._done(10_000)
        if self._content() != "\\end\\":
            raise self._odd("\\end\\ after as many n-grams as the header tells")
        out.write("\n\\end\\\n")
        return Given(tuple(counts), words)

    def _content(self) -> str:
        """The next line that is not blank; empty at the end of the file."""
        for number, line in self._numbered:
            if stripped := line.strip():
                self._number = number
                return stripped
        return ""

    def _header(self) -> list[int]:
        while (line := self._content()) != "\\data\\":  # comments may stand before it
            if not line:
                raise self._odd("an ARPA file, with a line \\data\\")
        counts: list[int] = []
        while match := COUNT.fullmatch(line := self._content()):
            if int(match[1]) != len(counts) + 1:
                raise self._odd(f"ngram {len(counts) + 1}=, the orders one after another")
            counts.append(int(match[2]))
        if len(counts) < 2 or min(counts) < 1:
            raise self._odd("an n-gram of order 2 or more, with entries of every order")
        self._pending = line
        return counts

    def _expect_section(self, order: int) -> None:
        line, self._pending = self._pending or self._content(), ""
        match = SECTION.fullmatch(line)
        if match is None or int(match[1]) != order:
            raise self._odd(f"\\{order}-grams: after as many n-grams as the header tells")

    def _entry(self, order: int) -> list[str]:
        """log10, the words, and maybe the back-off."""
        fields = self._content().split()
        if len(fields) not in (order + 1, order + 2) or not _is_number(fields[0]):
            raise self._odd(f"log10, {order} words, and maybe the back-off")
        return fields

    def _line(self, fields: list[str], order: int) -> str:
        try:
            words = " ".join([self._spelt[word] for word in fields[1 : order + 1]])
        except KeyError as error:
            raise self._odd(f"words of \\1-grams:, unlike {error}") from error
        behind = f"\t{fields[order + 1]}" if len(fields) == order + 2 else ""
        return f"{fields[0]}\t{words}{behind}\n"

    def _spellings(self, unigrams: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        """Each word as it is to be written, and those that the alphabet can spell."""
        missing = [end for end in ENDS if end not in unigrams]
        if missing:
            raise self._odd(f"{missing[0]} among \\1-grams:")
        spelt = {
            word: None if word[0] == "<" else as_word(word, self._alphabet) for word in unigrams
        }
        owner: dict[str, str] = {}
        for word, written in spelt.items():
            if written is None:
                continue
            other = owner.setdefault(written, word)
            if other != word:
                raise UserError(
                    f"lm.arpa: the words {other} and {word} of {self._path} both become {written}.",
                    constraint="words that differ by more than case and accents",
                    remedy="give a model of normalised text, or train one",
                )
        if not owner:
            raise UserError(
                f"lm.arpa: text.alphabet can spell no word of {self._path}.",
                found=", ".join(unigrams[:5]),
            )
        return {word: written or word for word, written in spelt.items()}, tuple(owner)

    def _odd(self, constraint: str) -> UserError:
        return UserError(
            f"lm.arpa: {self._path} is not a whole ARPA file: line {self._number}.",
            constraint=constraint,
            remedy="give an n-gram in ARPA's form, .gz or not; download it anew if it was cut",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
