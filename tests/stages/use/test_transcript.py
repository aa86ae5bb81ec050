from __future__ import annotations

import json

from stages.use.transcript import Piece, Transcript, Word


def words(*told: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(Word(word, start, end, 0.5) for word, start, end in told)


def transcript(*pieces: Piece) -> Transcript:
    return Transcript("a.wav", pieces[-1].end, pieces)


def test_json_has_the_words_with_their_times_and_the_pieces() -> None:
    found = transcript(
        Piece(0, 60, words(("turn", 0.12345, 0.5), ("left", 0.6, 0.9))),
        Piece(60, 61.5, ()),
    )
    assert json.loads(found.as_json()) == {
        "audio": "a.wav",
        "seconds": 61.5,
        "text": "turn left",
        "words": [
            {"word": "turn", "start": 0.123, "end": 0.5, "confidence": 0.5},
            {"word": "left", "start": 0.6, "end": 0.9, "confidence": 0.5},
        ],
        "pieces": [
            {"start": 0, "end": 60, "text": "turn left"},
            {"start": 60, "end": 61.5, "text": ""},
        ],
    }


def test_subtitles_end_at_pauses_cuts_and_where_they_are_full() -> None:
    found = transcript(
        Piece(
            3600,
            3660,
            words(
                ("go", 3600.0004, 3600.2),
                ("home", 3601.2, 3601.5),  # a second later: the same subtitle
                ("now", 3602.6, 3603.0),
                ("and", 3603.2, 3608.7),  # longer than six seconds together
            ),
        ),
        Piece(3660, 3661, words(("stop", 3660.0, 3660.9996))),
    )
    assert found.as_srt() == (
        "1\n01:00:00,000 --> 01:00:01,500\ngo home\n\n"
        "2\n01:00:02,600 --> 01:00:03,000\nnow\n\n"
        "3\n01:00:03,200 --> 01:00:08,700\nand\n\n"
        "4\n01:01:00,000 --> 01:01:01,000\nstop\n"
    )


def test_a_subtitle_has_two_lines_of_words_at_most() -> None:
    many = words(*((f"{n:09}", n / 10, n / 10 + 0.05) for n in range(20)))
    cues = transcript(Piece(0, 9, many)).as_srt().split("\n\n")
    assert [len(cue.splitlines()[2]) for cue in cues] == [79, 79, 39]


def test_where_nothing_was_said_there_is_nothing() -> None:
    silent = transcript(Piece(0, 9, ()))
    assert (silent.text, silent.as_srt()) == ("", "")
