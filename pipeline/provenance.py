"""What made an artifact: versions of libraries, and a hash of the code."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
import sys
from functools import cache, partial
from pathlib import Path

from pipeline.stage import Step

TOLD_VERSIONS = (
    *("torch", "transformers", "fairseq", "numpy", "kenlm", "flashlight-text", "jiwer"),
    *("espeakng-loader", "soxr", "soundfile", "sentencepiece"),
)
PACKAGES = ("pipeline", "stages")
# Files of `pipeline` that decide no result, but for what the signature or an error tells.
CARRIES_WORK = set(
    "checkpoints cli console cores errors folders freshness interrupt locks plugins prune recipe "
    "recipe_file runner section stage store quantizer_settings provenance text_file "
    "yaml_file".split()
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

    That is the room of its stage, and what the room imports of `pipeline` and of other rooms,
    directly or by way of others, but for what only carries work about or refuses mistakes.
    """
    work = step.run.func if isinstance(step.run, partial) else step.run
    module = sys.modules.get(work.__module__)
    file = getattr(module, "__file__", None)
    return room_hash(Path(file).parent) if file else ""


@cache
def room_hash(room: Path) -> str:
    """Hash of a room's files, and of what they import of the rest; see `sources_hash`."""
    root = Path(__file__).parent.parent
    found = dict.fromkeys(sorted(room.rglob("*.py")))
    for path in list(found):
        _add_imported(path, root, found)
    told = hashlib.sha256()
    for path in sorted(found):
        told.update(path.relative_to(root).as_posix().encode())
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def _add_imported(source: Path, root: Path, found: dict[Path, None]) -> None:
    """Add the project's files that a source imports anywhere in it, and what those import."""
    for name in _imported_names(source.read_bytes()):
        package, _, rest = name.partition(".")
        carries = package == "pipeline" and rest.partition(".")[0] in CARRIES_WORK
        if package not in PACKAGES or carries:
            continue
        module = root / name.replace(".", "/")
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path not in found and path.is_file():
                found[path] = None
                _add_imported(path, root, found)


@cache
def _imported_names(source: bytes) -> set[str]:
    """The full names of modules, and of what is taken from them, which may be modules too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names
