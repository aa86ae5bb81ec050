"""What no recipe needs any more: artifacts that nothing points to, and interrupted work."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.store import OLD, PARTIAL, Store


def artifacts(exp: Path) -> list[Path]:
    """All artifacts of `exp`, those replaced by newer ones too; no interrupted work."""
    folders = (p for p in (exp / "store").glob("*-*") if p.is_dir())
    return [p for p in folders if p.suffix in ("", OLD)]


def unused(exp: Path) -> list[Path]:
    """The artifacts of `exp` that no recipe links to, and those replaced by newer ones.

    One whose replacement a kill left without its name is still the only one, and stays.
    """
    kept = {p.resolve() for p in exp.glob("*/[0-9]-*") if p.is_symlink()}
    found = (p for p in artifacts(exp) if p.suffix != OLD or _replaced(p))
    return sorted(p for p in found if p.resolve() not in kept)


def _replaced(old: Path) -> bool:
    return old.with_suffix("").exists()


def interrupted(exp: Path) -> list[Path]:
    """The folders of killed runs that would go on from there; none that a process works in."""
    store = Store(exp / "store")
    found = []
    for path in sorted(store.root.glob(f"*-*{PARTIAL}")):
        with store.locked_if_free(path.name.removesuffix(PARTIAL)) as free:
            if free and path.is_dir():
                found.append(path)
    return found


def size_bytes(path: Path) -> int:
    """All files of a folder; those that vanish meanwhile count nothing."""
    total = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def delete(path: Path) -> bool:
    """Remove a folder of the store, unless a process works in it by now."""
    if path.suffix != PARTIAL:
        shutil.rmtree(path)
        return True
    with Store(path.parent).locked_if_free(path.name.removesuffix(PARTIAL)) as free:
        if free:
            shutil.rmtree(path, ignore_errors=True)
        return free
