"""What made an artifact: versions of libraries, and a hash of the code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import sys
from functools import cache, partial
from pathlib import Path

from pipeline.stage import Step

TOLD_VERSIONS = (
    *("torch", "transformers", "fairseq", "numpy", "kenlm", "flashlight-text", "jiwer"),
    *("espeakng-loader", "soxr", "soundfile", "sentencepiece"),
)
# Files of `pipeline` that decide no result, but for what the signature or an error tells.
CARRIES_WORK = set(
    "checkpoints cli console cores errors folders freshness interrupt locks plugins prune recipe "
    "recipe_file runner section stage store quantizer_settings provenance".split()
)


@cache
def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"python": platform.python_version()}
    for name in TOLD_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def sources_hash(step: Step) -> str:
    """Hash of the code that does the step's work.

    That is the room of its stage, and what the room imports of `pipeline`, but for what only
    carries work about or refuses mistakes.
    """
    work = step.run.func if isinstance(step.run, partial) else step.run
    module = sys.modules.get(work.__module__)
    file = getattr(module, "__file__", None)
    return _room_hash(Path(file).parent) if file else ""


@cache
def _room_hash(room: Path) -> str:
    told = hashlib.sha256()
    shared: dict[Path, None] = {}
    files = sorted(room.rglob("*.py"))
    for path in files:
        source = path.read_bytes()
        told.update(path.relative_to(room).as_posix().encode())
        told.update(source)
        _add_imported(source.decode(), shared)
    for path in sorted(shared):
        told.update(path.name.encode())
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def _add_imported(source: str, found: dict[Path, None]) -> None:
    """Add the files of `pipeline` that a source imports, and what those import."""
    names = set(re.findall(r"\bpipeline\.(\w+)", source))
    for line in re.findall(r"\bfrom pipeline import (\([^)]*\)|.*)", source):
        names |= set(re.findall(r"\w+", line))
    for name in sorted(names - CARRIES_WORK):
        path = Path(__file__).parent / f"{name}.py"
        if path not in found and path.is_file():
            found[path] = None
            _add_imported(path.read_text("utf-8"), found)
