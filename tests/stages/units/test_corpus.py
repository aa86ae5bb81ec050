from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunError
from stages.units.corpus import FACTS, UnitCorpus, facts_text, shard_path, write_shard

RNG = np.random.default_rng(0)
UNITS = {f"u/{n} ü": RNG.integers(0, 320, (n + 1, 2)).astype(np.int16) for n in range(5)}


def write(folder: Path, utterances: int = 5) -> None:
    names = list(UNITS)
    write_shard(shard_path(folder, 0), names[:3], [UNITS[n] for n in names[:3]])
    write_shard(shard_path(folder, 1), names[3:], [UNITS[n] for n in names[3:]])
    facts = {"utterances": utterances, "groups": 2, "codes": 320}
    (folder / FACTS).write_text(facts_text(facts))


def test_units_come_back_by_utterance(tmp_path: Path) -> None:
    write(tmp_path)
    corpus = UnitCorpus(tmp_path)
    assert list(corpus) == list(UNITS)
    assert (len(corpus), corpus.groups, corpus.codes) == (5, 2, 320)
    for name, units_FG in UNITS.items():
        assert name in corpus
        np.testing.assert_array_equal(corpus[name], units_FG)
        assert corpus[name].dtype == np.int16
    assert "other" not in corpus


def test_the_same_units_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_lost_shard_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    shard_path(tmp_path, 1).unlink()
    with pytest.raises(RunError, match=r"(?s)units of 5 utterances.*found: 3"):
        UnitCorpus(tmp_path)


def test_facts_are_written_the_same_whatever_their_order() -> None:
    assert facts_text({"a": 1, "b": 2}) == facts_text({"b": 2, "a": 1})
    assert json.loads(facts_text({"a": 1})) == {"a": 1}
