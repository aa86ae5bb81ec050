"""Files of hypotheses."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.manifest import Manifest, Utterance
from stages.acoustic.hypothesis import Hypothesis, TimedWord
from stages.acoustic.search import Decoded
from stages.acoustic.written import write

FOUND = {
    "u 1": Decoded(
        (Hypothesis(("go", "été"), -3.5, -1.25, -4.0), Hypothesis(("go",), -5.0, -1.0, -6.0)),
        (TimedWord("go", 0, 3, 0.75), TimedWord("été", 10, 20, 1.0)),
    ),
    "u2": Decoded((Hypothesis((), 0.0, None, 0.0),), ()),
}


def test_each_form_holds_what_was_found(tmp_path: Path) -> None:
    utterances = [
        Utterance("u 1", "s", "a.wav", True, 8_000, 1.0, "go été"),
        Utterance("u2", "s", "b.wav", True, 1_600, 1.0, "no"),
    ]
    filled = {"u 1": 19.5, "u2": 0.0}
    write(tmp_path, "some", FOUND, Manifest(utterances, tmp_path), filled)
    assert (tmp_path / "some.trn").read_text("utf-8") == "go été (u 1)\n(u2)\n"
    ctm = (tmp_path / "some.ctm").read_text("utf-8")
    assert ctm == "u_1 1 0.000 0.077 go 0.750\nu_1 1 0.256 0.244 été 1.000\n"
    rows = [json.loads(x) for x in (tmp_path / "some.jsonl").read_text("utf-8").splitlines()]
    assert [(r["utt_id"], r["ref"], r["hyp"]) for r in rows] == [
        ("u 1", "go été", "go été"),
        ("u2", "no", ""),
    ]
    lists = [json.loads(x) for x in (tmp_path / "some.nbest.jsonl").read_text("utf-8").splitlines()]
    assert lists[0] == {
        "utt_id": "u 1",
        "nbest": [
            {"hyp": "go été", "acoustic": -3.5, "lm": -1.25, "words": 2, "total": -4.0},
            {"hyp": "go", "acoustic": -5.0, "lm": -1.0, "words": 1, "total": -6.0},
        ],
    }
