"""Stage 4 `lm`: targets, lexicon and word n-gram of one text, the same for every budget."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pipeline.errors import UserError
from pipeline.recipe import LmSettings, TextSettings
from pipeline.stage import StepContext

VERSION = 1
LM_FACTS = "lm.json"
LM_TEXT = "lm_text.txt"
LM_TEXT_FACTS = "lm_text.json"
DEV_TEXT = "dev_text.txt"


def run(ctx: StepContext, text: TextSettings, lm: LmSettings) -> None:
    """Read the text of input `text`; write targets, lexicon, lm.arpa, lm.bin and lm.json.

    The development transcripts serve to tell the perplexity and for nothing else.

    Raises:
        UserError: the text is empty, or the order is one that KenLM cannot read.
        pipeline.errors.RunError: lmplz or build_binary is missing or fails.
    """
    from stages.acoustic import lexicon, ngram, targets

    source = ctx.inputs["text"]
    name = json.loads((source / LM_TEXT_FACTS).read_text("utf-8"))["name"]
    sentences = _sentences(source / LM_TEXT)
    _refuse(sentences, name, lm)
    symbols = targets.make(ctx.folder, text, sentences)
    words = [word for sentence in sentences for word in sentence.split()]
    vocabulary = lexicon.write_lexicon(ctx.folder, words, symbols)
    fallback = ngram.build(source / LM_TEXT, ctx.folder, ctx.scratch, lm.order, lm.prune)
    if fallback:
        ctx.say(
            "lm: the text is too small or too regular to estimate discounts; lmplz used "
            "--discount_fallback"
        )
    dev = ngram.perplexity(ctx.folder / ngram.BINARY, _sentences(source / DEV_TEXT))
    facts = {
        "lm_text": name,
        "order": lm.order,
        "sentences": len(sentences),
        "words": len(words),
        "vocabulary": vocabulary,
        "targets": len(symbols),
        "discount_fallback": fallback,
        "dev_perplexity": dev.with_oov if dev else None,
        "dev": asdict(dev) if dev else None,
    }
    whole = json.dumps(facts, ensure_ascii=False, indent=1)
    (ctx.folder / LM_FACTS).write_text(whole + "\n", "utf-8")
    told = f", dev perplexity {dev.with_oov:.1f} with {dev.oov} unknown words" if dev else ""
    ctx.say(f"lm: {lm.order}-gram of {len(sentences)} sentences, {vocabulary} words{told}")


def _sentences(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line.strip()]


def _refuse(sentences: list[str], name: str, lm: LmSettings) -> None:
    if not sentences:
        raise UserError(
            "The text for the language model is empty.",
            constraint="at least one sentence after normalisation (text.alphabet)",
            found=f"none in {name}",
            remedy="give a text in lm.text, or training transcripts",
        )
    if lm.order < 2:
        raise UserError(
            "lm.order is too small.", constraint="2 or more: KenLM reads no unigram", found="1"
        )
    if lm.prune and len(lm.prune) > lm.order:
        raise UserError(
            "lm.prune is too long.",
            constraint=f"at most one count for each of {lm.order} orders",
            found=f"{len(lm.prune)} counts",
        )
