"""The words that the beam search may write, each with its spelling in targets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.acoustic.targets import BOUNDARY, Targets

LEXICON = "lexicon.txt"


def write_lexicon(folder: Path, words: Iterable[str], targets: Targets) -> int:
    """Write `word TAB spelling`, sorted by word; return how many words there are.

    With letters every spelling ends with the boundary, which the search asks for after each
    word: `left<TAB>l e f t |`.
    """
    lines = []
    for word in sorted(set(words)):
        spelling = [targets.symbols[i] for i in targets.encode(word)]
        if targets.boundary is not None:
            spelling.append(BOUNDARY)
        lines.append(f"{word}\t{' '.join(spelling)}\n")
    (folder / LEXICON).write_text("".join(lines), "utf-8")
    return len(lines)


def read_lexicon(folder: Path, targets: Targets) -> dict[str, list[int]]:
    """The words of `folder` with their spellings, boundary included."""
    ids = {symbol: i for i, symbol in enumerate(targets.symbols)}
    spellings = {}
    with open(folder / LEXICON, encoding="utf-8") as file:
        for line in file:
            word, spelling = line.rstrip("\n").split("\t")
            spellings[word] = [ids[s] for s in spelling.split(" ")]
    return spellings
