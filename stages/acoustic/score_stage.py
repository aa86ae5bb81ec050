"""Stage 7 `score`: errors of one budget, seed and test set, for each decoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.recipe import ScoreSettings
from pipeline.stage import StepContext

VERSION = 1
SCORES = "scores.json"
ALIGNMENTS = "alignments.jsonl"


def run(ctx: StepContext, settings: ScoreSettings) -> None:
    """Score what the decode step (input `hypotheses`) wrote.

    Writes scores.json (sizes, weights and one entry per decoder), alignments.jsonl (counts and
    operations per decoder and utterance) and, to be read by people, `<decoder>.txt`.

    Raises:
        pipeline.errors.UserError: an utterance without a reference.
        RunError: no hypotheses.
    """
    from stages.acoustic.decode_stage import WEIGHTS

    source = ctx.inputs["hypotheses"]
    tuned = json.loads((source / WEIGHTS).read_text("utf-8"))
    scores, lines, size = [], [], {}
    for name, weights in tuned["decoders"].items():
        rows = _rows(source / f"{name}.jsonl")
        size = {
            "utterances": len(rows),
            "seconds": sum(row["seconds"] for row in rows),
            "speakers": len({row["speaker"] for row in rows}),
        }
        score, utterances, readable = _score(rows, settings)
        chosen = {"lm_weight": weights["lm_weight"], "word_score": weights["word_score"]}
        scores.append({"decoder": name, **score, **chosen, "dev_wer": weights["dev_wer"]})
        lines += [json.dumps({"decoder": name, **u}, ensure_ascii=False) for u in utterances]
        (ctx.folder / f"{name}.txt").write_text(readable, "utf-8")
        ctx.say(
            f"{name}: {score['wer']:.1%} WER [{score['wer_low']:.1%}, {score['wer_high']:.1%}], "
            f"{score['cer']:.1%} CER"
        )
    dev = {key: tuned[key] for key in ("dev_seconds", "dev_utterances")}
    (ctx.folder / ALIGNMENTS).write_text("".join(f"{x}\n" for x in lines), "utf-8")
    whole = {**dev, "test": size, "confidence": settings.confidence, "scores": scores}
    text = json.dumps(whole, ensure_ascii=False, indent=1)
    (ctx.folder / SCORES).write_text(text + "\n", "utf-8")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise RunError(f"No hypotheses to score: {path}", remedy="run again from stage 6")
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _score(
    rows: Sequence[dict[str, Any]], settings: ScoreSettings
) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """The entry of one decoder, its utterances, and the alignments as text."""
    import jiwer

    from stages.acoustic import scoring
    from stages.acoustic.decoding import empty_share

    references = scoring.check_references({row["utt_id"]: row["ref"] for row in rows})
    hypotheses = {row["utt_id"]: row["hyp"] for row in rows}
    speakers = [row["speaker"] for row in rows]
    output = scoring.align(references, hypotheses)
    counts = [scoring.utterance_counts(output, i) for i in range(len(rows))]
    words = sum(counts, scoring.NOTHING)
    characters = scoring.count_characters(references, hypotheses)
    interval = scoring.bootstrap(counts, speakers, settings.bootstrap_samples, settings.confidence)
    entry = {
        "wer": words.rate,
        "cer": characters.rate,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "reference_words": words.reference,
        "reference_chars": characters.reference,
        "wer_low": interval.low,
        "wer_high": interval.high,
        "resampled": interval.resampled,
        "empty_share": empty_share(hypotheses),
        "per_speaker": _per_speaker(counts, speakers),
    }
    utterances = [
        {
            "utt_id": row["utt_id"],
            "speaker": row["speaker"],
            "substitutions": count.substitutions,
            "deletions": count.deletions,
            "insertions": count.insertions,
            "reference_words": count.reference,
            "alignment": scoring.operations(output, i),
        }
        for i, (row, count) in enumerate(zip(rows, counts, strict=True))
    ]
    return entry, utterances, jiwer.visualize_alignment(output, show_measures=False)


def _per_speaker(counts: Sequence[Any], speakers: Sequence[str]) -> dict[str, float]:
    sums: dict[str, Any] = {}
    for count, speaker in zip(counts, speakers, strict=True):
        sums[speaker] = sums[speaker] + count if speaker in sums else count
    return {speaker: sums[speaker].rate for speaker in sorted(sums)}
