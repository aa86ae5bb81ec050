"""Sentences of dev and test that the language model has read: a result made on them flatters."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.manifest import Manifest


def in_text(manifest: Manifest, text: Path) -> int:
    """How many utterances have a transcript that stands verbatim in `text`, a sentence a line.

    The text may be large and is never held in memory. Both went through the same normalisation.
    """
    said = Counter(u.transcript for u in manifest if u.transcript)
    found = set()
    with open(text, encoding="utf-8") as lines:
        for line in lines:
            sentence = line.strip()
            if sentence in said:
                found.add(sentence)
    return sum(said[sentence] for sentence in found)
