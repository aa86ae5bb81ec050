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
    hashes = [provenance.room_hash.__wrapped__(room)]
    for name, counts in (
        ("training", True),
        ("manifest", True),
        ("audio", True),
        ("console", False),  # says what goes on
        ("checks", False),  # not imported
    ):
        with open(pipeline / f"{name}.py", "a") as file:
            file.write("# other code\n")
        hashes.append(provenance.room_hash.__wrapped__(room))
        assert (hashes[-1] != hashes[-2]) == counts, name


def test_code_of_other_rooms_that_a_room_imports_is_code_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In functions too, and what it imports in turn; its neighbours in that room are not."""
    sources = {
        "pipeline/cuts.py": "",
        "pipeline/runner.py": "",
        "stages/room/stage.py": "def run():\n    from stages.other.model import Model\n",
        "stages/room/plots.py": "import stages.other.colours\n",
        "stages/other/model.py": "from stages.other import (\n    codebook,\n)\n",
        "stages/other/codebook.py": "def cut():\n    from pipeline import cuts, runner\n",
        "stages/other/colours.py": "from stages.room import plots\n",  # round and round
        "stages/other/doctor.py": '"""Not `stages.room`\'s; from stages.other import doctor."""\n',
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "pipeline/provenance.py"))
    room_hash = provenance.room_hash.__wrapped__
    for name, source in sources.items():
        before = room_hash(tmp_path / "stages/room")
        (tmp_path / name).write_text(source + "# other code\n")
        counts = name not in ("pipeline/runner.py", "stages/other/doctor.py")
        assert (room_hash(tmp_path / "stages/room") != before) == counts, name


def test_stage_2_is_made_by_the_code_of_the_quantizer_too() -> None:
    root = Path(provenance.__file__).parent.parent
    found: dict[Path, None] = {}
    provenance._add_imported(root / "stages/units/discretize.py", root, found)
    names = {path.relative_to(root).as_posix() for path in found}
    wanted = "inference fast_encoder encoder model".split()
    assert {f"stages/quantizer/{name}.py" for name in wanted} | {"pipeline/cuts.py"} <= names
    assert "pipeline/runner.py" not in names


def test_versions_of_all_that_makes_or_reads_speech_and_text_are_told() -> None:
    told = provenance.versions()
    assert {"espeakng-loader", "soxr", "soundfile", "sentencepiece", "torch"} <= set(told)
