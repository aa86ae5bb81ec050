"""Which code and which versions an artifact is said to be made by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import provenance


def test_shared_code_that_a_room_imports_is_code_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directly or by way of what it imports; what only carries work about is not."""
    pipeline = tmp_path / "pipeline"
    room = tmp_path / "stages" / "room"
    for folder in (pipeline, room):
        folder.mkdir(parents=True)
    (room / "stage.py").write_text("def run():\n    from pipeline import console, manifest\n")
    (room / "model.py").write_text("from pipeline.training import pad\n")
    (pipeline / "manifest.py").write_text("from pipeline import (\n    audio,\n)\n")
    for name in ("audio", "training", "console", "checks"):
        (pipeline / f"{name}.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(pipeline / "provenance.py"))
    hashes = [provenance._room_hash.__wrapped__(room)]
    for name, counts in (
        ("training", True),
        ("manifest", True),
        ("audio", True),
        ("console", False),  # says what goes on
        ("checks", False),  # not imported
    ):
        with open(pipeline / f"{name}.py", "a") as file:
            file.write("# other code\n")
        hashes.append(provenance._room_hash.__wrapped__(room))
        assert (hashes[-1] != hashes[-2]) == counts, name


def test_versions_of_all_that_makes_or_reads_speech_and_text_are_told() -> None:
    told = provenance.versions()
    assert {"espeakng-loader", "soxr", "soundfile", "sentencepiece", "torch"} <= set(told)
