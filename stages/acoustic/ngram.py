"""The word n-gram: built by KenLM's lmplz and build_binary, read by the kenlm module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import kenlm

from pipeline.errors import RunError
from pipeline.kenlm_tools import kenlm_tool

ARPA = "lm.arpa"
BINARY = "lm.bin"
MEMORY_MB = 512  # unbounded, lmplz reserves most of the machine's for three lines of text
VOCABULARY = "vocabulary.txt"


def build(
    text: Path,
    folder: Path,
    scratch: Path,
    order: int,
    prune: Sequence[int],
    *,
    vocabulary: Iterable[str] | None = None,
    memory_mb: int = MEMORY_MB,
) -> bool:
    """Estimate an n-gram of `text` (a sentence a line) into lm.arpa and lm.bin of `folder`.

    Modified Kneser-Ney. Where the text is too small to estimate discounts, lmplz is run again
    with fixed ones. Sorting is done on disk, in `scratch`, with so much memory.

    Args:
        vocabulary: the words that the model knows; others are unknown to it. None: all.

    Returns:
        whether the fixed discounts were needed.

    Raises:
        RunError: a program is missing or fails.
    """
    arpa = folder / ARPA
    command = [str(kenlm_tool("lmplz")), "-o", str(order), "-S", f"{memory_mb}M"]
    command += ["-T", f"{scratch}/"]
    command += ["--text", str(text), "--arpa", str(arpa)]
    if prune:
        command += ["--prune", *map(str, prune)]
    if vocabulary is not None:
        path = scratch / VOCABULARY
        path.write_text("".join(f"{word}\n" for word in vocabulary), "utf-8")
        command += ["--limit_vocab_file", str(path)]
    done = _call(command)
    fallback = done.returncode != 0 and "discount_fallback" in done.stderr
    if fallback:
        done = _call([*command, "--discount_fallback"])
    _check("lmplz", done)
    build_binary(folder, scratch, memory_mb)
    return fallback


def build_binary(folder: Path, scratch: Path, memory_mb: int = MEMORY_MB) -> None:
    """Make lm.bin of the lm.arpa in `folder`.

    Raises:
        RunError: the program is missing or fails.
    """
    command = [str(kenlm_tool("build_binary")), "-T", f"{scratch}/", "-S", f"{memory_mb}M", "trie"]
    _check("build_binary", _call([*command, str(folder / ARPA), str(folder / BINARY)]))


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _check(name: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
        raise RunError(
            f"{name} failed with status {done.returncode}.",
            found=" / ".join(last) or "no message",
            remedy="`vqasr check` tells whether the program works; lm.order and lm.prune set it",
        )


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How well a model foretells a text; the ends of sentences count as words.

    Attributes:
        with_oov: over everything, unknown words at the price that the model puts on them.
        without_oov: over known words and sentence ends only.
        oov: how many words the model does not know.
    """

    with_oov: float
    without_oov: float
    words: int
    sentences: int
    oov: int


def perplexity(model: Path, sentences: Iterable[str]) -> Perplexity | None:
    """Perplexity of the model in file `model` on `sentences`; None where there are none."""
    config = kenlm.Config()
    # Else all of the file is resident at once: 16 MiB of a trigram of a million words of text.
    config.load_method = kenlm.LoadMethod.LAZY
    lm = kenlm.Model(str(model), config)
    known = unknown = 0.0  # sums of log10 probabilities
    scored = oov = count = 0
    for sentence in sentences:
        count += 1
        for log10, _, is_oov in lm.full_scores(sentence, bos=True, eos=True):
            scored += 1
            oov += is_oov
            known += 0.0 if is_oov else log10
            unknown += log10 if is_oov else 0.0
    if not count:
        return None
    return Perplexity(
        with_oov=10 ** (-(known + unknown) / scored),
        without_oov=10 ** (-known / (scored - oov)),
        words=scored - count,
        sentences=count,
        oov=oov,
    )
