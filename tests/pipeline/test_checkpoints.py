"""Checkpoints: the newest whole one, whatever happened to the files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline import checkpoints


class KilledError(Exception):
    """Stands for a kill between two system calls."""


def save(folder: Path, *updates: int) -> None:
    for done in updates:
        checkpoints.save(folder, done, {"weights": torch.full((50,), float(done))})


def newest(folder: Path) -> tuple[int | None, list[str]]:
    """Updates of the newest whole checkpoint, whose content is looked at, and what was said."""
    said: list[str] = []
    found = checkpoints.newest(folder, said.append)
    if found is None:
        return None, said
    assert torch.equal(found.state["weights"], torch.full((50,), float(found.updates)))
    return found.updates, said


def cut(content: bytearray) -> bytes:
    return content[: len(content) // 2]


def flip_one_bit(content: bytearray) -> bytes:
    content[len(content) // 2] ^= 1
    return content


def empty(_: bytearray) -> bytes:
    return b""


DAMAGE = [cut, flip_one_bit, empty]


def damage(path: Path, how: Callable[[bytearray], bytes]) -> None:
    path.write_bytes(how(bytearray(path.read_bytes())))


def test_the_newest_of_two_is_read(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    save(tmp_path, 5, 10, 15)
    assert newest(tmp_path) == (15, [])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"checkpoint-{n:08d}.{end}" for n in (10, 15) for end in ("pt", "sha256")]


def no_text(content: bytearray) -> bytes:
    content[5] ^= 0x80
    return content


@pytest.mark.case(3)
@pytest.mark.parametrize("suffix", [".pt", ".sha256"])
@pytest.mark.parametrize("how", [*DAMAGE, no_text])
def test_a_damaged_one_gives_way_to_the_one_before(
    tmp_path: Path, how: Callable[[bytearray], bytes], suffix: str
) -> None:
    save(tmp_path, 5, 10)
    damage(tmp_path / f"checkpoint-00000010{suffix}", how)
    updates, said = newest(tmp_path)
    assert updates == 5
    assert said == ["checkpoint checkpoint-00000010.pt is damaged; the one before it is used"]
    assert newest(tmp_path) == (5, [])  # it is gone, and does not count among the two that are kept
    save(tmp_path, 7)
    assert len(list(tmp_path.glob("*.pt"))) == 2


@pytest.mark.parametrize("how", DAMAGE)
def test_where_all_are_damaged_it_starts_again_and_says_so(
    tmp_path: Path, how: Callable[[bytearray], bytes]
) -> None:
    save(tmp_path, 5, 10)
    for path in tmp_path.glob("*.pt"):
        damage(path, how)
    updates, said = newest(tmp_path)
    assert updates is None
    assert len(said) == 3 and said[-1] == "no checkpoint is whole: starting from the first update"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.case(2)
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves the name of a file whose content was never written."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name.split('.')[0]}")
        fsync(handle)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    save(tmp_path, 5)
    name = "checkpoint-00000005"
    assert done == [
        f"sync {name}",
        f"sync {name}",  # of its checksum
        f"name {name}.sha256",
        f"sync {tmp_path.name}",
        f"name {name}.pt",
        f"sync {tmp_path.name}",
    ]


@pytest.mark.case(2)
@pytest.mark.parametrize("call", ["first replace", "second replace", "unlink"])
def test_a_kill_within_a_save_leaves_a_whole_one_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    save(tmp_path, 5, 10)
    replaced = 0

    def kill_at_replace(path: Path, target: Path) -> Path:
        nonlocal replaced
        replaced += 1
        if (replaced, call) in [(1, "first replace"), (2, "second replace")]:
            raise KilledError
        path.rename(target)
        return target

    def kill_at_unlink(path: Path, missing_ok: bool = False) -> None:
        if not missing_ok:  # the removal of an old checkpoint
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill_at_replace)
        patch.setattr(Path, "unlink", kill_at_unlink)
        with pytest.raises(KilledError):
            save(tmp_path, 15)
    left = list(tmp_path.iterdir())
    assert sum(path.suffix in (".pt", ".tmp") for path in left) >= 3
    assert newest(tmp_path) == (15 if call == "unlink" else 10, [])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".pt"] * 2 + [".sha256"] * 2
    save(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 4
