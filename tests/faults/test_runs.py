"""Runs beside each other, with artifacts that were altered, clocks that jump, and a small disk."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.interpose import Call, Fault
from tests.faults.whole import Whole, damaged

CopiedWithout = Callable[..., Whole]
CHECKPOINT_4 = "store/{}-*.partial/scratch/checkpoint-00000004.tmp"


def signalled(stage: str, number: signal.Signals) -> Fault:
    return Fault(Call("open", CHECKPOINT_4.format(stage)), signal=number)


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not there() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.case(12)
def test_a_second_run_waits_naming_process_and_host_and_does_nothing_twice(
    undisturbed: Undisturbed, copied: CopiedWithout, tmp_path: Path
) -> None:
    first = copied("bert")
    second = Whole(tmp_path / "second", first.recipe)
    second.exp = first.exp
    held = first.start("--stop-stage", "bert", fault=signalled("bert", signal.SIGSTOP))
    try:
        wait_for(lambda: first.met)
        assert first.met, first.said
        waits = second.start("--stop-stage", "bert")
        owner = f"3 bert: process {held.pid} on {socket.gethostname()} is at work on it; waiting"
        wait_for(lambda: owner in second.said)
        assert owner in second.said
    finally:
        assert held.pid is not None
        os.kill(held.pid, signal.SIGCONT)
    assert first.ended(held).code == 0, first.said
    assert second.ended(waits).code == 0, second.said
    assert (first.repeated, second.updates.total()) == (0, 0)
    assert damaged(undisturbed.whole.exp, first.exp) == []


def flattered(content: bytes) -> bytes:
    """Scores with a better WER."""
    return re.sub(rb'"wer": [0-9.]+', b'"wer": 0.001', content)


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.case(14)
@pytest.mark.parametrize(
    ("artifact", "file", "damage", "reads"),
    [
        ("7-score-test-all", "scores.json", flattered, ()),  # by the results
        ("3-bert", "model.safetensors", halved, ("--stage", "finetune", "--force")),
    ],
)
def test_what_was_damaged_is_refused_with_the_command_that_makes_it_anew(
    undisturbed: Undisturbed,
    copied: CopiedWithout,
    artifact: str,
    file: str,
    damage: Callable[[bytes], bytes],
    reads: tuple[str, ...],
) -> None:
    whole = copied()
    path = whole.links / artifact / file
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    ended = whole.run(*reads)
    assert ended.code == 1
    assert f"/{file} is not what was written (its checksum differs)." in ended.said
    assert "Traceback" not in ended.said
    told = next(x for x in ended.said.splitlines() if "remedy: " in x).partition("remedy: ")[2]
    words = ["vqasr", "run", str(whole.recipe), "--exp", str(whole.exp)]
    assert shlex.split(told)[:5] == words
    assert whole.run(*shlex.split(told)[5:]).code == 0
    assert whole.run(*reads).code == 0
    assert damaged(undisturbed.whole.exp, whole.exp) == []


@pytest.mark.case(7)
def test_a_signal_is_heard_although_the_clock_was_set_back(
    undisturbed: Undisturbed, copied: CopiedWithout
) -> None:
    """fairseq knows how long it trains from the clock of the system."""
    whole = copied("quantizer")
    ended = whole.run(
        "--stop-stage",
        "quantizer",
        fault=signalled("quantizer", signal.SIGTERM),
        set_back_seconds=86_400.0,
    )
    assert ended.code == 130, ended.said
    last = max(number for _, bar, number in ended.updates if bar == "quantizer")
    assert last in (4, 5)  # of 6
    assert whole.run("--stop-stage", "quantizer").code == 0
    assert whole.repeated == 0
    assert damaged(undisturbed.whole.exp, whole.exp) == []


@pytest.mark.case(9)
def test_times_in_the_future_make_nothing_stale(
    undisturbed: Undisturbed, copied: CopiedWithout, small_recipe: Path
) -> None:
    whole = copied()
    audio = {path: path.stat() for path in (small_recipe.parent / "corpus").rglob("*.wav")}
    ahead = time.time() + 10 * 86_400
    try:
        for path in [*audio, *whole.exp.rglob("*")]:
            if path.exists():
                os.utime(path, (ahead, ahead))
        ended = whole.run()
    finally:
        for path, facts in audio.items():
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert ended.code == 0
    assert "nothing to do" in ended.said
    assert damaged(undisturbed.whole.exp, whole.exp) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`small_disk(kilobytes)`: a real disk of that size, made or made larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def sized(kilobytes: int) -> Path:
        nonlocal mounted
        change = ["remount," if mounted else "", f"size={kilobytes}k"]
        command = ["mount", "-t", "tmpfs", "-o", "".join(change), "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted = True
        return place

    yield sized
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.case(8)
@pytest.mark.slow
def test_on_a_real_disk_that_is_full_it_goes_on_as_space_is_made(
    undisturbed: Undisturbed, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    whole = Whole(tmp_path, undisturbed.whole.recipe)
    kilobytes, failed = 60, 0
    whole.exp = small_disk(kilobytes) / "exp"
    while (ended := whole.run()).code:
        assert ended.code == 1, ended.said
        assert "The disk is full: " in ended.said
        assert "Traceback" not in ended.said
        failed += 1
        kilobytes = kilobytes * 5 // 4
        small_disk(kilobytes)
        assert kilobytes < 100_000
    assert failed >= 5
    assert damaged(undisturbed.whole.exp, whole.exp) == []
