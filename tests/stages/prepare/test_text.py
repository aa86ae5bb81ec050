"""The rule of text, as a table of cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from stages.prepare.text import letters, normalise

ENGLISH = "abcdefghijklmnopqrstuvwxyz'"
GERMAN = "abcdefghijklmnopqrstuvwxyzäöüß"


@pytest.mark.parametrize(
    ("transcript", "normal", "dropped"),
    [
        ("turn left", "turn left", 0),
        ("Turn LEFT", "turn left", 0),
        ("café", "cafe", 0),
        ("cafe\u0301", "cafe", 0),  # the accent as a character of its own
        ("Ａｂｃ ﬁne", "abc fine", 0),
        ("don’t ‘tis donʼt don´t don＇t", "don't 'tis don't don't don't", 0),
        ("well-known — twenty‑one−two", "well known twenty one two", 0),
        ("stop.", "stop", 1),
        ("really?! (yes)", "really yes", 4),
        ("room 42", "room", 2),
        ("a ' b ''", "a b", 3),
        ("tab\tnew\nline\r\u00a0\u2003\u3000end ", "tab new line end", 0),
        ("\ufeffbom so\u00adft zero\u200bwidth", "bom soft zero width", 0),
        ("İstanbul", "istanbul", 0),
        ("smørrebrød", "smrrebrd", 2),
        ("привет", "", 6),
        ("", "", 0),
        ("   ", "", 0),
    ],
)
@pytest.mark.case(19, 23)
def test_english_text_is_normalised(transcript: str, normal: str, dropped: int) -> None:
    assert normalise(transcript, ENGLISH) == (normal, dropped)


@pytest.mark.parametrize(
    ("transcript", "normal", "dropped"),
    [
        ("Äpfel über Straße", "äpfel über straße", 0),
        ("A\u0308pfel", "äpfel", 0),
        ("Café", "cafe", 0),
        ("geht's", "gehts", 1),
    ],
)
def test_letters_of_the_alphabet_keep_their_accents(
    transcript: str, normal: str, dropped: int
) -> None:
    assert normalise(transcript, GERMAN) == (normal, dropped)


def test_a_hyphen_in_the_alphabet_stays() -> None:
    assert normalise("well-known", "abcdefghijklmnopqrstuvwxyz-") == ("well-known", 0)


def test_hangul_syllables_survive() -> None:
    assert normalise("한 글", "한글") == ("한 글", 0)


@pytest.mark.parametrize("transcript", ["Don’t — stop, İ´s “ﬁne”", "a\u0301\u0328 ÅÄ½"])
def test_normalising_twice_changes_nothing(transcript: str) -> None:
    once, _ = normalise(transcript, ENGLISH)
    assert normalise(once, ENGLISH) == (once, 0)


def test_alphabet_is_lower_case_each_letter_once() -> None:
    assert letters("ABba'") == ("a", "b", "'")


@pytest.mark.parametrize("alphabet", ["ab c", "a|b", "ab<", "a\u0301b\u0301"])
def test_an_alphabet_with_reserved_characters_is_refused(alphabet: str) -> None:
    if alphabet == "a\u0301b\u0301":  # á composes, b with an accent does not
        with pytest.raises(UserError, match="alphabet"):
            letters(alphabet)
        return
    with pytest.raises(UserError, match="alphabet"):
        normalise("x", alphabet)


@given(st.text(st.sampled_from("abzAZ'`- .\t\n1é"), max_size=30))
@pytest.mark.parametrize("alphabet", [ENGLISH, "abz-", "az"])
def test_plain_text_comes_out_as_by_the_whole_rule(alphabet: str, transcript: str) -> None:
    """An accented letter beside it sends a word through all of the rule."""
    short, dropped = normalise(transcript, alphabet)
    whole, dropped_with_it = normalise(f"{transcript} 한", alphabet)
    assert (short, dropped) == (whole, dropped_with_it - 1)
