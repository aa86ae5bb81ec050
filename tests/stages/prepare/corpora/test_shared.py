"""Unlabelled speech of any corpus, and the noise that the made ones share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.recipe import CorpusSettings
from stages.prepare.corpora._shared import unlabelled_sources, white_noise
from stages.prepare.corpus import Source

WriteTsv = Callable[[str, Sequence[Sequence[str]]], Path]
ROW = ("u1", "anna", "audio/u1.wav", "hello")


def settings(root: Path, *lists: str, **changes: Any) -> CorpusSettings:
    return CorpusSettings(**({"kind": "tsv", "root": root, "unlabelled": lists} | changes))


def test_lists_beside_the_root_become_splits_without_transcripts(
    tmp_path: Path, write_tsv: WriteTsv
) -> None:
    write_tsv("books/a.tsv", [ROW])
    write_tsv("talks/a.tsv", [ROW])
    (tmp_path / "corpus").mkdir()
    made = unlabelled_sources(
        settings(
            tmp_path / "corpus", "../books/a.tsv", "../talks/a.tsv", unlabelled_bandwidth_hz=4000
        )
    )
    assert list(made) == ["unlabelled/0", "unlabelled/1"]
    root = tmp_path / "corpus" / ".." / "books"
    assert made["unlabelled/0"] == [
        Source("books-u1", "books-anna", None, root, ("audio/u1.wav",), {"bandwidth_hz": 4000})
    ]
    assert made["unlabelled/1"][0].id == "talks-u1"


def test_without_lists_there_is_nothing(tmp_path: Path) -> None:
    assert unlabelled_sources(settings(tmp_path)) == {}


def test_without_a_band_limit_no_parameter_tells_of_one(
    tmp_path: Path, write_tsv: WriteTsv
) -> None:
    write_tsv("books/a.tsv", [ROW])
    assert unlabelled_sources(settings(tmp_path, "books/a.tsv"))["unlabelled/0"][0].parameters == {}


def test_ids_do_not_depend_on_where_the_corpus_lies(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("here/a.tsv", [ROW])
    write_tsv("there/a.tsv", [ROW])
    ids = [
        unlabelled_sources(settings(tmp_path / folder, "a.tsv"))["unlabelled/0"][0].id
        for folder in ("here", "there")
    ]
    assert ids == ["unlabelled-u1"] * 2


def test_speech_without_a_speaker_is_each_its_own(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("books/a.tsv", [("u1", "", "u1.wav", ""), ("u2", "", "u2.wav", "")])
    made = unlabelled_sources(settings(tmp_path, "books/a.tsv"))["unlabelled/0"]
    assert [s.speaker for s in made] == ["books-u1", "books-u2"]


def test_an_id_twice_is_refused(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("books/a.tsv", [ROW])
    write_tsv("books/b.tsv", [ROW])
    with pytest.raises(UserError, match=r"'books-u1' is in books/a\.tsv and in books/b\.tsv"):
        unlabelled_sources(settings(tmp_path, "books/a.tsv", "books/b.tsv"))


def test_speech_of_test_speakers_is_refused(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("more.tsv", [ROW])
    train = {"train": [Source("t", "anna", "hi", tmp_path, ("t.wav",))]}
    test = {"test/x": [Source("t", "anna", "hi", tmp_path, ("t.wav",))]}
    elsewhere = {"test/x": [Source("t", "anna", "hi", tmp_path / "far", ("t.wav",))]}
    assert unlabelled_sources(settings(tmp_path, "more.tsv"), train)
    assert unlabelled_sources(settings(tmp_path, "more.tsv"), elsewhere)
    with pytest.raises(UserError, match=r"more\.tsv and test/x share 1 speakers"):
        unlabelled_sources(settings(tmp_path, "more.tsv"), test)
    allowed = settings(tmp_path, "more.tsv", allow_shared_speakers=True)
    assert unlabelled_sources(allowed, test)


def test_noise_is_white_of_level_one_and_the_same_for_a_seed() -> None:
    noise = white_noise(40_000, seed=5)
    assert noise.dtype == np.float32
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, abs=0.02)
    assert np.corrcoef(noise[1:], noise[:-1])[0, 1] == pytest.approx(0, abs=0.03)
    assert noise[0] == pytest.approx(0.44122749)
    assert not np.array_equal(noise, white_noise(40_000, seed=6))


def test_real_speech_of_other_people_joins_the_digits(speech: Path) -> None:
    lists = ("../librispeech251/unlabelled.tsv", "../speechocean762/train.tsv")
    made = unlabelled_sources(settings(speech / "fsdd", *lists, unlabelled_bandwidth_hz=4000))
    assert [len(sources) for sources in made.values()] == [251, 1340]
    for sources in made.values():
        assert all(s.transcript is None and (s.root / s.files[0]).is_file() for s in sources)
