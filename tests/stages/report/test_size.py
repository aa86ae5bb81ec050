"""Ten systems on a large corpus make a page that a browser opens at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.acoustic.results import Results
from stages.report.alignments import WORDS_AT_MOST
from stages.report.collect import Piece, Source
from stages.report.page import render

SYSTEMS = [f"system_{number}" for number in range(10)]
BUDGETS = {"10min": 600.0, "1h": 3600.0, "10h": 36_000.0, "100h": 360_000.0}
SPEAKERS = [f"speaker-{number:03d}" for number in range(120)]
BYTES_AT_MOST = 3_000_000


def rows(recipe: str) -> list[dict[str, Any]]:
    return [
        {
            "recipe": recipe,
            "frontend": "unit_bert",
            "budget": budget,
            "budget_seconds": seconds,
            "seed": 1,
            "fold": None,
            "test_set": test_set,
            "decoder": decoder,
            "wer": 0.5,
            "wer_low": 0.45,
            "wer_high": 0.55,
            "cer": 0.25,
            "reference_words": 20_000,
            "lm_text": "books",
            "lm_perplexity": 150.0,
            "dev_seconds": 18_000.0,
            "per_speaker": dict.fromkeys(SPEAKERS, 0.5),
        }
        for test_set in ("clean", "other")
        for budget, seconds in BUDGETS.items()
        for decoder in ("greedy", "lexicon_beam")
    ]


def alignments(path: Path) -> None:
    pairs = [["substitute", "something", "nothing"], ["equal", "word", "word"]] * 40
    counts = {"substitutions": 40, "deletions": 0, "insertions": 0, "reference_words": 80}
    lines = [
        {"decoder": decoder, "utt_id": f"utt-{n}", "speaker": "s", **counts, "alignment": pairs}
        for decoder in ("greedy", "lexicon_beam")
        for n in range(50)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def source(recipe: str, folder: Path) -> Source:
    history = [
        {"update": u, "loss": 1000 / u, "accuracy": u / 1e6, "dev_wer": 100 / u}
        for u in range(25, 100_000, 25)
    ]
    curve = {"update": [r["update"] for r in history[::20]]}
    curve |= {key: [[123.4567] * 200] * 2 for key in ("perplexity", "codes_in_use")}
    group = {"perplexity": 300.0, "codes_in_use": 320, "dead_codes": []}
    book = {"quantizer": "gumbel", "codes": 320, "groups": [group] * 2, "frames": 60_000}
    book |= {"collapsed": False, "pairs_in_use": 9000, "history": curve}
    files = {"1 quantizer": {"codebook.json": book}}
    files["3 bert"] = {"pretraining.json": {"history": history}}
    files |= {f"5 finetune {b}": {"training.json": {"history": history}} for b in BUDGETS}
    files |= {f"7 score {t}/100h": {} for t in ("clean", "other")}
    pieces = []
    for title, contents in files.items():
        place = folder / recipe / title.replace("/", "-")
        place.mkdir(parents=True)
        for name, content in contents.items():
            (place / name).write_text(json.dumps(content))
        if title.startswith("7"):
            alignments(place / "alignments.jsonl")
        pieces.append(Piece(title, "done", place))
    return Source(f"{recipe}.yaml", recipe, Results(rows(recipe)), pieces)


def test_ten_systems_fit_into_three_megabytes(tmp_path: Path) -> None:
    page = render([source(recipe, tmp_path) for recipe in SYSTEMS])
    for recipe in SYSTEMS:
        assert f"CTC: {recipe}" in page
    assert page.count('class="utt"') >= 2 * 2 * 2 * len(SYSTEMS)  # worst and drawn, two test sets
    assert f"… {80 - WORDS_AT_MOST} more" in page
    assert len(page.encode()) < BYTES_AT_MOST
