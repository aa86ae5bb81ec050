"""One's own folder: lists as given, speakers split off where a list is missing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import UserError
from stages.prepare.corpora.tsv import Settings
from stages.prepare.corpus import Source
from stages.prepare.sources import splits

Rows = Sequence[Sequence[str]]
WriteTsv = Callable[[str, Rows], Path]


def rows(*speakers: str, each: int = 2, transcript: str = "hello") -> Rows:
    return [
        (f"{speaker}-{n}", speaker, f"audio/{speaker}-{n}.wav", transcript)
        for speaker in speakers
        for n in range(each)
    ]


def settings(root: Path, **changes: Any) -> Settings:
    return Settings(**({"root": root, "train": "train.tsv"} | changes))


def speakers(made: dict[str, list[Source]]) -> dict[str, set[str]]:
    return {split: {s.speaker for s in sources} for split, sources in made.items()}


def test_lists_become_splits_as_they_are(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("train.tsv", rows("a", "b"))
    write_tsv("dev.tsv", rows("c"))
    write_tsv("clean.tsv", rows("d"))
    write_tsv("far/noisy.tsv", rows("e"))
    made = splits(
        settings(tmp_path, dev="dev.tsv", test={"clean": "clean.tsv", "noisy": "far/noisy.tsv"})
    )
    assert speakers(made) == {
        "train": {"a", "b"},
        "dev": {"c"},
        "test/clean": {"d"},
        "test/noisy": {"e"},
    }
    assert made["train"][0] == Source("a-0", "a", "hello", tmp_path, ("audio/a-0.wav",))
    assert made["test/noisy"][0].root == tmp_path / "far"


def test_whole_speakers_are_split_off_and_nothing_is_lost(
    tmp_path: Path, write_tsv: WriteTsv
) -> None:
    names = [f"s{n:02d}" for n in range(20)]
    write_tsv("train.tsv", rows(*names))
    made = splits(settings(tmp_path))
    parts = speakers(made)
    assert [len(parts[s]) for s in ("train", "dev", "test/test")] == [16, 2, 2]
    assert set().union(*parts.values()) == set(names)
    assert sum(len(sources) for sources in made.values()) == 40
    # Pinned: on every machine the same speakers.
    assert (parts["dev"], parts["test/test"]) == ({"s11", "s18"}, {"s07", "s08"})


def test_the_order_of_lines_decides_nothing(tmp_path: Path, write_tsv: WriteTsv) -> None:
    names = [f"s{n:02d}" for n in range(20)]
    write_tsv("train.tsv", rows(*names))
    write_tsv("turned.tsv", rows(*names)[::-1])
    turned = splits(settings(tmp_path, train="turned.tsv"))
    assert speakers(turned) == speakers(splits(settings(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"dev_speakers": 3, "test_speakers": 5}, (12, 3, 5)),
        ({"dev_fraction": 0.25, "test_fraction": 0.5}, (5, 5, 10)),
        ({"dev_fraction": 0.001}, (17, 1, 2)),
    ],
)
def test_how_many_are_split_off_can_be_said(
    tmp_path: Path, write_tsv: WriteTsv, changes: dict[str, Any], counts: tuple[int, int, int]
) -> None:
    write_tsv("train.tsv", rows(*(f"s{n:02d}" for n in range(20))))
    parts = speakers(splits(settings(tmp_path, **changes)))
    assert tuple(len(parts[s]) for s in ("train", "dev", "test/test")) == counts


def test_only_what_is_missing_is_split_off(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("train.tsv", rows("a", "b", "c"))
    write_tsv("own.tsv", rows("d"))
    parts = speakers(splits(settings(tmp_path, test={"own": "own.tsv"})))
    assert set(parts) == {"train", "dev", "test/own"} and len(parts["train"]) == 2
    parts = speakers(splits(settings(tmp_path, dev="own.tsv")))
    assert set(parts) == {"train", "dev", "test/test"} and len(parts["test/test"]) == 1


def test_two_speakers_are_too_few_to_split(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("train.tsv", rows("a", "b"))
    with pytest.raises(UserError, match=r"too few speakers(.|\n)*a, b"):
        splits(settings(tmp_path))


def test_three_speakers_are_enough(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("train.tsv", rows("a", "b", "c"))
    assert all(len(s) == 1 for s in speakers(splits(settings(tmp_path))).values())


def test_speakers_with_untranscribed_speech_stay_in_train(
    tmp_path: Path, write_tsv: WriteTsv
) -> None:
    silent = [(f"x-{s}", s, f"audio/x-{s}.wav", "") for s in ("a", "b")]
    write_tsv("train.tsv", [*rows("a", "b", "c", "d"), *silent])
    made = splits(settings(tmp_path))
    assert speakers(made)["train"] == {"a", "b"}
    assert [s.id for s in made["train"] if s.transcript is None] == ["x-a", "x-b"]


@pytest.mark.parametrize("other", ["dev", "test"])
def test_shared_speakers_are_refused_unless_allowed(
    tmp_path: Path, write_tsv: WriteTsv, other: str
) -> None:
    write_tsv("train.tsv", rows("a", "b", *"klmnop"))
    write_tsv("dev.tsv", rows("c"))
    write_tsv("test.tsv", rows("d"))
    shared = [(f"new-{s}", s, f"audio/new-{s}.wav", "hi") for s in "klmnop"]
    write_tsv(f"{other}.tsv", shared)
    lists: dict[str, Any] = {"dev": "dev.tsv", "test": {"clean": "test.tsv"}}
    with pytest.raises(UserError, match=r"share 6 speakers(.|\n)*k, l, m, n, o and 1 more"):
        splits(settings(tmp_path, **lists))
    made = splits(settings(tmp_path, **lists, allow_shared_speakers=True))
    assert sum(map(len, made.values())) == 16 + 6 + 2


def test_a_recording_in_two_splits_is_refused_under_any_name(
    tmp_path: Path, write_tsv: WriteTsv
) -> None:
    write_tsv("train.tsv", rows("a", "b"))
    write_tsv("dev.tsv", rows("c"))
    write_tsv("test.tsv", [("other", "d", "audio/../audio/a-1.wav", "hi")])
    lists: dict[str, Any] = {"dev": "dev.tsv", "test": {"clean": "test.tsv"}}
    with pytest.raises(UserError, match=r"share 1 recordings(.|\n)*a-1.wav"):
        splits(settings(tmp_path, **lists, allow_shared_speakers=True))


@pytest.mark.parametrize("other", ["dev", "test"])
def test_dev_and_test_need_transcripts(tmp_path: Path, write_tsv: WriteTsv, other: str) -> None:
    write_tsv("train.tsv", rows("a"))
    write_tsv("dev.tsv", rows("b"))
    write_tsv("test.tsv", rows("c"))
    write_tsv(f"{other}.tsv", [*rows("e"), ("mute", "e", "audio/mute.wav", " ")])
    with pytest.raises(UserError, match=rf"{other}.*: 1 utterances(.|\n)*mute"):
        splits(settings(tmp_path, dev="dev.tsv", test={"clean": "test.tsv"}))


def test_train_without_any_transcript_is_refused(tmp_path: Path, write_tsv: WriteTsv) -> None:
    write_tsv("train.tsv", rows("a", "b", "c", transcript=""))
    with pytest.raises(UserError, match=r"no utterance with a transcript(.|\n)*unlabelled"):
        splits(settings(tmp_path))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("x", "a", "/etc/passwd", "hi"), "leaves the corpus"),
        (("x", "a", "../other/a.wav", "hi"), "leaves the corpus"),
        (("x", "", "a.wav", "hi"), "'x' has no speaker"),
    ],
)
def test_wrong_lines_are_refused(
    tmp_path: Path, write_tsv: WriteTsv, row: Sequence[str], told: str
) -> None:
    write_tsv("train.tsv", [row])
    with pytest.raises(UserError, match=told):
        splits(settings(tmp_path))


def test_missing_and_empty_lists_are_told(tmp_path: Path, write_tsv: WriteTsv) -> None:
    with pytest.raises(UserError, match="No such corpus list"):
        splits(settings(tmp_path))
    write_tsv("train.tsv", [])
    with pytest.raises(UserError, match="lists no utterance"):
        splits(settings(tmp_path))


def test_a_dev_speaker_among_those_split_off_for_test_is_refused(
    tmp_path: Path, write_tsv: WriteTsv
) -> None:
    write_tsv("train.tsv", rows("a", "b", "c", "d"))
    (test,) = speakers(splits(settings(tmp_path, dev_speakers=1)))["test/test"]
    write_tsv("dev.tsv", [(f"other-{test}", test, f"audio/other-{test}.wav", "hi")])
    with pytest.raises(UserError, match="share 1 speakers"):
        splits(settings(tmp_path, dev="dev.tsv", test_speakers=1))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ä"])
def test_a_test_set_needs_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        settings(tmp_path, test={name: "test.tsv"})


def test_real_lists_are_read_as_they_are(speech: Path) -> None:
    root = speech / "speechocean762"
    parts = speakers(splits(settings(root, dev="dev.tsv", test={"clean": "test.tsv"})))
    assert {split: len(s) for split, s in parts.items()} == {
        "train": 67,
        "dev": 15,
        "test/clean": 15,
    }
