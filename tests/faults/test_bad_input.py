"""Cases 15 to 26: what a corpus, its lists and a recipe can hold that they should not.

Each row of the table changes a small corpus, and goes through the front door: `vqasr run
--stop-stage prepare`, in this process.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.cli import main
from tests.faults import bad_input as bad
from tests.faults.bad_input import NOISE, Change, Flagged, Kept, Refused, Rejected, World, refused

LIKE_UTF16 = "utt_id\tspeaker\tpath\ttranscript\n".encode("utf-16")
OPUS = {"format": "OGG", "subtype": "OPUS"}
VORBIS = {"format": "OGG", "subtype": "VORBIS"}
TONE = (0.3 * np.sin(np.arange(44_100) * 0.06)).astype(np.float32)
STEREO = np.stack([TONE, -0.5 * TONE], axis=1)
INFINITE = np.tile(NOISE[:, None], 2)
INFINITE[7] = np.inf, -np.inf


def changed(value: float) -> Any:
    samples = NOISE.copy()
    samples[len(samples) // 2] = value
    return samples


def spelled(file: str, name: str) -> Change:
    """A recording of this file name, which a speaker of this name speaks."""

    def change(world: World) -> None:
        soundfile.write(world.root / "audio" / file, NOISE, 16_000)
        world.list(f"audio/{file}", speaker=name)

    return change


Row = tuple[int, str, Change, Rejected | Flagged | Kept | Refused]

AUDIO: list[Row] = [
    (15, "WAV cut in two", bad.cut(0.5), Rejected(r"truncated: \d+ samples")),
    (15, "WAV without its last byte", bad.cut(0.99999), Rejected("truncated")),
    (15, "WAV of 24 bits, cut", bad.cut(0.9, subtype="PCM_24"), Rejected("truncated")),
    (15, "WAV of ADPCM, cut", bad.cut(0.5, subtype="IMA_ADPCM"), Rejected("truncated")),
    (15, "RF64, cut", bad.cut(0.5, format="RF64"), Rejected("truncated")),
    (15, "WAV that promises 1 GB", bad.wav_promise(2**30), Rejected("truncated")),
    (15, "WAV of a stream promises nothing", bad.wav_promise(2**32 - 1), Kept()),
    (15, "FLAC cut in two", bad.cut(0.5, "bad.flac"), Rejected("truncated|unreadable")),
    (15, "FLAC that promises a minute", bad.flac_promise(960_000), Rejected("trunc|unreadable")),
    (15, "FLAC of a stream", bad.flac_promise(0), Rejected("unsupported: .* without its length")),
    (15, "FLAC that promises 2^36", bad.flac_promise(2**36 - 1), Rejected("too large: ")),
    (15, "Vorbis cut in two", bad.cut(0.5, "bad.ogg", **VORBIS), Rejected("truncated")),
    (15, "Vorbis cut between pages", bad.without_last_page, Rejected("truncated")),
    (15, "Opus cut", bad.cut(0.7, "bad.opus", 48_000, **OPUS), Rejected("truncated")),
    (15, "MP3 cut", bad.cut(0.5, "bad.mp3", format="MP3"), Rejected("truncated")),
    (15, "text called WAV", bad.bytes_of("bad.wav", b"garbage" * 99), Rejected("unreadable")),
    (15, "text called raw", bad.bytes_of("bad.raw", b"garbage" * 99), Rejected("unreadable")),
    (16, "a NaN", lambda w: w.audio(changed(np.nan), subtype="FLOAT"), Rejected("not finite")),
    (16, "infinity", lambda w: w.audio(changed(np.inf), subtype="FLOAT"), Rejected("not finite")),
    (16, "both infinities", lambda w: w.audio(INFINITE, subtype="FLOAT"), Rejected("not finite")),
    (16, "1e29", lambda w: w.audio(changed(1e29), subtype="FLOAT"), Rejected("implausible: .*1e")),
    (16, "all zeros", lambda w: w.audio(0 * NOISE), Rejected("silent")),
    (16, "clipped", lambda w: w.audio(np.clip(20 * NOISE, -1, 1)), Flagged(r"clipped: \d\d\.")),
    (16, "loud, not clipped", lambda w: w.audio(NOISE / np.abs(NOISE).max()), Kept()),
    (17, "no samples", lambda w: w.audio(NOISE[:0]), Rejected("empty")),
    (17, "no bytes", bad.bytes_of("bad.wav", b""), Rejected("unreadable")),
    (17, "1,000 samples", lambda w: w.audio(NOISE[:1000]), Rejected("shorter than 0.1 s: 1000 ")),
    (18, "8 kHz", lambda w: w.audio(TONE[:8000], rate_hz=8000), Kept()),
    (
        18,
        "44.1 kHz, stereo, 24 bits",
        lambda w: w.audio(STEREO, rate_hz=44_100, subtype="PCM_24"),
        Kept(),
    ),
    (18, "mu-law", lambda w: w.audio(TONE[:16_000], subtype="ULAW"), Kept()),
    (18, "FLAC", lambda w: w.audio(TONE, "bad.flac", 44_100, subtype="PCM_24"), Kept()),
    (18, "Ogg Opus", lambda w: w.audio(TONE[:24_000], "bad.opus", 24_000, **OPUS), Kept()),
    (18, "Ogg Vorbis", lambda w: w.audio(STEREO, "bad.ogg", 44_100, **VORBIS), Kept()),
    (18, "MP3", lambda w: w.audio(STEREO, "bad.mp3", 44_100, format="MP3"), Kept()),
    (18, "Vorbis joined", bad.joined("bad.ogg", **VORBIS), Rejected("joined: another recording")),
    (18, "Opus joined", bad.joined("bad.opus", **OPUS), Rejected("joined: .*write them anew")),
    (18, "FLAC joined", bad.joined("bad.flac"), Rejected("joined")),
    (18, "MP3 joined", bad.joined("bad.mp3", format="MP3"), Rejected("joined")),
    (18, "MP3 with tags", bad.tagged_mp3, Kept()),
    (
        18,
        "WAV of GSM 6.10",
        lambda w: w.audio(NOISE[:8000], rate_hz=8000, subtype="GSM610"),
        Rejected("unsupported: a WAV whose encoding .*GSM 6.10.*; convert it to WAV of 16 bits"),
    ),
    (18, "AIFF", lambda w: w.audio(name="bad.aiff"), Rejected("unsupported: .* AIFF; WAV")),
    (18, "a rate of 1 Hz", bad.wav_rate(1), Rejected("implausible: a sample rate of 1 Hz")),
    (18, "a rate of 4 GHz", bad.wav_rate(2**31 - 1), Rejected("implausible|unreadable")),
]
TEXT: list[Row] = [
    (19, "ends of line CR", bad.train_list(lambda c: c.replace(b"\n", b"\r")), Kept()),
    (19, "ends of line CR LF", bad.train_list(lambda c: c.replace(b"\n", b"\r\n")), Kept()),
    (19, "a BOM", bad.train_list(lambda c: b"\xef\xbb\xbf" + c), Kept()),
    (
        19,
        "Latin-1",
        bad.train_list(lambda c: c.decode().encode("latin-1"), "café"),
        refused(r"train\.tsv, line 14: not UTF-8", "found: the byte 0xe9", "remedy: .*iconv"),
    ),
    (19, "UTF-16", bad.train_list(lambda c: LIKE_UTF16), refused(r"train\.tsv, line 1: not UTF-8")),
    (
        19,
        "odd spaces",
        bad.said("\u00a0turn\u2003\u3000left\u2009now\u200bhere\u2028so "),
        Kept(transcript="turn left now here so"),
    ),
    (19, "accents apart", bad.said(unicodedata.normalize("NFD", "café")), Kept(transcript="cafe")),
    (19, "no transcript", bad.said(""), Kept(transcript=None)),
    (19, "a transcript of spaces", bad.said(" \u3000 "), Kept(transcript=None)),
    (19, "nothing but signs", bad.said("?! 42"), Rejected("nothing left of the transcript")),
    (
        19,
        "dev without a transcript",
        bad.at("audio/dev-00.wav", name="mute", speaker="e", transcript="", to="dev"),
        refused("dev: 1 utterances have no transcript", "found: mute"),
    ),
    (
        20,
        "an id twice",
        bad.at("audio/train-01.wav", name="train-00"),
        refused(r"train\.tsv, line 14: utterance id 'train-00' stands twice"),
    ),
    (20, "audio missing", bad.at("audio/none.wav"), Rejected("no such audio file: audio/none.wav")),
    (20, "a folder as audio", bad.folder_as_audio, Rejected("no such audio file")),
    (20, "a pipe as audio", bad.fifo, Rejected("no such audio file")),
    (20, "a name too long", bad.at("a" * 300 + ".wav"), Rejected("no such audio file")),
    (20, "no speaker", bad.at("audio/train-00.wav", speaker=""), refused("'bad' has no speaker")),
    (20, "a speaker of one space", bad.at("x", speaker=" "), refused("line 14: speaker begins or")),
    (
        20,
        "a speaker with a space behind it in test",
        bad.at("audio/none.wav", speaker="a ", to="test"),
        refused(r"test\.tsv, line 5: speaker begins or ends with white space", "found: 'a '"),
    ),
    (
        20,
        "an id twice, once with a space",
        bad.at("audio/train-01.wav", name="train-00 "),
        refused("line 14: utt_id begins or ends with white space", "found: 'train-00 '", "remedy"),
    ),
    (
        20,
        "an id with a zero-width space",
        bad.at("audio/train-01.wav", name="\u200btrain-00"),
        refused("line 14: utt_id begins or ends", r"found: '\\u200btrain-00'"),
    ),
    (
        20,
        "a speaker with the accent apart",
        bad.at("audio/train-01.wav", speaker="Jose\u0301"),
        refused(
            "line 14: speaker 'Jos.*' is not in Unicode's normal form NFC",
            r"found: 'Jose\\u0301'",
            r"remedy: write 'Jos\\xe9'",
        ),
    ),
    (
        20,
        "a speaker with an accent, a file with it apart",
        spelled("e\u0301.wav", "\u00e9"),
        Kept(),
    ),
    (
        20,
        "a tab in a transcript",
        bad.said("turn\tleft"),
        refused(
            "line 14: more fields than the header", "must: 4 fields", "5 fields, the last 'lef"
        ),
    ),
    (20, "a tab behind a transcript", bad.said("turn left\t"), Kept()),
    (
        20,
        "a column missing",
        lambda w: w.rewrite("train.tsv", lambda c: c.replace(b"speaker\t", b"", 1)),
        refused(r"train\.tsv lacks columns", "must: a header with utt_id, speaker, path"),
    ),
    (
        20,
        "three columns",
        lambda w: w.rewrite("train.tsv", lambda c: c + b"x\ta\taudio/x.wav\n"),
        refused("line 14: utt_id and path must not be empty, in four columns"),
    ),
    (
        20,
        "a speaker in train and test",
        bad.at("audio/none.wav", speaker="a", to="test"),
        refused("train and test/test share 1 speakers", "found: a", "allow_shared_speakers"),
    ),
    (
        20,
        "a speaker in train and test, allowed",
        bad.both(
            bad.said("turn left"),
            bad.at("audio/none.wav", speaker="a", to="test"),
            bad.recipe(corpus={"allow_shared_speakers": True}),
        ),
        Kept(),
    ),
    (
        20,
        "a recording in train and test",
        bad.at("audio/train-00.wav", speaker="f", to="test"),
        refused("train and test/test share 1 recordings", "found: .*train-00.wav"),
    ),
    (
        21,
        "..",
        bad.at("../outside.wav"),
        refused("line 14: the path leaves the corpus' folder", "must: .*inside it", "found: ../ou"),
    ),
    (21, ".. in the middle", bad.at("audio/../../x.wav"), refused("line 14: the path leaves")),
    (21, "an absolute path", bad.at("/etc/passwd"), refused("leaves", "found: /etc/passwd")),
    (
        21,
        "a link to a file outside",
        bad.linked("audio/link.wav", "../../outside/x.wav"),
        refused("line 14: the path leaves the corpus' folder", "found: audio/link.wav"),
    ),
    (21, "a link to a folder outside", bad.linked("out", "../outside"), refused("leaves the corp")),
    (21, "a link within", bad.linked("audio/link.wav", "x.wav"), Kept()),
    (21, "a loop of links", bad.linked("audio/link.wav", "link.wav"), refused("cannot be a path")),
    (21, "a NUL", bad.at("audio/a\0.wav"), refused("line 14: .* cannot be a path")),
    (23, "letters outside the alphabet", bad.said("Smørrebrød, 2!"), Kept(16_000, "smrrebrd", 5)),
]
SETTINGS: list[Row] = [
    (
        24,
        "an empty text",
        bad.lm_text(b""),
        refused(r"text .*file lm\.txt.* is empty", "must: at least one"),
    ),
    (24, "a text of figures", bad.lm_text(b"1 2 3\n4\n"), refused("is empty", "remedy: give a")),
    (24, "no text", bad.lm_text(None), refused("No such text of lm.text: .*lm.txt")),
    (24, "a text in Latin-1", bad.lm_text(b"go\nGr\xfc\xdfe\n"), refused("line 2: not UTF-8")),
    (24, "a device as text", bad.recipe(lm={"text": "/dev/zero"}), refused("is no plain file")),
    (
        25,
        "a budget larger than the corpus",
        bad.recipe(budgets=["10h"]),
        refused("Budget 10h is larger than the labelled", "at most 0.1 minutes", "600.0 minutes"),
    ),
    (
        25,
        "a budget that no utterance fits",
        bad.recipe(budgets=["0.1s"]),
        refused(r"No utterance fits budget 0\.1s", r"the first one is 0\.4 s", "raise it"),
    ),
    (
        25,
        "no dev, and too few speakers",
        bad.recipe(corpus={"dev": None, "dev_speakers": 4}),
        refused(
            "too few speakers to split off dev", r"4 with transcripts \(a, b, c, d\)", "remedy"
        ),
    ),
    (
        25,
        "train without transcripts",
        lambda w: w.rewrite("train.tsv", lambda c: re.sub(rb"(wav\t)[a-z ]+", rb"\1", c)),
        refused("train.tsv has no utterance with a transcript", "corpus.unlabelled"),
    ),
    (
        26,
        "many mistakes at once",
        bad.recipe(
            qantizer={},
            finetune={"udpates": 5, "subsample": 99},
            bert={"layers": "many"},
            budgets=["10 minutes"],
            frontend="log_mle",
            corpus={"kind": "tvs"},
            decode={"decoders": ["gredy"]},
        ),
        refused(
            "unknown key qantizer; did you mean quantizer",
            "unknown key finetune.udpates; did you mean updates",
            "finetune.subsample: .*less than or equal to.*; found 99",
            "bert.layers: .*found 'many'",
            "budgets: '10 minutes' is not a budget; write 30s, 10min",
            "Unknown front-end 'log_mle'. did you mean log_mel",
            "Unknown kind of corpus 'tvs'. did you mean tsv",
            "Unknown decoder 'gredy'. did you mean greedy",
            lines=8,
        ),
    ),
]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`run(recipe, exp)`: the program's exit status, output and errors."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(recipe: Path, exp: Path) -> tuple[int, str, str]:
        args = ["run", str(recipe), "--exp", str(exp), "--stop-stage", "prepare"]
        monkeypatch.setattr(sys, "argv", ["vqasr", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        told = capsys.readouterr()
        return int(caught.value.code or 0), told.out, told.err

    return call


def table(path: Path) -> dict[str, str]:
    """The reasons by utterance; none where there is no such file."""
    lines = path.read_text("utf-8").split("\n")[1:-1] if path.exists() else []
    return dict(line.split("\t") for line in lines)


MARKS = {
    15: pytest.mark.case(15),
    16: pytest.mark.case(16),
    17: pytest.mark.case(17),
    18: pytest.mark.case(18),
    19: pytest.mark.case(19),
    20: pytest.mark.case(20),
    21: pytest.mark.case(21),
    23: pytest.mark.case(23),
    24: pytest.mark.case(24),
    25: pytest.mark.case(25),
    26: pytest.mark.case(26),
}


def rows() -> list[Any]:
    return [
        pytest.param(change, outcome, id=f"{number}: {name}", marks=MARKS[number])
        for number, name, change, outcome in [*AUDIO, *TEXT, *SETTINGS]
    ]


def test_each_of_these_cases_has_a_row() -> None:
    assert {number for number, *_ in [*AUDIO, *TEXT, *SETTINGS]} == set(MARKS)


@pytest.mark.parametrize(("change", "outcome"), rows())
def test_what_is_wrong_is_told_by_name_before_any_training(
    corpus: Path,
    values: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
    change: Change,
    outcome: Rejected | Flagged | Kept | Refused,
) -> None:
    world = World(corpus, {**values, "frontend": "log_mel"})
    change(world)
    exp = tmp_path / "exp"
    status, out, err = run(write_recipe(world.values), exp)
    assert "Traceback" not in out + err
    if isinstance(outcome, Refused):
        assert status == 2
        for told in outcome.told:
            assert re.search(told, err), err
        assert len(err.splitlines()) <= outcome.lines
        assert not list(exp.glob("*/5-*"))
        return
    assert (status, err) == (0, "")
    train = exp / "tiny" / "0-prepare-train"
    summary = json.loads((train / "summary.json").read_text("utf-8"))
    rejected, flagged = table(train / "rejected.tsv"), table(train / "flagged.tsv")
    utterances = {
        told["id"]: told
        for told in map(json.loads, (train / "manifest.jsonl").read_text("utf-8").splitlines())
    }
    assert len(utterances) >= 12  # the others are there, whatever came of this one
    if isinstance(outcome, Rejected):
        assert list(rejected) == [bad.NAME]
        assert re.match(outcome.reason, rejected[bad.NAME])
        assert f"1 rejected (rejected.tsv), first bad: {rejected[bad.NAME]}" in out
        assert summary["rejected"] == 1
        return
    assert not rejected
    if isinstance(outcome, Flagged):
        assert list(flagged) == [bad.NAME]
        assert re.match(outcome.reason, flagged[bad.NAME])
        assert f"1 flagged (flagged.tsv), first bad: {flagged[bad.NAME]}" in out
        assert (summary["flagged"], bad.NAME in utterances) == (1, True)
        return
    assert not flagged
    assert abs(utterances[bad.NAME]["samples"] - outcome.samples) <= 0.1 * outcome.samples
    assert utterances[bad.NAME]["transcript"] == outcome.transcript
    assert summary["characters_outside_alphabet"] == outcome.left_out
