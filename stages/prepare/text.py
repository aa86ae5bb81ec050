"""One rule of text, for the language model, the targets and the scoring alike.

Stage 0 applies it, once, to every transcript and to the text of the language model. What is
behind it reads no other text: the targets and references are transcripts of stage 0, the lexicon
and the n-gram are made of its text, and hypotheses are spelt in the letters of both. So nothing
is normalised again when errors are counted, and a transcript that was goes through unchanged.

What `normalise` does, in this order:
1. Typographic apostrophes and primes become `'`; hyphens and dashes become a space, unless the
   alphabet holds them; a soft hyphen and other characters that nobody sees are removed.
2. Unicode compatibility forms are unfolded (NFKC: full-width letters, ligatures), then lower case.
3. A letter outside the alphabet loses its accents (NFD without combining marks); one that the
   alphabet holds as it is, such as `ä` in German, stays.
4. What is still neither in the alphabet nor a space is removed and counted; so is a word of
   nothing but apostrophes.
5. White space of every kind becomes one space; none is left at the ends.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from pipeline.errors import UserError

APOSTROPHES = "’‘‛ʼʹ′´`＇"  # U+2019 U+2018 U+201B U+02BC U+02B9 U+2032 U+00B4 U+0060 U+FF07
MINUS = "−"
ZERO_WIDTH_SPACE = "\u200b"  # marks the end of a word where spaces are not written
RULE = (
    "Unicode compatibility forms unfolded (NFKC), lower case, typographic apostrophes made plain, "
    "hyphens made spaces, accents taken off letters that the alphabet lacks, and what is then not "
    "in the alphabet removed"
)  # the rule below in a line, for those who read results
RESERVED = "<>|"  # <blank>, <s>, <unk> and the word boundary


@lru_cache(maxsize=64)
def letters(alphabet: str) -> tuple[str, ...]:
    """The alphabet's letters in its order: composed, lower case, each once.

    Raises:
        UserError: white space or a reserved character stands in it.
    """
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", alphabet).lower())
    bad = [c for c in composed if c.isspace() or c in RESERVED or unicodedata.combining(c)]
    if bad:
        raise UserError(
            "text.alphabet holds characters that cannot be letters.",
            constraint=f"no white space, no lone accent, none of {RESERVED}",
            found=", ".join(repr(c) for c in bad),
        )
    return tuple(dict.fromkeys(composed))


def normalise(transcript: str, alphabet: str) -> tuple[str, int]:
    """`transcript` by the rule above, and how many characters were dropped by its point 4.

    Raises:
        UserError: the alphabet cannot be one (see `letters`).
    """
    known = _known(alphabet)
    plain = transcript.lower() if transcript.isascii() else None
    if plain is not None and known.issuperset(plain.replace(" ", "")):
        return _spaced(plain, 0)  # what the rest would come to, a hundred times faster
    text = "".join(_replaced(c, known) for c in transcript)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).lower())
    kept, dropped = [], 0
    for character in text:
        stays, lost = _kept(character, known)
        kept.append(stays)
        dropped += lost
    return _spaced("".join(kept), dropped)


@lru_cache(maxsize=64)
def _known(alphabet: str) -> frozenset[str]:
    return frozenset(letters(alphabet))


def _spaced(text: str, dropped: int) -> tuple[str, int]:
    """Words with a space between, and what is dropped with those of nothing but apostrophes."""
    words = text.split()
    lone = [w for w in words if not w.strip("'")]
    return " ".join(w for w in words if w.strip("'")), dropped + sum(map(len, lone))


def _replaced(character: str, known: frozenset[str]) -> str:
    """Before NFKC, which turns an acute accent that stands for an apostrophe into a space."""
    if character in known:
        return character
    if character in APOSTROPHES:
        return "'"
    category = unicodedata.category(character)
    if category == "Pd" or character in (MINUS, ZERO_WIDTH_SPACE) or character.isspace():
        return " "
    return "" if category == "Cf" else character


def _kept(character: str, known: frozenset[str]) -> tuple[str, int]:
    """What stays of one character, and how many were lost with the rest."""
    if character in known:
        return character, 0
    if character.isspace():
        return " ", 0
    bare = [c for c in unicodedata.normalize("NFD", character) if not unicodedata.combining(c)]
    stays = "".join(c for c in unicodedata.normalize("NFC", "".join(bare)) if c in known)
    lost = 1 if bare and not stays else 0
    return stays, lost
