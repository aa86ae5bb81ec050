"""Stage 0: from a corpus to checked manifests, label budgets and text."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import audio
from pipeline.audio import BadAudio
from pipeline.errors import UserError
from pipeline.manifest import Manifest, Utterance, original_id
from pipeline.recipe import LmSettings, Recipe
from pipeline.stage import Step, StepContext
from pipeline.text_file import read_utf8
from stages.prepare.corpus import Source, load_file
from stages.prepare.sources import FileHashes, content, corpus_module, is_listed

if TYPE_CHECKING:
    from types import ModuleType

STAGE, NUMBER, VERSION = "prepare", 0, 1
SHORTEST_SECONDS = 0.1  # some frames beyond the receptive field of any front-end here
FLAGGED = "flagged.tsv"  # only where there is something to tell
CLIPPED_SHARE = 0.001  # of samples, above which a recording is flagged, and used all the same


def split_step(recipe: Recipe, split: str, sources: Sequence[Source], hashes: FileHashes) -> Step:
    """The step that makes the manifest of one split. Its content, not its path, is signed."""
    told = content(sources, hashes)
    transcribed = not split.startswith("unlabelled")
    alphabet = recipe.text.alphabet if transcribed else None
    return Step(
        stage=STAGE,
        number=NUMBER,
        label=split,
        version=VERSION,
        settings={"split": split, "content": told, "alphabet": alphabet},
        inputs={},
        run=partial(
            write_split,
            # A list's files are plain ones, whatever the corpus makes its own speech of.
            corpus=None if is_listed(recipe.corpus, split) else corpus_module(recipe.corpus),
            sources=sources,
            alphabet=recipe.text.alphabet,
            transcribed=transcribed,
        ),
        audio_root=sources[0].root,
        audio_files={s.id: s.files[0] for s in sources if s.files},
        unknown=told is None,
    )


def budget_step(budget: str, train: Step, official: Sequence[str] | None = None) -> Step:
    """The step that writes down the utterances of one label budget.

    Args:
        official: those that the corpus' publisher has chosen; None: we choose them.
    """
    settings = {"budget": budget}
    if official is not None:
        told = "\n".join(sorted(official))
        settings["official"] = hashlib.sha256(told.encode()).hexdigest()[:16]
    return Step(
        stage=STAGE,
        number=NUMBER,
        label=f"budget/{budget}",
        version=VERSION,
        settings=settings,
        inputs={"train": train},
        run=partial(write_budget, budget=budget, official=official),
        budget=budget,
    )


def text_step(recipe: Recipe, train: Step) -> Step:
    """The step that collects the text of the language model."""
    sentences, name = _own_text(recipe)
    told = None
    if sentences is not None:
        told = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]
    return Step(
        stage=STAGE,
        number=NUMBER,
        label="text",
        version=VERSION,
        settings={"text": name, "sentences": told, "alphabet": recipe.text.alphabet},
        inputs={} if sentences is not None else {"train": train},
        run=partial(write_text, sentences=sentences, name=name, alphabet=recipe.text.alphabet),
    )


def _own_text(recipe: Recipe) -> tuple[list[str] | None, str]:
    """LM sentences that do not come from the train split, and what results call the text."""
    lm: LmSettings = recipe.lm
    if isinstance(lm.text, Path):
        text = read_utf8(lm.text, "text of lm.text", "check lm.text")
        return text.splitlines(), f"file {lm.text.name}"
    corpus = corpus_module(recipe.corpus)
    if lm.text == "corpus" and hasattr(corpus, "lm_text"):
        sentences = corpus.lm_text(recipe.corpus)
        if sentences is not None:
            return list(sentences), str(corpus.LM_TEXT)
    return None, "all train transcripts, whatever the budget"


def write_split(
    ctx: StepContext,
    *,
    corpus: ModuleType | None,
    sources: Sequence[Source],
    alphabet: str,
    transcribed: bool,
) -> None:
    """Check every source, convert what is not 16 kHz mono, write the manifest and the rejects."""
    utterances: list[Utterance] = []
    rejected: list[tuple[str, str]] = []
    flagged: list[tuple[str, str]] = []
    dropped = 0
    for row in _resumed_rows(ctx, corpus, sources, alphabet, transcribed):
        dropped += row.get("dropped", 0)
        if "rejected" in row:
            rejected.append((row["id"], row["rejected"]))
        else:
            utterances.append(Utterance(**row["utterance"]))
            if "flagged" in row:
                flagged.append((row["id"], row["flagged"]))
    _write_table(ctx.folder / "rejected.tsv", rejected)
    if not utterances:
        raise UserError(
            f"No utterance of {len(sources)} can be used.",
            found=f"{rejected[0][0]}: {rejected[0][1]}",
            remedy="see rejected.tsv in the step's folder, or the corpus settings",
        )
    manifest = Manifest(utterances, ctx.folder)
    manifest.write()
    speakers = len({u.speaker for u in utterances})
    facts = {
        "utterances": len(utterances),
        "speakers": speakers,
        "seconds": round(manifest.seconds, 2),
        "speech_seconds": round(sum(u.speech_seconds for u in utterances), 2),
        "rejected": len(rejected),
        "characters_outside_alphabet": dropped,
    }
    if flagged:
        facts["flagged"] = len(flagged)
        _write_table(ctx.folder / FLAGGED, flagged)
    (ctx.folder / "summary.json").write_text(json.dumps(facts, indent=1), "utf-8")
    ctx.say(
        f"{len(utterances)} utterances, {manifest.seconds / 60:.1f} min, {speakers} speakers; "
        f"{len(rejected)} rejected"
        + (f" (rejected.tsv), first {rejected[0][0]}: {rejected[0][1]}" if rejected else "")
        + (f"; {len(flagged)} flagged ({FLAGGED}), first " if flagged else "")
        + (f"{flagged[0][0]}: {flagged[0][1]}" if flagged else "")
        + (f"; {dropped} characters outside the alphabet left out" if dropped else "")
    )


def _write_table(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    lines = [f"{name}\t{reason}\n" for name, reason in sorted(rows)]
    path.write_text("utt_id\treason\n" + "".join(lines), "utf-8")


def _resumed_rows(
    ctx: StepContext,
    corpus: ModuleType | None,
    sources: Sequence[Source],
    alphabet: str,
    transcribed: bool,
) -> Iterator[dict[str, Any]]:
    """One JSON row per source; those that a killed run has finished come from its journal."""
    journal = ctx.scratch / "rows.jsonl"
    finished: dict[str, dict[str, Any]] = {}
    if journal.exists():
        # What a kill cut, in the middle of a character perhaps, is no JSON either.
        for line in journal.read_text("utf-8", errors="replace").split("\n"):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            finished[row["id"]] = row
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in finished.values())
        journal.write_text(text, "utf-8")
    load = getattr(corpus, "load", load_file)
    with (
        open(journal, "a", encoding="utf-8") as file,
        ctx.progress(len(sources), "audio", "files") as progress,
    ):
        for source in sources:
            row = finished.get(source.id)
            if row is None:
                row = _prepare(ctx.folder, load, source, alphabet, transcribed)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
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
    if len(samples) < SHORTEST_SECONDS * audio.SAMPLE_RATE_HZ:
        return row | {"rejected": f"shorter than {SHORTEST_SECONDS} s: {len(samples)} samples"}
    if clipped > CLIPPED_SHARE and speed is None:  # of a copy, its original tells
        row["flagged"] = f"clipped: {clipped:.1%} of its samples"
    path = f"audio/{_file_name(source.id)}.flac" if made else ""
    if made:
        audio.write(folder / path, samples)
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


def write_budget(ctx: StepContext, *, budget: str, official: Sequence[str] | None = None) -> None:
    """Write the ids of a budget's utterances, one a line, and how much speech they are."""
    from stages.prepare.budgets import choose, take

    train = Manifest.load(ctx.inputs["train"])
    originals = (u for u in train if not u.is_copy)
    chosen = choose(originals, budget) if official is None else take(originals, budget, official)
    seconds = sum(u.speech_seconds for u in chosen)
    speakers = len({u.speaker for u in chosen})
    chosen_ids = {u.id for u in chosen}
    ids = sorted(u.id for u in train if original_id(u.id) in chosen_ids)
    (ctx.folder / "ids.txt").write_text("".join(f"{i}\n" for i in ids), "utf-8")
    facts = {"budget": budget, "utterances": len(chosen), "speakers": speakers}
    facts["copies"] = len(ids) - len(chosen)
    if official is not None:
        facts["rejected"] = len(official) - len(chosen)  # see rejected.tsv of the split
    facts_text = json.dumps(facts | {"speech_seconds": round(seconds, 2)}, indent=1)
    (ctx.folder / "summary.json").write_text(facts_text, "utf-8")
    more = f"; {facts['copies']} copies at other speeds" if facts["copies"] else ""
    if facts.get("rejected"):
        more += f"; {facts['rejected']} of the published list were rejected in stage 0"
    ctx.say(
        f"{len(chosen)} utterances, {seconds / 60:.2f} min of speech, {speakers} speakers{more}"
    )


def write_text(ctx: StepContext, *, sentences: list[str] | None, name: str, alphabet: str) -> None:
    """Write the normalised LM text and what it is."""
    from stages.prepare.text import normalise

    if sentences is None:
        train = Manifest.load(ctx.inputs["train"])
        originals = (u for u in train if not u.is_copy)
        sentences = [u.transcript for u in originals if u.transcript is not None]
    kept = [text for text in (normalise(s, alphabet)[0] for s in sentences) if text]
    if not kept:
        raise UserError(
            f"The text of the language model ({name}) is empty.",
            constraint="at least one sentence with letters of text.alphabet",
            remedy="give a text in lm.text, or training transcripts",
        )
    (ctx.folder / "lm_text.txt").write_text("".join(f"{line}\n" for line in kept), "utf-8")
    facts = {"name": name, "sentences": len(kept), "words": sum(len(s.split()) for s in kept)}
    (ctx.folder / "lm_text.json").write_text(json.dumps(facts, indent=1), "utf-8")
    ctx.say(f"language model text: {facts['words']} words, {len(kept)} sentences ({name})")
