"""Stage 0: from a corpus to checked manifests, label budgets and text."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import audio
from pipeline.audio import BadAudio
from pipeline.errors import UserError
from pipeline.manifest import MANIFEST, Manifest, Utterance, manifest_line, original_id
from pipeline.recipe import Recipe
from pipeline.stage import Step, StepContext
from stages.prepare.corpus import Remark, Source, load_file
from stages.prepare.journal import AUDIO, Journal
from stages.prepare.listing import Official, Split
from stages.prepare.packed import by_id
from stages.prepare.sources import corpus_module, is_listed, split_remarks

if TYPE_CHECKING:
    from types import ModuleType

STAGE, NUMBER, VERSION = "prepare", 0, 1
SHORTEST_SECONDS = 0.1  # some frames beyond the receptive field of any front-end here
REJECTED = "rejected.tsv"
FLAGGED = "flagged.tsv"  # only where there is something to tell
CLIPPED_SHARE = 0.001  # of samples, above which a recording is flagged, and used all the same


def split_step(recipe: Recipe, split: str, told: Split) -> Step:
    """The step that makes the manifest of one split. Its content, not its path, is signed."""
    transcribed = not split.startswith("unlabelled")
    alphabet = recipe.text.alphabet if transcribed else None
    return Step(
        stage=STAGE,
        number=NUMBER,
        label=split,
        version=VERSION,
        settings={"split": split, "content": told.content, "alphabet": alphabet},
        inputs={},
        run=partial(
            write_split,
            # A list's files are plain ones, whatever the corpus makes its own speech of.
            corpus=None if is_listed(recipe.corpus, split) else corpus_module(recipe.corpus),
            sources=told.sources,
            alphabet=recipe.text.alphabet,
            transcribed=transcribed,
            remarks=partial(split_remarks, recipe.corpus, split, told.sources),
        ),
        audio_root=told.root,
        audio_files=told.audio_files,
        unknown=told.content is None,
    )


def budget_step(budget: str, train: Step, official: Official | None = None) -> Step:
    """The step that writes down the utterances of one label budget.

    Args:
        official: those that the corpus' publisher has chosen; None: we choose them.
    """
    settings: dict[str, Any] = {"budget": budget}
    run = partial(write_budget, budget=budget)
    if official is not None:
        settings["official"] = official.content
        run = partial(run, official=official.ids, remarks=official.remarks)
    return Step(
        stage=STAGE,
        number=NUMBER,
        label=f"budget/{budget}",
        version=VERSION,
        settings=settings,
        inputs={"train": train},
        run=run,
        budget=budget,
    )


def write_split(
    ctx: StepContext,
    *,
    corpus: ModuleType | None,
    sources: Sequence[Source],
    alphabet: str,
    transcribed: bool,
    remarks: Callable[[], Sequence[Remark]] = tuple,
) -> None:
    """Check every source, convert what is not 16 kHz mono, write the manifest and the rejects."""
    counted: Counter[str] = Counter()
    seconds, speech_seconds = 0.0, 0.0
    speakers: set[str] = set()
    with (
        open(ctx.folder / MANIFEST, "w", encoding="utf-8") as manifest,
        _Table(ctx.folder / REJECTED) as rejected,
        _Table(ctx.folder / FLAGGED) as flagged,
    ):
        for row in _resumed_rows(ctx, corpus, sources, alphabet, transcribed):
            counted["dropped"] += row.get("dropped", 0)
            if "rejected" in row:
                rejected.add(row["id"], row["rejected"])
                continue
            if "flagged" in row:
                flagged.add(row["id"], row["flagged"])
            utterance = Utterance(**row["utterance"])
            manifest.write(manifest_line(utterance))
            speakers.add(utterance.speaker)
            counted["utterances"] += 1
            seconds += utterance.seconds
            speech_seconds += utterance.speech_seconds
    if not flagged.count:
        flagged.path.unlink()
    if not counted["utterances"]:
        raise UserError(
            f"No utterance of {len(sources)} can be used.",
            found=rejected.first,
            remedy=f"see {REJECTED} in the step's folder, or the corpus settings",
        )
    facts: dict[str, Any] = {
        "utterances": counted["utterances"],
        "speakers": len(speakers),
        "seconds": round(seconds, 2),
        "speech_seconds": round(speech_seconds, 2),
        "rejected": rejected.count,
        "characters_outside_alphabet": counted["dropped"],
    }
    if flagged.count:
        facts["flagged"] = flagged.count
    told = remarks()
    facts |= {remark.key: remark.value for remark in told}
    (ctx.folder / "summary.json").write_text(json.dumps(facts, indent=1), "utf-8")
    dropped = counted["dropped"]
    ctx.say(
        f"{counted['utterances']} utterances, {seconds / 60:.1f} min, {len(speakers)} speakers; "
        f"{rejected.count} rejected"
        + (f" ({REJECTED}), first {rejected.first}" if rejected.count else "")
        + (f"; {flagged.count} flagged ({FLAGGED}), first {flagged.first}" if flagged.count else "")
        + (f"; {dropped} characters outside the alphabet left out" if dropped else "")
    )
    for remark in told:
        ctx.say(remark.line)


class _Table:
    """A file of utterances with a reason each, written as they come: by id."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.first = path, 0, ""

    def add(self, utterance_id: str, reason: str) -> None:
        self.count += 1
        self.first = self.first or f"{utterance_id}: {reason}"
        self._file.write(f"{utterance_id}\t{reason}\n")

    def __enter__(self) -> _Table:
        self._file = open(self.path, "w", encoding="utf-8")
        self._file.write("utt_id\treason\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _resumed_rows(
    ctx: StepContext,
    corpus: ModuleType | None,
    sources: Sequence[Source],
    alphabet: str,
    transcribed: bool,
) -> Iterator[dict[str, Any]]:
    """One row per source, by id; those that a killed run has finished are in its journal."""
    load = getattr(corpus, "load", load_file)
    with (
        Journal(ctx.folder, ctx.scratch) as journal,
        ctx.progress(len(sources), "audio", "files") as progress,
    ):
        for source in by_id(sources):
            row = journal.find(source.id)
            if row is None:
                row = _prepare(ctx.folder, load, source, alphabet, transcribed)
                journal.add(row)
            yield row
            progress.update()


def _prepare(
    folder: Path, load: Any, source: Source, alphabet: str, transcribed: bool
) -> dict[str, Any]:
    """Load, check and convert one source; what cannot be used comes back with the reason."""
    from stages.prepare.text import normalise

    row: dict[str, Any] = {"id": source.id}
    transcript = None
    if transcribed and source.transcript is not None:
        transcript, row["dropped"] = normalise(source.transcript, alphabet)
        if not transcript:
            return row | {"rejected": "nothing left of the transcript in the alphabet"}
    missing = [name for name in source.files if not os.path.isfile(source.root / name)]
    if missing:
        return row | {"rejected": f"no such audio file: {missing[0]}"}
    bandwidth_hz, speed = (source.parameters.get(key) for key in ("bandwidth_hz", "speed"))
    widest_hz = source.parameters.get("widest_hz", audio.SAMPLE_RATE_HZ)
    try:
        loaded = load(source)
        samples = loaded.samples
        clipped = audio.clipped_share(samples)
        if speed is not None:
            # At its own rate: at 16 kHz, a faster copy of 8 kHz speech would go beyond 4 kHz,
            # where nothing else of its corpus has anything.
            samples = audio.at_speed(samples, float(speed))
        samples = audio.resample(samples, loaded.rate_hz)
        audio.check(samples)
    except BadAudio as error:
        return row | {"rejected": error.what}
    made = loaded.made or speed is not None or loaded.rate_hz != audio.SAMPLE_RATE_HZ
    if bandwidth_hz is not None:
        samples, made = audio.band_limit(samples, int(bandwidth_hz)), True
    if 2 * widest_hz < loaded.rate_hz:  # else it has no more, and stays as recorded
        samples, made = audio.band_limit(samples, int(widest_hz)), True
    if len(samples) < SHORTEST_SECONDS * audio.SAMPLE_RATE_HZ:
        return row | {"rejected": f"shorter than {SHORTEST_SECONDS} s: {len(samples)} samples"}
    if clipped > CLIPPED_SHARE and speed is None:  # of a copy, its original tells
        row["flagged"] = f"clipped: {clipped:.1%} of its samples"
    path = f"audio/{_file_name(source.id)}.flac" if made else ""
    if made:
        row[AUDIO] = audio.write(folder / path, samples)
    seconds = len(samples) / audio.SAMPLE_RATE_HZ
    return row | {
        "utterance": {
            "id": source.id,
            "speaker": source.speaker,
            "path": path,
            "stored": made,
            "samples": len(samples),
            "speech_seconds": round(loaded.speech_seconds or seconds, 4),
            "transcript": transcript,
        }
    }


def _file_name(utterance_id: str) -> str:
    """A file name for any id: ids with other characters than these get a hash of their own."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in utterance_id)
    if plain == utterance_id and len(plain) < 120:
        return plain
    return f"{plain[:80]}-{hashlib.sha256(utterance_id.encode()).hexdigest()[:12]}"


def write_budget(
    ctx: StepContext,
    *,
    budget: str,
    official: Sequence[str] | None = None,
    remarks: Callable[[], Sequence[Remark]] = tuple,
) -> None:
    """Write the ids of a budget's utterances, one a line, and how much speech they are."""
    from stages.prepare.budgets import choose, take

    train = Manifest.load(ctx.inputs["train"])
    chosen, speakers, lengths, count = set[str](), set[str](), array("d"), 0
    taken = choose(train.utterances, budget) if official is None else take(train, budget, official)
    for utterance in taken:
        chosen.add(utterance.id)
        speakers.add(utterance.speaker)
        lengths.append(utterance.speech_seconds)
    seconds = sum(lengths)
    with open(ctx.folder / "ids.txt", "w", encoding="utf-8") as file:
        for utterance in train:  # sorted by id
            if original_id(utterance.id) in chosen:
                file.write(f"{utterance.id}\n")
                count += 1
    facts: dict[str, Any] = {"budget": budget, "utterances": len(chosen), "speakers": len(speakers)}
    facts["copies"] = count - len(chosen)
    if official is not None:
        facts["rejected"] = len(official) - len(chosen)  # see rejected.tsv of the split
    told = remarks()
    facts |= {remark.key: remark.value for remark in told}
    facts_text = json.dumps(facts | {"speech_seconds": round(seconds, 2)}, indent=1)
    (ctx.folder / "summary.json").write_text(facts_text, "utf-8")
    more = f"; {facts['copies']} copies at other speeds" if facts["copies"] else ""
    if facts.get("rejected"):
        more += f"; {facts['rejected']} of the published list were rejected in stage 0"
    ctx.say(
        f"{len(chosen)} utterances, {seconds / 60:.2f} min of speech, "
        f"{len(speakers)} speakers{more}"
    )
    for remark in told:
        ctx.say(remark.line)
