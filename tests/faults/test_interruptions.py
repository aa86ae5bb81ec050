"""One run of all stages that is killed, told to stop and out of space, over and over."""

from __future__ import annotations

import errno
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.prepare.listing import FOLDER as LISTS
from tests.faults.conftest import Undisturbed
from tests.faults.interpose import Call, Fault
from tests.faults.kills_pipeline import KILLED
from tests.faults.whole import Ended, Whole, damaged

KILL, FULL, READ_ONLY = "kill", "full disk", "read-only disk"
SIGNALS = {s.name: s for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
CODES = {KILL: KILLED, FULL: 1, READ_ONLY: 1, **dict.fromkeys(SIGNALS, 130)}
CASES = {KILL: (1,), FULL: (8,), READ_ONLY: (8,), **dict.fromkeys(SIGNALS, (7,))}
ONE = "unit_bert"  # the recipe
CHECKPOINT_4, BEST_3 = "scratch/checkpoint-00000004", "scratch/best-00000003"


@dataclass(frozen=True)
class Moment:
    """What happens, at a stage's first call of this kind to this file of its work."""

    kind: str
    stage: str
    operation: str
    file: str
    at: int = 1
    cases: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.stage}, {self.operation} {self.file}"

    @property
    def fault(self) -> Fault:
        beside = self.file.startswith(ONE)
        place = self.file if beside else f"store/{self.stage}-*.partial/{self.file}"
        if self.file == "":  # the artifact itself
            place = f"store/{self.stage}-{'[0-9a-f]' * 16}"
        return Fault(
            Call(self.operation, place),
            self.at,
            {FULL: errno.ENOSPC, READ_ONLY: errno.EROFS}.get(self.kind, 0),
            lasts=self.kind in (FULL, READ_ONLY),
            signal=SIGNALS.get(self.kind, 0),
        )


# In the order of work: each process begins with what the one before has left.
MOMENTS = [
    Moment(KILL, "prepare", "write", "audio/train-03.flac"),
    Moment("SIGTERM", "prepare", "write", "audio/train-07.flac"),
    Moment(FULL, "prepare", "write", "audio/train-09.flac"),
    Moment(KILL, "prepare", "write", "manifest.jsonl"),
    Moment(KILL, "prepare", "rename", ""),
    Moment(READ_ONLY, "quantizer", "open", "scratch/checkpoint-00000002.tmp"),
    Moment(KILL, "quantizer", "write", f"{CHECKPOINT_4}.tmp", 5, (2, 4)),
    Moment(FULL, "quantizer", "write", f"{CHECKPOINT_4}.tmp", 5, (2,)),
    Moment("SIGUSR1", "quantizer", "open", f"{CHECKPOINT_4}.tmp"),
    Moment(KILL, "quantizer", "write", ".tmp*"),  # by safetensors
    Moment(KILL, "discretize", "write", "units-00000.tmp", 3),  # by Arrow
    Moment(FULL, "discretize", "write", "units-00000.tmp", 3),
    Moment("SIGINT", "discretize", "rename", "units-00000.parquet"),
    Moment(KILL, "bert", "write", f"{BEST_3}.tmp", 3, (2,)),
    Moment(FULL, "bert", "write", f"{ONE}/tensorboard/3-bert/events.*", 4),
    Moment("SIGINT", "bert", "open", f"{CHECKPOINT_4}.tmp"),
    Moment(FULL, "bert", "write", ".tmp*"),
    Moment(KILL, "bert", "rename", "stamp.json"),
    Moment("SIGTERM", "lm", "open", "lexicon.txt"),
    Moment(FULL, "lm", "write", "lm.arpa"),  # by lmplz, a program of its own
    Moment(KILL, "lm", "write", "lm.arpa"),
    Moment(KILL, "finetune", "rename", f"{CHECKPOINT_4}.pt", 1, (2, 4)),
    Moment("SIGTERM", "finetune", "open", f"{CHECKPOINT_4}.tmp"),
    Moment(FULL, "finetune", "write", ".tmp*"),
    Moment(KILL, "decode", "rename", "log_probs.safetensors"),
    Moment("SIGUSR1", "decode", "write", "*.trn"),
    Moment(FULL, "decode", "write", "weights.json"),
    Moment(KILL, "score", "write", "scores.json"),
    Moment("SIGTERM", "score", "write", "scores.json"),
    Moment(FULL, "score", "write", f"{ONE}/results.json.*.tmp"),
    Moment(KILL, "score", "rename", f"{ONE}/results.json"),
]


@dataclass(frozen=True)
class Chain:
    """What came of each moment, and at last."""

    whole: Whole
    ended: Mapping[str, Ended]
    last: Ended


@pytest.fixture(scope="module")
def chain(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    whole = Whole(tmp_path_factory.mktemp("chain"), undisturbed.whole.recipe)
    ended = {moment.name: whole.run(fault=moment.fault) for moment in MOMENTS}
    return Chain(whole, ended, whole.run())


def tables() -> list[Any]:
    return [
        pytest.param(
            moment,
            id=moment.name,
            marks=pytest.mark.case(*CASES[moment.kind], *moment.cases),
        )
        for moment in MOMENTS
    ]


@pytest.mark.parametrize("moment", tables())
def test_it_ends_as_it_is_to(chain: Chain, moment: Moment) -> None:
    ended = chain.ended[moment.name]
    assert ended.met, ended.said
    assert ended.code == CODES[moment.kind], ended.said
    assert "Traceback" not in ended.said
    assert "waiting" not in ended.said  # a lock of the one before
    errors = ended.said[ended.said.rfind("vqasr: ") :].splitlines()
    if moment.kind in SIGNALS:
        assert errors == ["vqasr: interrupted; the same command goes on"]
    elif moment.kind == FULL:
        assert "The disk is full: " in errors[0]
        assert str(chain.whole.exp) in "".join(errors[:2])
        assert "make space" in errors[2]
        assert len(errors) <= 4  # the last names the step's log
    elif moment.kind == READ_ONLY:
        assert "could not be written" in errors[0]
        assert "Read-only file system" in errors[1]
        assert len(errors) <= 4


@pytest.mark.case(1, 2, 4, 7, 8, 13)
def test_what_is_left_is_what_an_undisturbed_run_leaves(
    chain: Chain, undisturbed: Undisturbed
) -> None:
    assert chain.last.code == 0, chain.last.said
    assert len(undisturbed.whole.updates) == 3 * 6
    assert damaged(undisturbed.whole.exp, chain.whole.exp) == []
    assert set(chain.whole.updates) == set(undisturbed.whole.updates)
    # At most two updates a kill or failure in a training, none a signal.
    assert 0 < chain.whole.repeated <= 2 * 8


@pytest.mark.case(6)
def test_run_again_it_does_nothing_and_stopped_earlier_nothing_later(
    undisturbed: Undisturbed, copied: Any
) -> None:
    whole = copied()
    assert whole.run().code == 0  # remembers the corpus' lists anew
    ended = whole.run(logged=True)
    assert (ended.code, whole.calls()) == (0, [])
    assert "nothing to do" in ended.said
    whole.remove("discretize")
    whole.remove("lm")
    assert whole.run("--stop-stage", "discretize", logged=True).code == 0
    changed = {path.partition("/")[2] for _, path in map(as_pair, whole.calls())}
    early = ("discretize-", "2-", ".2-", "logs", "tensorboard", LISTS)
    assert {name for name in changed if name and not name.startswith(early)} == set()
    assert not list((whole.exp / "store").glob("lm-*/"))


def as_pair(call: Call) -> tuple[str, str]:
    return call.operation, call.path


@pytest.mark.case(5)
@pytest.mark.parametrize(
    "stage",
    [
        "bert",
        pytest.param("quantizer", marks=pytest.mark.slow),
        pytest.param("finetune", marks=pytest.mark.slow),
    ],
)
def test_five_kills_in_a_row_are_as_one(undisturbed: Undisturbed, copied: Any, stage: str) -> None:
    whole = copied(stage)
    moment = Moment(KILL, stage, "rename", f"{CHECKPOINT_4}.pt")
    for _ in range(5):
        assert whole.run("--stop-stage", stage, fault=moment.fault).code == KILLED
    assert whole.repeated == 4 * 2  # updates 3 and 4
    assert whole.run("--stop-stage", stage).code == 0
    assert damaged(undisturbed.whole.exp, whole.exp) == []


@pytest.mark.case(3)
@pytest.mark.parametrize(
    ("stage", "damage"), [("quantizer", "flipped"), ("bert", "truncated"), ("finetune", "flipped")]
)
def test_of_a_damaged_newest_checkpoint_the_one_before_is_used_and_that_is_said(
    undisturbed: Undisturbed, copied: Any, stage: str, damage: str
) -> None:
    whole = copied(stage)
    moment = Moment(KILL, stage, "open", "config.json")  # all updates are behind it
    assert whole.run("--stop-stage", stage, fault=moment.fault).code == KILLED
    newest = max((whole.partial(stage) / "scratch").glob("checkpoint-*.pt"))
    damage_file(newest, damage)
    ended = whole.run("--stop-stage", stage)
    assert f"{newest.name} is damaged; the one before it is used" in ended.said
    assert damaged(undisturbed.whole.exp, whole.exp) == []
    assert whole.repeated == (4 if stage != "quantizer" else 2)  # it saves its last update, too


def damage_file(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    path.write_bytes(content[:middle] if damage == "truncated" else content)


@pytest.mark.case(8)
def test_an_artifact_stays_whole_where_there_is_no_space_to_make_it_anew(
    undisturbed: Undisturbed, copied: Any
) -> None:
    whole = copied()
    moment = Moment(FULL, "lm", "write", "lm.arpa")
    options = ("--stage", "lm", "--stop-stage", "lm", "--force")
    assert whole.run(*options, fault=moment.fault).code == 1
    left = damaged(undisturbed.whole.exp, whole.exp)
    assert left
    assert all(".partial/" in name for name in left)  # more, and nothing else
