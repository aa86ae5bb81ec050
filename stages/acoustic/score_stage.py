"""Stage 7 `score`: errors of one budget, seed and test set, for each decoder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.recipe import ScoreSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    from stages.acoustic.alignment import Aligned
    from stages.acoustic.scoring import Counts

VERSION = 2
SCORES = "scores.json"
ALIGNMENTS = "alignments.jsonl"
COUNTS = "counts.json"
CONFUSIONS = "confusions.json"
REFERENCES = "references.trn"


def run(ctx: StepContext, settings: ScoreSettings) -> None:
    """Score what the decode step (input `hypotheses`) wrote.

    Writes
    - scores.json: sizes, weights and one entry per decoder;
    - counts.json: errors per utterance, as `counts_file` reads them;
    - confusions.json: per decoder all substitutions, deletions and insertions, by frequency;
    - references.trn, for sclite beside the decode step's `<decoder>.trn`;
    - alignments.jsonl: per decoder and utterance its counts and what was heard beside what was
      said, and `<decoder>.txt`, the same for people.

    Raises:
        pipeline.errors.UserError: an utterance without a reference.
        RunError: no hypotheses.
    """
    from stages.acoustic.decode_stage import WEIGHTS
    from stages.acoustic.scoring import confusions

    source = ctx.inputs["hypotheses"]
    tuned = json.loads((source / WEIGHTS).read_text("utf-8"))
    beside = ("dev_seconds", "dev_utterances", "dev_in_lm_text", "test_in_lm_text")
    told: dict[str, Any] = {key: tuned[key] for key in beside}
    told |= {"test": {}, "confidence": settings.confidence, "scores": []}
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    counts: dict[str, Any] = {}
    confused: dict[str, Any] = {}
    for name, weights in tuned["decoders"].items():
        rows = _rows(source / f"{name}.jsonl")
        scored = _Scored.of(rows)
        told["test"] = {
            "utterances": len(rows),
            "seconds": sum(row["seconds"] for row in rows),
            "speakers": len(set(scored.speakers)),
        }
        score = _entry(scored, rows, settings)
        chosen = {key: value for key, value in weights.items() if key != "trials"}
        told["scores"].append({"decoder": name, **score, **chosen})
        counts |= scored.lengths()
        counts.setdefault("decoders", {})[name] = scored.errors()
        confused[name] = confusions(scored.aligned.values())
        lines += [json.dumps({"decoder": name, **u}, ensure_ascii=False) for u in scored.lines()]
        (ctx.folder / f"{name}.txt").write_text(scored.readable(), "utf-8")
        ctx.say(
            f"{name}: {score['wer']:.1%} WER [{score['wer_low']:.1%}, {score['wer_high']:.1%}], "
            f"{score['cer']:.1%} CER"
        )
    (ctx.folder / ALIGNMENTS).write_text("".join(f"{x}\n" for x in lines), "utf-8")
    trn = "".join(f"{row['ref']} ({row['utt_id']})\n" for row in rows)
    (ctx.folder / REFERENCES).write_text(trn, "utf-8")
    for file, content in ((COUNTS, counts), (CONFUSIONS, confused)):
        (ctx.folder / file).write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")
    text = json.dumps(told, ensure_ascii=False, indent=1)
    (ctx.folder / SCORES).write_text(text + "\n", "utf-8")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise RunError(f"No hypotheses to score: {path}", remedy="run again from stage 6")
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@dataclass(frozen=True)
class _Scored:
    """The utterances of one decoder, in the order of the hypotheses; speakers of each."""

    speakers: Sequence[str]
    aligned: Mapping[str, Sequence[Aligned]]
    words: Mapping[str, Counts]
    characters: Mapping[str, Counts]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> _Scored:
        from stages.acoustic import scoring

        references = scoring.check_references({row["utt_id"]: row["ref"] for row in rows})
        hypotheses = {row["utt_id"]: row["hyp"] for row in rows}
        aligned = scoring.align_all(references, hypotheses)
        words = {i: scoring.counts_of(steps) for i, steps in aligned.items()}
        characters = scoring.count_characters(references, hypotheses)
        return cls([row["speaker"] for row in rows], aligned, words, characters)

    def lengths(self) -> dict[str, Any]:
        """What is the same for all decoders."""
        return {
            "utterances": list(self.words),
            "speakers": list(self.speakers),
            "reference_words": [c.reference for c in self.words.values()],
            "reference_chars": [c.reference for c in self.characters.values()],
        }

    def errors(self) -> dict[str, list[int]]:
        """Of each utterance, in the order of `lengths`."""
        return {
            "substitutions": [c.substitutions for c in self.words.values()],
            "deletions": [c.deletions for c in self.words.values()],
            "insertions": [c.insertions for c in self.words.values()],
            "char_errors": [c.errors for c in self.characters.values()],
        }

    def lines(self) -> list[dict[str, Any]]:
        """An object per utterance, as it stands in alignments.jsonl."""
        return [
            {
                "utt_id": i,
                "speaker": speaker,
                "substitutions": count.substitutions,
                "deletions": count.deletions,
                "insertions": count.insertions,
                "reference_words": count.reference,
                "alignment": self.aligned[i],
            }
            for (i, count), speaker in zip(self.words.items(), self.speakers, strict=True)
        ]

    def readable(self) -> str:
        from stages.acoustic.alignment import readable

        return "\n".join(readable(i, steps) for i, steps in self.aligned.items())


def _entry(
    scored: _Scored, rows: Sequence[dict[str, Any]], settings: ScoreSettings
) -> dict[str, Any]:
    """What scores.json says of one decoder."""
    from stages.acoustic import bootstrap
    from stages.acoustic.decoding import empty_share
    from stages.acoustic.scoring import NOTHING

    entry: dict[str, Any] = {}
    for rate, counts in (("wer", scored.words), ("cer", scored.characters)):
        each = list(counts.values())
        errors, lengths = [c.errors for c in each], [c.reference for c in each]
        found = bootstrap.interval(
            errors, lengths, scored.speakers, settings.bootstrap_samples, settings.confidence
        )
        entry |= {rate: sum(each, NOTHING).rate, f"{rate}_low": found.low}
        entry |= {f"{rate}_high": found.high, "resampled": found.resampled}
    words = sum(scored.words.values(), NOTHING)
    return entry | {
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "reference_words": words.reference,
        "reference_chars": sum(c.reference for c in scored.characters.values()),
        "empty_share": empty_share({row["utt_id"]: row["hyp"] for row in rows}),
        "per_speaker": _per_speaker(scored),
    }


def _per_speaker(scored: _Scored) -> dict[str, float]:
    sums: dict[str, Counts] = {}
    for count, speaker in zip(scored.words.values(), scored.speakers, strict=True):
        sums[speaker] = sums[speaker] + count if speaker in sums else count
    return {speaker: sums[speaker].rate for speaker in sorted(sums)}
