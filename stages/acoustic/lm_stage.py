"""Stage 4: CTC targets, lexicon and word n-gram of one text, the same for every budget.

Two steps: `targets` is all that fine-tuning reads, so that another n-gram trains nothing again;
`ngram` is all that decoding reads. The text is read line by line. The n-gram may be given as a
file (`lm.arpa`), and so may the words (`lm.lexicon`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from hashlib import blake2b
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.recipe import LmSettings, TextSettings
from pipeline.stage import StepContext

VERSION = 1
LM_FACTS = "lm.json"
LM_TEXT = "lm_text.txt"
LM_TEXT_FACTS = "lm_text.json"
PIECES_LEARN_FROM = 100_000  # sentences: SentencePiece takes some 4 kB for each
Facts = dict[str, Any]
Made = tuple[list[str], Facts, Facts]  # words of the search, what lm.json tells first, and later


def make_targets(ctx: StepContext, text: TextSettings) -> None:
    """Read the text of input `text`; write the targets, letters or word pieces."""
    from stages.acoustic import targets

    symbols = targets.make(ctx.folder, text, _to_learn_targets(ctx, text))
    ctx.say(f"{len(symbols)} targets ({text.units}), the blank among them")


def make_ngram(ctx: StepContext, text: TextSettings, lm: LmSettings) -> None:
    """Read the inputs `text` and `dev`; write targets, lexicon, lm.arpa, lm.bin and lm.json.

    The transcripts of dev serve to tell the perplexity and for nothing else.

    Raises:
        pipeline.errors.UserError: a given n-gram or lexicon is not one, or they do not match.
        pipeline.errors.RunError: lmplz or build_binary is missing or fails.
    """
    from pipeline.manifest import Manifest
    from stages.acoustic import lexicon, ngram, targets

    symbols = targets.make(ctx.folder, text, _to_learn_targets(ctx, text))
    words, facts, more = (_trained if lm.arpa is None else _given)(ctx, text, lm)
    if text.units == "words":  # no other word can be spelt
        spelled = set(symbols.symbols)
        words = [word for word in words if word in spelled]
    vocabulary = lexicon.write_lexicon(ctx.folder, words, symbols)
    dev_text = (u.transcript for u in Manifest.load(ctx.inputs["dev"]) if u.transcript)
    dev = ngram.perplexity(ctx.folder / ngram.BINARY, dev_text)
    facts |= {
        "vocabulary": vocabulary,
        "targets": len(symbols),
        **more,
        "dev_perplexity": dev.with_oov if dev else None,
        "dev": asdict(dev) if dev else None,
    }
    whole = json.dumps(facts, ensure_ascii=False, indent=1)
    (ctx.folder / LM_FACTS).write_text(whole + "\n", "utf-8")
    source = f"of {facts['sentences']} sentences" if lm.arpa is None else f"of {facts['lm_text']}"
    told = f", dev perplexity {dev.with_oov:.1f} with {dev.oov} unknown words" if dev else ""
    ctx.say(f"lm: {facts['order']}-gram {source}, {vocabulary} words{told}")


def _trained(ctx: StepContext, text: TextSettings, lm: LmSettings) -> Made:
    """Train the n-gram on the text."""
    from stages.acoustic import ngram, vocabulary

    source = ctx.inputs["text"]
    name = json.loads((source / LM_TEXT_FACTS).read_text("utf-8"))["name"]
    counted = vocabulary.count(_sentences(source / LM_TEXT))
    more: Facts = {}
    if lm.lexicon is not None:
        words, more["lexicon_left_out"] = _lexicon(ctx, lm.lexicon, text)
    else:
        words = counted.most_frequent(lm.vocabulary)
    bounded = lm.lexicon is not None or len(words) < len(counted.words)
    fallback = ngram.build(
        source / LM_TEXT,
        ctx.folder,
        ctx.scratch,
        lm.order,
        lm.prune,
        vocabulary=words if bounded else None,
        memory_mb=lm.memory_mb,
    )
    if fallback:
        ctx.say(
            "lm: the text is too small or too regular to estimate discounts; lmplz used "
            "--discount_fallback"
        )
    if bounded:
        known = sum(counted.words[word] for word in words)
        more["text_outside_vocabulary"] = round(1 - known / counted.running, 6)
    first = {
        "lm_text": name,
        "order": lm.order,
        "sentences": counted.sentences,
        "words": counted.running,
    }
    return words, first, {"discount_fallback": fallback, **more}


def _given(ctx: StepContext, text: TextSettings, lm: LmSettings) -> Made:
    """Take over an n-gram. Nobody knows how much text it has seen."""
    from stages.acoustic import given_arpa, ngram

    assert lm.arpa is not None
    with ctx.progress(0, "reading lm.arpa", "n-grams") as progress:
        given = given_arpa.take(lm.arpa, ctx.folder / ngram.ARPA, text.alphabet, progress.update)
    ngram.build_binary(ctx.folder, ctx.scratch, lm.memory_mb)
    words, more = list(given.words), Facts()
    if lm.lexicon is not None:
        words, more["lexicon_left_out"] = _lexicon(ctx, lm.lexicon, text)
        unknown = len(set(words) - set(given.words))
        if unknown == len(words):
            raise UserError(
                "lm.arpa and lm.lexicon do not match: they have no word in common.",
                found=f"{lm.arpa.name}: {', '.join(given.words[:3])}; "
                f"{lm.lexicon.name}: {', '.join(words[:3])}",
                remedy="give the lexicon of the same publisher",
            )
        more["lexicon_unknown_to_lm"] = unknown
        if unknown:
            ctx.say(f"lm: {unknown} of {len(words)} words of the lexicon are unknown to the n-gram")
    first = {
        "lm_text": f"file {lm.arpa.name}",
        "order": given.order,
        "sentences": None,
        "words": None,
    }
    return words, first, {"discount_fallback": False, "ngrams": list(given.ngrams), **more}


def _lexicon(ctx: StepContext, path: Path, text: TextSettings) -> tuple[list[str], int]:
    from stages.acoustic import vocabulary

    words, left_out = vocabulary.read_lexicon_words(path, text.alphabet)
    if left_out:
        ctx.say(f"lm: {left_out} lines of {path.name} are no word in the letters of text.alphabet")
    return words, left_out


def _sentences(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if sentence := line.strip():
                yield sentence


def _to_learn_targets(ctx: StepContext, text: TextSettings) -> Iterable[str]:
    """What the targets are made of: the text; of a long one, for pieces, a part that is drawn."""
    sentences = _sentences(ctx.inputs["text"] / LM_TEXT)
    if text.units != "sentencepiece":
        return sentences
    drawn, of = draw(sentences, PIECES_LEARN_FROM)
    if of > len(drawn):
        ctx.say(f"SentencePiece learns from {len(drawn)} of {of} sentences, drawn at random")
    return drawn


def draw(sentences: Iterable[str], most: int) -> tuple[list[str], int]:
    """At most so many sentences in their order, and of how many; a function of the text alone.

    Those whose numbers have the lowest hashes: each is as likely as any other, and no more than
    `most` are held.
    """
    count = 0

    def numbered() -> Iterator[tuple[bytes, int, str]]:
        nonlocal count
        for count, sentence in enumerate(sentences, 1):
            yield blake2b(str(count).encode(), digest_size=8).digest(), count, sentence

    lowest = nsmallest(most, numbered())
    return [sentence for _, _, sentence in sorted(lowest, key=itemgetter(1))], count
