"""Cases 30 to 32, and mutated files of every reader: a named error, no code, no gigabytes.

What is read lies in hostile.py; it is read in a process of its own, whose memory is bounded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.recipe_file import load
from tests.faults import hostile

ROOT = Path(__file__).resolve().parents[2]
MOST_MEGABYTES = 300.0
MARKS = {30: pytest.mark.case(30), 31: pytest.mark.case(31), 32: pytest.mark.case(32)}
EXAMPLES = 100
# Those that load the same libraries share a process.
READERS = [
    ("tsv", "recipe"),
    ("parquet",),
    ("model", "model config", "checkpoint", "old checkpoint"),
    ("wav", "flac", "ogg", "opus", "mp3"),
]


def bounded(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.bounded", *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1700
    )


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By name, how reading each hostile file ended."""
    folder = tmp_path_factory.mktemp("hostile")
    done = bounded("hostile", str(folder))
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {row["name"]: row for row in rows}
    assert done.returncode == 0, f"after {list(found)[-1:]}: {done.stderr[-2000:]}"
    assert not list(folder.rglob(hostile.MARK)), "code of a file was run"
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS[int(name[:2])]) for name in hostile.FILES]
)
def test_a_hostile_file_is_refused_by_name_and_costs_little(
    read: dict[str, dict[str, Any]], name: str
) -> None:
    row = read[name]
    assert row["outcome"] == ("RunError" if "Parquet" in name or "units" in name else "UserError")
    assert hostile.FILES[name][1] in row["text"]
    assert len(row["text"].splitlines()) <= 5
    assert row["megabytes"] < MOST_MEGABYTES


@pytest.mark.case(30)
def test_the_calls_of_these_files_would_be_run(tmp_path: Path) -> None:
    import torch

    hostile.calls()(tmp_path)
    torch.load(tmp_path / "c.pt", weights_only=False)
    assert (tmp_path / hostile.MARK).exists()


@pytest.mark.case(31)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: !!python/object/apply:os.system ['touch {mark}']", "cannot be read as YAML"),
        ("seed: !!python/name:os.system", "cannot be read as YAML"),
        ("!!python/object/new:os.system ['touch {mark}']", "cannot be read as YAML"),
        (
            "quantizer: {{_target_: os.system, command: touch {mark}}}",
            "unknown key quantizer._targ",
        ),
        ("quantizer: {{encoder_layers: \"__import__('os')\"}}", "quantizer.encoder_layers: "),
    ],
)
def test_code_in_a_recipe_is_refused_and_not_run(tmp_path: Path, text: str, told: str) -> None:
    mark = tmp_path / hostile.MARK
    path = tmp_path / "evil.yaml"
    path.write_text(text.format(mark=mark) + "\n", "utf-8")
    with pytest.raises(UserError) as caught:
        load(path)
    assert told in str(caught.value)
    assert not mark.exists()


def fuzzed(readers: Sequence[str], examples: int) -> None:
    done = bounded("fuzz", str(examples), *readers)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["reader"] for row in rows] == list(readers)
    for row in rows:
        assert sum(row["ends"].values()) >= examples // 2
        assert len(row["ends"]) == 2 and min(row["ends"].values()) > 0, "all were read, or none"
        assert row["megabytes"] < MOST_MEGABYTES


def test_every_reader_is_tried() -> None:
    assert sorted(name for readers in READERS for name in readers) == sorted(hostile.READERS)


@pytest.mark.parametrize("readers", READERS, ids=lambda readers: readers[0])
def test_a_mutated_file_is_read_or_ends_in_a_named_error(readers: Sequence[str]) -> None:
    fuzzed(readers, EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("readers", READERS, ids=lambda readers: readers[0])
def test_very_many_mutated_files_are_read_or_end_in_a_named_error(readers: Sequence[str]) -> None:
    fuzzed(readers, 20 * EXAMPLES)
