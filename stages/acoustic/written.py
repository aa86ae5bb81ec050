"""Hypotheses as files: TRN, CTM and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.manifest import Manifest, Utterance
from stages.acoustic.search import Decoded


def write(
    folder: Path,
    name: str,
    found: Mapping[str, Decoded],
    manifest: Manifest,
    filled: Mapping[str, float],
) -> None:
    """Write what a decoder found in a split, by utterance in the manifest's order.

    - `<name>.trn`: `words (utterance-id)`.
    - `<name>.ctm`: `utterance-id 1 start duration word confidence`, a word a line, in seconds.
    - `<name>.jsonl`: utt_id, speaker, seconds, ref, hyp.
    - `<name>.nbest.jsonl`: utt_id and a list of hypotheses, the best first, each with its text
      (hyp), what it scored (acoustic, lm, total) and its number of words.

    `TimedWord` and `Hypothesis` tell what times, confidence and scores are.

    Args:
        filled: see `decoding.Outputs`.
    """
    pairs = [(u, found[u.id]) for u in manifest]
    trn = (f"{decoded.text} ({u.id})\n".lstrip() for u, decoded in pairs)
    _write(folder / f"{name}.trn", trn)
    _write(
        folder / f"{name}.ctm",
        (line for u, decoded in pairs for line in _ctm(u, decoded, filled[u.id])),
    )
    _write(folder / f"{name}.jsonl", (_json(_row(u, decoded)) for u, decoded in pairs))
    nbest = (_json({"utt_id": u.id, "nbest": _nbest(decoded)}) for u, decoded in pairs)
    _write(folder / f"{name}.nbest.jsonl", nbest)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(lines), "utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _row(utterance: Utterance, decoded: Decoded) -> dict[str, Any]:
    return {
        "utt_id": utterance.id,
        "speaker": utterance.speaker,
        "seconds": utterance.seconds,
        "ref": utterance.transcript,
        "hyp": decoded.text,
    }


def _nbest(decoded: Decoded) -> list[dict[str, Any]]:
    return [
        {
            "hyp": " ".join(hypothesis.words),
            "acoustic": hypothesis.acoustic,
            "lm": hypothesis.lm,
            "words": len(hypothesis.words),
            "total": hypothesis.total,
        }
        for hypothesis in decoded.nbest
    ]


def _ctm(utterance: Utterance, decoded: Decoded, filled: float) -> Iterable[str]:
    """The lines of one utterance, over which its features are spread evenly.

    A front-end's features begin and end within half a window of that. The last frame of the CTC
    layer may have fewer of them than the others, and then reaches beyond the utterance's end.
    """
    frame = utterance.seconds / (filled or 1.0)  # seconds
    name = "_".join(utterance.id.split())  # white space parts the columns
    for word in decoded.times:
        start, stop = word.first * frame, min(word.stop * frame, utterance.seconds)
        yield f"{name} 1 {start:.3f} {stop - start:.3f} {word.word} {word.confidence:.3f}\n"
