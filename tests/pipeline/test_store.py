"""Artifacts: whole or not there, known by checksum, one process at a time."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import store as store_module
from pipeline.audio import file_sha256
from pipeline.errors import RunError
from pipeline.manifest import audio_place
from pipeline.stage import Step, StepContext
from pipeline.store import STAMP, Store, digest, hash_outputs, read_stamp, write_atomically


class KilledError(Exception):
    """Stands for a kill between two system calls."""


def nothing(ctx: StepContext) -> None:
    pass


STEP = Step("lm", 4, "", 1, {"order": 3}, {}, nothing)


def make(store: Store, step: Step = STEP, text: str = "words\n") -> None:
    folder, _ = store.open_partial(step, {})
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "lm.arpa").write_text(text)
    (folder / "scratch").mkdir(exist_ok=True)
    (folder / "scratch" / "checkpoint").write_text("x")
    store.finish(step, {}, 1.0)


def test_a_finished_artifact_holds_its_outputs_and_a_stamp(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.stamp(STEP) is None
    make(store)
    folder = store.path(STEP)
    assert sorted(p.name for p in folder.iterdir()) == [STAMP, "sub"]
    assert not store.partial(STEP).exists()
    stamp = store.stamp(STEP)
    assert stamp is not None
    assert stamp.signature == STEP.signature
    assert stamp.settings == {"order": 3}
    assert list(stamp.outputs) == ["sub/lm.arpa"]
    assert stamp.digest == digest(hash_outputs(folder)) == store.verify(STEP, "again")
    assert "python" in stamp.versions


@pytest.mark.case(1)
@pytest.mark.parametrize("half", ["history.jsonl.0f.tmp", ".tmpPiUxlY", "sub/.tmpPiUxlY"])
def test_what_a_kill_left_half_written_is_in_no_artifact(tmp_path: Path, half: str) -> None:
    """safetensors writes into `.tmpXXXXXX` before it renames."""
    store = Store(tmp_path / "store")
    folder, _ = store.open_partial(STEP, {})
    (folder / half).parent.mkdir(exist_ok=True)
    (folder / half).write_text("ha")
    make(store)
    assert not (store.path(STEP) / half).exists()
    stamp = store.stamp(STEP)
    assert stamp is not None
    assert list(stamp.outputs) == ["sub/lm.arpa"]


@pytest.mark.case(1)
def test_outputs_are_on_the_disk_before_their_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may take what was not synced, and leave a stamp that was."""
    synced: list[str] = []
    fsync = os.fsync

    def told(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name.partition(".json")[0])
        fsync(handle)

    monkeypatch.setattr(store_module.os, "fsync", told)
    make(Store(tmp_path / "store"))
    for name in ("lm.arpa", "sub"):
        assert name in synced
        assert synced.index(name) < synced.index("stamp")


def test_the_digest_depends_on_names_and_content_alone(tmp_path: Path) -> None:
    digests = []
    for name, file, text in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / file).write_text(text)
        (folder / STAMP).write_text(name)
        digests.append(digest(hash_outputs(folder)))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"settings": {"order": 4}},
        {"settings": {"order": 3, "prune": []}},
        {"settings": {}},
        {"inputs": {"text": STEP}},
        {"unknown": True},
    ],
)
def test_what_a_result_depends_on_changes_the_signature(change: dict[str, object]) -> None:
    assert replace(STEP, **change).signature != STEP.signature  # type: ignore[arg-type]


def test_an_input_of_another_signature_changes_the_signature() -> None:
    one, other = (replace(STEP, inputs={"text": replace(STEP, version=v)}) for v in (1, 2))
    assert one.signature != other.signature


def test_names_and_paths_change_no_signature(tmp_path: Path) -> None:
    assert replace(STEP, label="x", audio_root=tmp_path, budget="1h").signature == STEP.signature


def is_new(folder: Path) -> bool:
    file = folder / "lm.arpa"
    return file.exists() and file.read_text() == "new\n"


def remove_half(folder: object) -> None:
    """What a kill leaves of a folder that is being removed: its stamp may go last."""
    files = (path for path in Path(str(folder)).rglob("*") if path.is_file() and path.name != STAMP)
    for path in files:
        os.unlink(path)


@pytest.mark.case(1)
@pytest.mark.parametrize("at", range(14))
@pytest.mark.parametrize("there", [False, True])
def test_a_kill_anywhere_in_finish_passes_nothing_half_done_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, there: bool
) -> None:
    """Killed before call number `at` to the file system, or within one that removes a folder."""
    store = Store(tmp_path / "store")
    if there:
        make(store, text="old\n")
    folder, _ = store.open_partial(STEP, {})
    (folder / "lm.arpa").write_text("new\n")
    (folder / "scratch").mkdir()
    (folder / "scratch" / "checkpoint").write_text("hours of work")
    calls, rmtree = 0, store_module.shutil.rmtree

    def counted(work: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls > at:
                if work is rmtree:
                    remove_half(args[0])
                raise KilledError
            return work(*args, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store_module.shutil, "rmtree", counted(rmtree))
        for name in ("rename", "replace", "unlink", "write_text"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(store_module.os, "fsync", counted(os.fsync))
        patch.setattr(store_module, "hash_outputs", counted(hash_outputs))
        try:
            store.finish(STEP, {}, 1.0)
        except KilledError:
            assert at < calls
    if store.stamp(STEP) is not None:
        store.verify(STEP, "again")
    if not is_new(store.path(STEP)):  # nothing is lost: it is adopted, or can be gone on with
        adopted = store.adopt(STEP, {}) is not None
        assert adopted == is_new(store.path(STEP))
        assert adopted or (folder / "scratch" / "checkpoint").exists()
    store.open_partial(STEP, {})
    make(store, text="new\n")
    store.verify(STEP, "again")
    assert (store.path(STEP) / "sub" / "lm.arpa").read_text() == "new\n"
    assert not store.partial(STEP).exists()


@pytest.mark.case(1)
def test_work_goes_on_only_from_the_same_inputs(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder, resumed = store.open_partial(STEP, {"text": "a"})
    assert not resumed
    (folder / "half").write_text("x")
    assert store.open_partial(STEP, {"text": "a"}) == (folder, True)
    assert (folder / "half").exists()
    assert store.open_partial(STEP, {"text": "b"}) == (folder, False)
    assert not (folder / "half").exists()


@pytest.mark.case(1, 14)
def test_a_stamped_folder_is_adopted_only_as_it_was_stamped(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.adopt(STEP, {}) is None
    make(store)
    for change in ({"text": "other"}, {}):
        store.path(STEP).rename(store.partial(STEP))
        (store.partial(STEP) / "sub" / "lm.arpa").write_text("words\n" if change else "damaged\n")
        assert store.adopt(STEP, change) is None
        (store.partial(STEP) / "sub" / "lm.arpa").write_text("words\n")
        assert store.adopt(STEP, {}) == store.stamp(STEP)
        store.verify(STEP, "again")


def test_a_folder_that_does_not_tell_its_inputs_is_not_gone_on_with(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = store.partial(STEP)
    folder.mkdir(parents=True)
    (folder / "half").write_text("x")
    assert store.open_partial(STEP, {}) == (folder, False)
    assert not (folder / "half").exists()


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "added"])
@pytest.mark.case(14)
def test_an_artifact_that_was_altered_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path / "store")
    make(store)
    file = store.path(STEP) / "sub" / "lm.arpa"
    if damage == "altered":
        file.write_text("wordS\n")
    elif damage == "truncated":
        file.write_text("wor")
    elif damage == "missing":
        file.unlink()
    else:
        file = file.with_name("new")
        file.write_text("")
    with pytest.raises(RunError) as caught:
        store.verify(STEP, "vqasr run x --stage 4")
    assert str(file) in caught.value.what
    assert caught.value.remedy == "vqasr run x --stage 4"


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xfe\x00", b'{"signature": "x"}'])
def test_a_damaged_stamp_is_none(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path / "store")
    make(store)
    (store.path(STEP) / STAMP).write_bytes(content)
    assert store.stamp(STEP) is None
    make(store)
    assert store.stamp(STEP) is not None


def test_the_audio_folder_is_told_and_not_hashed(tmp_path: Path) -> None:
    digests = []
    for name in ("here", "there"):
        store = Store(tmp_path / f"store-{name}")
        step = replace(STEP, audio_root=tmp_path / name, audio_files={"a": f"{name}.wav"})
        make(store, step)
        expected = "".join(audio_place(tmp_path / name, {"a": f"{name}.wav"}))
        assert (store.path(step) / "audio_root.txt").read_text() == expected
        digests.append(store.verify(step, ""))
    assert digests[0] == digests[1]


def test_writing_atomically_leaves_the_old_file_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KilledError):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"


@pytest.mark.case(8)
def test_a_file_that_finds_no_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as told:
        write_atomically(tmp_path / "results.json", "[]")
    assert told.value.filename == str(tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_write_at_once_leave_one_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other, of the same pid on another machine, writes between our writing and renaming."""
    path, replace_it = tmp_path / "x.json", Path.replace

    def late(beside: Path, target: Path) -> Path:
        with monkeypatch.context() as other:
            other.setattr(Path, "replace", replace_it)
            write_atomically(path, "theirs")
        return replace_it(beside, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", late)
        write_atomically(path, "ours")
    assert path.read_text() == "ours"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_what_a_kill_left_half_written_is_no_output(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    make(store)
    (store.path(STEP) / "audio_root.txt.99.tmp").write_text("/ha")
    assert store.verify(STEP, "again")


HOLDER = """
import sys, time
from pathlib import Path
from pipeline.stage import Step
from pipeline.store import Store
step = Step("lm", 4, "", 1, {"order": 3}, {}, lambda ctx: None)
with Store(Path(sys.argv[1])).locked(step):
    Path(sys.argv[2]).touch()
    time.sleep(float(sys.argv[3]))
"""


def hold(tmp_path: Path, seconds: float) -> subprocess.Popen[bytes]:
    """Another process that has the lock of STEP."""
    told = tmp_path / "held"
    args = [sys.executable, "-c", HOLDER, str(tmp_path / "store"), str(told), str(seconds)]
    process = subprocess.Popen(args, cwd=Path(__file__).parents[2])
    until = time.monotonic() + 60
    while not told.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert told.exists()
    return process


@pytest.mark.case(12)
def test_a_second_process_waits_and_names_the_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = hold(tmp_path, 0.7)
    with Store(tmp_path / "store").locked(STEP):
        assert owner.poll() is not None or owner.wait(5) == 0  # it had let go
    said = capsys.readouterr().out
    assert f"4 lm: process {owner.pid} on {socket.gethostname()} is at work on it; waiting" in said


def test_an_owner_who_leaves_while_we_ask_who_it_is_does_not_matter(tmp_path: Path) -> None:
    assert store_module._owner(tmp_path / "lm-1.owner") == "another process"


@pytest.mark.case(13)
def test_the_lock_of_a_dead_process_clears_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = hold(tmp_path, 60)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    start = time.monotonic()
    with Store(tmp_path / "store").locked(STEP):
        assert time.monotonic() - start < 5
    assert "waiting" not in capsys.readouterr().out


def test_stamps_are_plain_json(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    make(store)
    stamp = read_stamp(store.path(STEP))
    told = json.loads((store.path(STEP) / STAMP).read_text("utf-8"))
    assert stamp is not None
    assert told["outputs"] == dict(stamp.outputs)


def test_a_place_that_is_told_as_it_should_be_is_known_by_its_checksum_alone(
    tmp_path: Path,
) -> None:
    class Unread(dict[str, str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("its files were looked at")

    store = Store(tmp_path / "store")
    step = replace(STEP, audio_root=tmp_path, audio_files={"a": "a.wav"})
    make(store, step)
    told = store.path(step) / "audio_root.txt"
    files = Unread(a="a.wav")
    files.place_sha256 = file_sha256(told)  # type: ignore[attr-defined]
    store.tell_audio_root(replace(step, audio_files=files))
    files.place_sha256 = "another"  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="looked at"):
        store.tell_audio_root(replace(step, audio_files=files))


def test_what_is_adopted_learns_where_the_audio_is_now(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in ("before", "after"):
        step = replace(STEP, audio_root=tmp_path / name, audio_files={"a": f"{name}.wav"})
        if name == "before":
            make(store, step)
            store.path(step).rename(store.partial(step))
    assert store.adopt(step, {}) is not None
    expected = "".join(audio_place(tmp_path / "after", {"a": "after.wav"}))
    assert (store.path(step) / "audio_root.txt").read_text() == expected
