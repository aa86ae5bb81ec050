"""Stage 4: CTC targets, lexicon and word n-gram of one text, the same for every budget.

Two steps: `targets` is all that fine-tuning reads, so that another n-gram trains nothing again;
`ngram` is all that decoding reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pipeline.recipe import LmSettings, TextSettings
from pipeline.stage import StepContext

VERSION = 1
LM_FACTS = "lm.json"
LM_TEXT = "lm_text.txt"
LM_TEXT_FACTS = "lm_text.json"


def make_targets(ctx: StepContext, text: TextSettings) -> None:
    """Read the text of input `text`; write the targets, letters or word pieces."""
    from stages.acoustic import targets

    symbols = targets.make(ctx.folder, text, _sentences(ctx.inputs["text"] / LM_TEXT))
    ctx.say(f"{len(symbols)} targets ({text.units}), the blank among them")


def make_ngram(ctx: StepContext, text: TextSettings, lm: LmSettings) -> None:
    """Read the inputs `text` and `dev`; write targets, lexicon, lm.arpa, lm.bin and lm.json.

    The transcripts of dev serve to tell the perplexity and for nothing else.

    Raises:
        pipeline.errors.RunError: lmplz or build_binary is missing or fails.
    """
    from pipeline.manifest import Manifest
    from stages.acoustic import lexicon, ngram, targets

    source = ctx.inputs["text"]
    name = json.loads((source / LM_TEXT_FACTS).read_text("utf-8"))["name"]
    symbols = targets.make(ctx.folder, text, _sentences(source / LM_TEXT))
    sentences, words, known = 0, 0, set[str]()
    for sentence in _sentences(source / LM_TEXT):
        spoken = sentence.split()
        sentences, words = sentences + 1, words + len(spoken)
        known.update(spoken)
    vocabulary = lexicon.write_lexicon(ctx.folder, known, symbols)
    dev_text = [u.transcript for u in Manifest.load(ctx.inputs["dev"]) if u.transcript]
    fallback = ngram.build(source / LM_TEXT, ctx.folder, ctx.scratch, lm.order, lm.prune)
    if fallback:
        ctx.say(
            "lm: the text is too small or too regular to estimate discounts; lmplz used "
            "--discount_fallback"
        )
    dev = ngram.perplexity(ctx.folder / ngram.BINARY, dev_text)
    facts = {
        "lm_text": name,
        "order": lm.order,
        "sentences": sentences,
        "words": words,
        "vocabulary": vocabulary,
        "targets": len(symbols),
        "discount_fallback": fallback,
        "dev_perplexity": dev.with_oov if dev else None,
        "dev": asdict(dev) if dev else None,
    }
    whole = json.dumps(facts, ensure_ascii=False, indent=1)
    (ctx.folder / LM_FACTS).write_text(whole + "\n", "utf-8")
    told = f", dev perplexity {dev.with_oov:.1f} with {dev.oov} unknown words" if dev else ""
    ctx.say(f"lm: {lm.order}-gram of {sentences} sentences, {vocabulary} words{told}")


def _sentences(path: Path) -> Iterator[str]:
    """The lines of a text, which may be larger than the memory."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if sentence := line.strip():
                yield sentence
