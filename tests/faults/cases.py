"""The faults that the program stands, numbered; a test says `@pytest.mark.case(3)` of which.

Tests of a case lie where they belong, most of them beside what they test; `pytest -m case` runs
those of all cases, and the table of cases stands at the end of the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

PROPERTY = "case"

CASES: dict[int, str] = {
    # interruption
    1: "kill -9 at random moments and at every place that writes, in every stage",
    2: "killed while a checkpoint is written",
    3: "the newest checkpoint truncated or bit-flipped",
    4: "killed in mid-epoch in stages 1, 3 and 5",
    5: "five interruptions in a row",
    6: "a finished stage run again; --stop-stage",
    7: "SIGTERM, SIGINT, SIGUSR1",
    8: "disk full, or read-only, in any writer",
    # freshness
    9: "a parameter changed, added or removed",
    10: "an audio file replaced with size and mtime kept",
    11: "worker count, device or log setting changed",
    12: "two runs at once in one folder",
    13: "a lock left by a kill",
    14: "a stored artifact altered or truncated afterwards",
    # bad input
    15: "WAV whose header promises more than it holds; truncated FLAC",
    16: "NaN, infinite or 1e29 samples; all zeros; clipped",
    17: "zero-length, or shorter than the receptive field",
    18: "8 kHz, 44.1 kHz, stereo, 24-bit, Ogg Opus, MP3",
    19: "text not UTF-8, CR line ends, BOM, odd spaces, combining accents, empty",
    20: "ids twice; audio missing or without transcript; a speaker in train and test",
    21: "`..`, absolute paths, links that leave the corpus folder",
    22: "fewer frames than labels",
    23: "letters outside the alphabet",
    24: "empty or tiny LM text; text that holds test sentences",
    25: "budget larger than the corpus; no dev; a budget no utterance fits",
    26: "unknown key, wrong type, out of range, unknown front-end or corpus",
    # numbers
    27: "NaN or infinite loss",
    28: "codebook collapse",
    29: "an acoustic model that emits only blanks",
    # security
    30: "a malicious .pt given for import",
    31: "code in conv_feature_layers, YAML tags, _target_",
    32: "a safetensors or Parquet file with a lying header",
}


def numbers_of(item: pytest.Item) -> list[int]:
    """The cases that a test is of.

    Raises:
        pytest.UsageError: a marker names a case that is not there.
    """
    numbers = [number for marker in item.iter_markers(PROPERTY) for number in marker.args]
    for number in numbers:
        if number not in CASES:
            raise pytest.UsageError(f"{item.nodeid}: there is no case {number!r}; 1 to 32")
    return sorted(set(numbers))


def outcomes(stats: Mapping[str, Iterable[Any]]) -> dict[int, Counter[str]]:
    """By case, how many of its tests passed, failed (or broke) and were skipped."""
    found: dict[int, Counter[str]] = {number: Counter() for number in CASES}
    for outcome, told in (
        ("passed", "passed"),
        ("failed", "failed"),
        ("error", "failed"),
        ("skipped", "skipped"),
    ):
        for report in stats.get(outcome, ()):
            for name, number in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    found[number][told] += 1
    return found


def state(counts: Counter[str]) -> str:
    """Of a case: failed if one of its tests did, passed if one passed, else not run."""
    if counts["failed"]:
        return "FAILED"
    return "passed" if counts["passed"] else "not run"


def table(found: Mapping[int, Counter[str]]) -> list[str]:
    """A line a case."""
    lines = []
    for number, title in CASES.items():
        counts = found[number]
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if name != "passed")
        tests = f"{counts['passed']} tests" + (f", {told}" if told else "")
        lines.append(f"case {number:2}: {state(counts):7} ({tests}) {title}")
    return lines
