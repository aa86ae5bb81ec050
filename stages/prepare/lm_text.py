"""Stage 0's text of the language model: from wherever it comes, normalised line by line.

A text may be far larger than memory: nothing here holds more than a line of it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.recipe import Recipe
from pipeline.stage import Step, StepContext
from pipeline.text_file import read_utf8
from stages.prepare.sources import FileHashes, corpus_module

STAGE, NUMBER, VERSION = "prepare", 0, 1
GZIP = b"\x1f\x8b"
LARGE_BYTES = 16_000_000  # such a file is known by a remembered hash: it takes long to read
TRANSCRIPTS = "all train transcripts, whatever the budget"
LONGEST_LINE = 2**20  # characters
SHOWN_EVERY = 100_000  # sentences


def text_step(recipe: Recipe, train: Step, hashes: FileHashes) -> Step:
    """The step that collects the text of the language model.

    Raises:
        UserError: the text cannot be read.
    """
    own, name = _own_text(recipe)
    told = None if own is None else _content(own, hashes)
    return Step(
        stage=STAGE,
        number=NUMBER,
        label="text",
        version=VERSION,
        settings={"text": name, "sentences": told, "alphabet": recipe.text.alphabet},
        inputs={} if own is not None else {"train": train},
        run=partial(write_text, sentences=own, name=name, alphabet=recipe.text.alphabet),
        unknown=own is not None and told is None,
    )


def _own_text(recipe: Recipe) -> tuple[Sequence[str] | Path | None, str]:
    """LM sentences that do not come from the train split, and what results call the text."""
    lm = recipe.lm
    if isinstance(lm.text, Path):
        return lm.text, f"file {lm.text.name}"
    corpus = corpus_module(recipe.corpus)
    # Where the n-gram is given, the corpus' text would serve nothing.
    if lm.text == "corpus" and lm.arpa is None and hasattr(corpus, "lm_text"):
        found: Sequence[str] | Path | None = corpus.lm_text(recipe.corpus)
        if found is not None:
            return found, str(corpus.LM_TEXT)
    return None, TRANSCRIPTS


def _content(text: Sequence[str] | Path, hashes: FileHashes) -> str | None:
    """What the text is known by; None where it is not known yet."""
    if isinstance(text, Path) and _is_streamed(text):
        found = hashes.of(text)
        return None if found is None else found[:16]
    told = hashlib.sha256()
    for number, sentence in enumerate(sentences_of(text)):
        told.update(f"\n{sentence}".encode() if number else sentence.encode())
    return told.hexdigest()[:16]


def _is_streamed(path: Path) -> bool:
    """Whether a file is large or compressed; not if it is not there."""
    try:
        return path.is_file() and (path.stat().st_size > LARGE_BYTES or _is_gzip(path))
    except OSError:
        return False


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(GZIP)) == GZIP


def sentences_of(text: Sequence[str] | Path) -> Iterator[str]:
    """The lines of a text, one at a time; of a file, with gzip or without, its lines.

    Raises:
        UserError: the file cannot be read, is damaged or not UTF-8, or a line of it is too long.
    """
    if not isinstance(text, Path):
        yield from text
    elif not _is_streamed(text):
        content = read_utf8(text, "text of lm.text", "check lm.text")
        for line in _bounded(text, io.StringIO(content, newline=None)):
            yield from line.splitlines()
    else:
        try:
            with opened(text) as lines:
                for line in lines:
                    yield from line.splitlines()
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise UserError(
                f"lm.text: {text} cannot be read: {error}",
                remedy="write or fetch the file anew, or name another one",
            ) from error


@contextmanager
def opened(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a UTF-8 file, unpacked where it is gzip's.

    Reading them raises UserError at one of more than `LONGEST_LINE` characters.
    """
    if _is_gzip(path):
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            yield _bounded(path, file)
    else:
        with open(path, encoding="utf-8-sig") as file:
            yield _bounded(path, file)


def _bounded(path: Path, file: IO[str]) -> Iterator[str]:
    """The lines of `path`, none of them larger than what a line may be: gzip's 1 MB may be 1 GB."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 2), ""), 1):
        if len(line.removesuffix("\n")) > LONGEST_LINE:
            raise UserError(
                f"{path}, line {number}: too long.",
                constraint=f"at most {LONGEST_LINE} characters a line",
                found=f"more, the first of them {line[:20]!r}",
                remedy="put every sentence, or entry, on a line of its own",
            )
        yield line


def write_text(
    ctx: StepContext, *, sentences: Sequence[str] | Path | None, name: str, alphabet: str
) -> None:
    """Write the normalised LM text and what it is; None: the transcripts of the input `train`."""
    count = words = 0
    with open(ctx.folder / "lm_text.txt", "w", encoding="utf-8") as file:
        for line in _normalised(_transcripts(ctx) if sentences is None else sentences, alphabet):
            file.write(f"{line}\n")
            count += 1
            words += line.count(" ") + 1
            if count % SHOWN_EVERY == 0:
                ctx.log.debug("%d sentences", count)
    if not count:
        raise UserError(
            f"The text of the language model ({name}) is empty.",
            constraint="at least one sentence with letters of text.alphabet",
            remedy="give a text in lm.text, or training transcripts",
        )
    facts = {"name": name, "sentences": count, "words": words}
    (ctx.folder / "lm_text.json").write_text(json.dumps(facts, indent=1), "utf-8")
    ctx.say(f"language model text: {words} words, {count} sentences ({name})")


def _transcripts(ctx: StepContext) -> Iterator[str]:
    for utterance in Manifest.load(ctx.inputs["train"]):
        if not utterance.is_copy and utterance.transcript is not None:
            yield utterance.transcript


def _normalised(sentences: Iterable[str] | Path, alphabet: str) -> Iterator[str]:
    from stages.prepare.text import normalise

    lines = sentences_of(sentences) if isinstance(sentences, Path) else sentences
    for sentence in lines:
        if text := normalise(sentence, alphabet)[0]:
            yield text
