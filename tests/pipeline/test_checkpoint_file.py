"""Checkpoints of others: what may be in them is read, and nothing is run."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoint_file import read_fairseq
from pipeline.errors import UserError

WEIGHTS = OrderedDict(w=torch.arange(6.0).view(2, 3), half=torch.ones(2, dtype=torch.half))
STATE: dict[str, Any] = {"args": argparse.Namespace(arch="wav2vec", n=2), "model": WEIGHTS}


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, state: Any, form: str = "zip") -> Path:
    if form == "pickle":
        path.write_bytes(pickle.dumps(state, protocol=2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    return path


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_settings_and_weights_are_read_and_weights_become_fp32(tmp_path: Path, form: str) -> None:
    found = read_fairseq(write(tmp_path / "c.pt", STATE, form))
    assert found.settings == {"arch": "wav2vec", "n": 2}
    assert found.architecture == "wav2vec"
    assert torch.equal(found.weights["w"], WEIGHTS["w"])
    assert {w.dtype for w in found.weights.values()} == {torch.float32}


@pytest.mark.parametrize("model", [{"_name": "x", "n": 2}, argparse.Namespace(_name="x", n=2)])
def test_settings_may_stand_in_cfg(tmp_path: Path, model: Any) -> None:
    state = {"args": None, "cfg": {"model": model}, "model": WEIGHTS}
    found = read_fairseq(write(tmp_path / "c.pt", state))
    assert found.settings == {"_name": "x", "n": 2}
    assert found.architecture == "x"


@pytest.mark.case(30)
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("where", ["args", "model", "extra_state"])
@pytest.mark.parametrize("kind", ["os.system", "eval", "exec", "getattr", "open"])
def test_a_file_that_calls_functions_runs_none(
    tmp_path: Path, kind: str, where: str, form: str
) -> None:
    mark = tmp_path / "ran"
    evil = {
        "os.system": Calls(os.system, f"touch {mark}"),
        "eval": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Calls(exec, f"open({str(mark)!r}, 'w')"),
        "getattr": Calls(getattr, argparse.Namespace, "__init__"),
        "open": Calls(open, str(mark), "w"),
    }[kind]
    around = {} if form == "pickle" else STATE
    path = write(tmp_path / "evil.pt", around | {where: evil}, form)
    with pytest.raises(UserError, match="nothing of this one was run") as caught:
        read_fairseq(path)
    assert not mark.exists()
    assert len(caught.value.text().splitlines()) <= 4
    assert kind.rpartition(".")[2] in caught.value.found


def test_the_evil_files_of_these_tests_would_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = write(tmp_path / "evil.pt", STATE | {"args": Calls(os.system, f"touch {mark}")})
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_told_in_a_few_lines(tmp_path: Path, form: str, share: float) -> None:
    path = write(tmp_path / "c.pt", STATE, form)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="no checkpoint that can be imported") as caught:
        read_fairseq(path)
    assert len(caught.value.text().splitlines()) <= 4


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "c.pt", STATE)
    with zipfile.ZipFile(path) as archive:
        data = next(i for i in archive.infolist() if "/data/" in i.filename)
    whole = bytearray(path.read_bytes())
    at = whole.find(WEIGHTS["w"].numpy().tobytes(), data.header_offset)
    whole[at + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="checksum"):
        read_fairseq(path)


@pytest.mark.parametrize(
    "state",
    [
        [1, 2],
        {"model": WEIGHTS},
        {"args": None, "cfg": None, "model": WEIGHTS},
        {"args": argparse.Namespace(), "model": {"w": "text"}},
        {"args": argparse.Namespace(), "model": {"w": torch.tensor([1.0, float("nan")])}},
        {"args": argparse.Namespace(), "model": {"w": torch.eye(2).to_sparse()}},
        {"args": 3, "model": WEIGHTS},
    ],
)
def test_what_is_no_checkpoint_of_fairseq_is_refused(tmp_path: Path, state: Any) -> None:
    with pytest.raises(UserError, match="no checkpoint that can be imported"):
        read_fairseq(write(tmp_path / "c.pt", state))


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "content",
    [
        "corpus: {kind: digits}\n",
        "# A recipe.\ncorpus: tsv\n",
        "path\tspeaker\n",
        "cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_a_text_is_called_no_checkpoint_and_not_hostile(tmp_path: Path, content: str) -> None:
    """Letters mean something in a pickle: `c` asks for a function by name."""
    path = tmp_path / "c.pt"
    path.write_text(content)
    with pytest.raises(UserError, match="no checkpoint that can be imported") as caught:
        read_fairseq(path)
    assert caught.value.found == "neither a zip nor a pickle by its first bytes"


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    for content in (b"", b"hello\n", b"RIFF" + bytes(100), b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no checkpoint that can be imported"):
            read_fairseq(path)
    with pytest.raises(UserError, match="No such checkpoint"):
        read_fairseq(tmp_path / "none.pt")
    with pytest.raises(UserError, match="No such checkpoint"):
        read_fairseq(tmp_path)
