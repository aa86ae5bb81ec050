"""LibriSpeech and Libri-light: what splits and official budgets hold, and what is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import UserError
from stages.prepare import sources
from stages.prepare.corpora import _official, librilight, librispeech
from tests import made_libri


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_libri.make(tmp_path / "corpus")


def speech(root: Path, **changes: Any) -> librispeech.Settings:
    return librispeech.Settings(root=root, **changes)


def light(root: Path, **changes: Any) -> librilight.Settings:
    return librilight.Settings(root=root, **changes)


def speakers(sources: list[Any]) -> set[int]:
    return {int(s.speaker) for s in sources}


def test_the_sets_are_the_splits(root: Path) -> None:
    made = librispeech.splits(speech(root))
    assert list(made) == ["train", "dev", "test/test-clean", "test/test-other"]
    known = made_libri.SPEAKERS
    assert speakers(made["train"]) == {
        *known["train-clean-100"],
        *known["train-clean-360"],
        *known["train-other-500"],
    }
    assert speakers(made["dev"]) == {12}
    assert speakers(made["test/test-clean"]) == {21}
    assert len(made["train"]) == 16 * 3


def test_an_utterance_is_its_file_speaker_and_words(root: Path) -> None:
    first = librispeech.splits(speech(root, train=["train-clean-100"]))["train"][0]
    assert (first.id, first.speaker, first.transcript) == ("101-9101-0000", "101", "TURN RIGHT")
    assert first.root / first.files[0] == (
        root / "LibriSpeech/train-clean-100/101/9101/101-9101-0000.flac"
    )
    assert (first.root / first.files[0]).is_file()


def test_dev_may_be_both_sets_and_one_of_them_a_test_set(root: Path) -> None:
    assert speakers(librispeech.splits(speech(root, dev=["dev-clean", "dev-other"]))["dev"]) == {
        11,
        12,
    }
    made = librispeech.splits(speech(root, test_sets=["dev-clean", "test-other"]))
    assert list(made) == ["train", "dev", "test/dev-clean", "test/test-other"]
    with pytest.raises(ValidationError, match=r"dev-other is corpus\.dev"):
        speech(root, test_sets=["dev-other"])


@pytest.mark.parametrize("below", ["LibriSpeech", "."])
def test_root_may_be_the_folder_librispeech_itself(root: Path, below: str) -> None:
    whole = librispeech.splits(speech(root))
    if below == ".":  # the sets lie in root
        for path in (root / "LibriSpeech").iterdir():
            path.rename(root / path.name)
    made = librispeech.splits(speech(root / below))
    assert {k: [s.id for s in v] for k, v in made.items()} == {
        k: [s.id for s in v] for k, v in whole.items()
    }


def budgets(module: Any, settings: Any, *names: str) -> dict[str, set[str]]:
    train = module.splits(settings)["train"]
    return {name: set(module.budget_ids(settings, name, train)) for name in names}


def test_budgets_are_libri_lights_lists(root: Path) -> None:
    found = budgets(librispeech, speech(root), "10min", "1h", "10h", "100h")
    assert found["10min"] == made_libri.ids("1h/0")
    assert found["1h"] == made_libri.ids(*made_libri.PARTS[:6])
    assert found["10h"] == made_libri.ids(*made_libri.PARTS)
    assert {i.split("-")[0] for i in found["100h"]} == {
        str(s) for s in made_libri.SPEAKERS["train-clean-100"]
    }
    assert len(found["100h"]) == 24
    assert found["10min"] < found["1h"] < found["10h"]


def test_other_budgets_are_our_own_choice(root: Path) -> None:
    settings = speech(root)
    train = librispeech.splits(settings)["train"]
    for budget in ("60min", "2s", "all"):
        assert librispeech.budget_ids(settings, budget, train) is None


def test_ten_minutes_are_one_of_six_sets_and_folds_take_each(root: Path) -> None:
    assert budgets(librispeech, speech(root, ten_minutes=3), "10min")["10min"] == made_libri.ids(
        "1h/3"
    )
    folds = librispeech.folds(speech(root))
    assert list(folds) == [f"fold{n}" for n in range(6)]
    for n, settings in enumerate(folds.values()):
        found = budgets(librispeech, settings, "10min", "1h")
        assert found["10min"] == made_libri.ids(f"1h/{n}")
        assert found["1h"] == made_libri.ids(*made_libri.PARTS[:6])
    with pytest.raises(UserError, match=r"folds and corpus\.ten_minutes contradict"):
        librispeech.folds(speech(root, ten_minutes=0))


def test_librilight_needs_no_training_set_of_librispeech(root: Path) -> None:
    for name in ("train-clean-100", "train-clean-360", "train-other-500"):
        shutil.rmtree(root / "LibriSpeech" / name)
    settings = light(root)
    made = librilight.splits(settings)
    assert {s.id for s in made["train"]} == made_libri.ids(*made_libri.PARTS)
    assert all((s.root / s.files[0]).is_file() for s in made["train"])
    assert list(made) == ["train", "dev", "test/test-clean", "test/test-other"]
    found = budgets(librilight, settings, "10min", "10h")
    assert found == {
        "10min": made_libri.ids("1h/0"),
        "10h": made_libri.ids(*made_libri.PARTS),
    }
    with pytest.raises(UserError, match=r"100h is train-clean-100, which corpus\.train does not"):
        budgets(librilight, settings, "100h")


def test_librilight_beside_a_training_set_has_no_utterance_twice(root: Path) -> None:
    settings = light(root, train=["train-clean-100"])
    train = librilight.splits(settings)["train"]
    assert len({s.id for s in train}) == len(train) == 24 + 14
    assert {s.speaker for s in train if "finetuning" in s.files[0]} == {
        str(s) for s in made_libri.SPEAKERS["train-other-500"]
    }
    assert len(budgets(librilight, settings, "100h")["100h"]) == 24


def test_librilights_folder_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    (root / "librispeech_finetuning").rename(tmp_path / "elsewhere")
    for place in (tmp_path / "elsewhere", Path("../elsewhere")):
        train = librilight.splits(light(root, librilight=place))["train"]
        assert all((s.root / s.files[0]).is_file() for s in train)


def test_a_budget_that_train_lacks_utterances_of_is_told(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        budgets(librispeech, speech(root, train=["train-clean-100"]), "1h")
    told = caught.value.text()
    assert "12 of the 24 utterances of Libri-light's 1h" in told
    assert "501-9501-0000" in told and "kind: librilight" in told


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("LibriSpeech/dev-other", r"(?s)LibriSpeech's dev-other.*dev-other.tar.gz.*download=true"),
        ("librispeech_finetuning", r"(?s)1h/0/clean.*librispeech_finetuning.tgz \(0.6 GB\)"),
        ("librispeech_finetuning/1h/4/other", r"1h/4/other"),
    ],
)
def test_what_is_not_there_is_told_with_the_way_to_get_it(root: Path, gone: str, told: str) -> None:
    shutil.rmtree(root / gone)
    with pytest.raises(UserError, match=told):
        librilight.splits(light(root))


CHAPTER = "LibriSpeech/dev-other/12/9012"
LISTING = f"{CHAPTER}/12-9012.trans.txt"


def drop_listing(root: Path) -> None:
    (root / LISTING).unlink()


def drop_line(root: Path) -> None:
    lines = (root / LISTING).read_text().splitlines(keepends=True)
    (root / LISTING).write_text("".join(lines[:2]))


def write_lines(text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / LISTING).write_text((root / LISTING).read_text() + text)

    return write


def not_utf8(root: Path) -> None:
    (root / LISTING).write_bytes(b"12-9012-0000 caf\xe9\n")


def link_file(root: Path) -> None:
    outside = root.parent / "secret.flac"
    shutil.move(root / CHAPTER / "12-9012-0001.flac", outside)
    (root / CHAPTER / "12-9012-0001.flac").symlink_to(outside)


def link_chapter(root: Path) -> None:
    shutil.move(root / CHAPTER, root.parent / "chapter")
    (root / CHAPTER).symlink_to(root.parent / "chapter")


def empty_set(root: Path) -> None:
    shutil.rmtree(root / "LibriSpeech/dev-other")
    (root / "LibriSpeech/dev-other").mkdir()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (drop_listing, r"dev-other/12/9012 has audio and no transcripts"),
        (drop_line, r"(?s)12-9012\.trans\.txt has no transcript of 1 recordings.*12-9012-0002"),
        (write_lines("13-9012-0007 GO\n"), r"(?s)trans\.txt, line 4.*13-9012-0007"),
        (write_lines("12-9012-0007\n"), r"trans\.txt, line 4"),
        (write_lines("12-9012-../../x GO\n"), r"trans\.txt, line 4"),
        (write_lines("12-9012-0001 GO\n"), r"line 4: 12-9012-0001 stands twice"),
        (not_utf8, r"trans\.txt is not UTF-8 \(byte 16\)"),
        (link_file, r"12-9012-0001\.flac is a link that leaves"),
        (link_chapter, r"dev-other/12/9012 is a link that leaves"),
        (empty_set, r"dev-other holds no utterance"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_set_is_told_by_name(
    root: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(root)
    with pytest.raises(UserError, match=told):
        librispeech.splits(speech(root))


def test_a_set_may_be_a_link_to_another_disk(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "LibriSpeech/train-other-500", tmp_path / "disk")
    (root / "LibriSpeech/train-other-500").symlink_to(tmp_path / "disk")
    assert len(librispeech.splits(speech(root))["train"]) == 48


def test_a_speaker_of_two_splits_is_refused(root: Path) -> None:
    shutil.copytree(root / "LibriSpeech/dev-other/12", root / "LibriSpeech/train-clean-360" / "12")
    with pytest.raises(UserError, match=r"(?s)train and dev share 1 speakers.*12"):
        librispeech.splits(speech(root))


def test_an_utterance_in_two_parts_of_libri_light_is_refused(root: Path) -> None:
    folder = root / "librispeech_finetuning"
    shutil.copytree(folder / "1h/2/clean/103", folder / "9h/clean/103")
    with pytest.raises(UserError, match=r"103-9103-0000 is in 1h/2 and in 9h"):
        librilight.splits(light(root))


def limited_listing(root: Path, part: str, speaker: int) -> Path:
    (found,) = (root / "librispeech_finetuning" / part).rglob(f"{speaker}-*.trans.txt")
    return found


@pytest.mark.parametrize("line", ["101-9101-0002 TURN LEFT\n", "101-9101-0077 TURN LEFT\n"])
def test_a_transcript_without_audio_is_no_part_of_a_limited_set(root: Path, line: str) -> None:
    with open(limited_listing(root, "1h/0", 101), "a") as file:
        file.write(line)
    train = librilight.splits(light(root))["train"]
    assert {s.id for s in train} == made_libri.ids(*made_libri.PARTS)
    for module, settings in ((librispeech, speech(root)), (librilight, light(root))):
        found = budgets(module, settings, "10min", "10h")
        assert found["10min"] == made_libri.ids("1h/0")
        assert found["10h"] == made_libri.ids(*made_libri.PARTS)
        for budget, count in (("10min", 1), ("1h", 1), ("10h", 1), ("100h", 0)):
            remarks = module.budget_remarks(settings, budget)
            assert [r.value for r in remarks] == [count][:count]
            assert all(line.split()[0] in r.line for r in remarks)
    told = {r.key: r.value for r in librilight.split_remarks(light(root), "train", train)}
    assert told == {"transcripts_without_audio": 1}  # and no set of LibriSpeech is named
    other = speech(root, ten_minutes=4)
    assert librispeech.budget_remarks(other, "10min") == []


def test_a_chapters_transcripts_may_stand_whole_in_each_part_that_has_some_of_it(
    root: Path,
) -> None:
    whole = root / "LibriSpeech/train-clean-100/101/9101"
    other = root / "librispeech_finetuning/9h/clean/101/9101"
    other.mkdir(parents=True)
    shutil.copy(whole / "101-9101-0002.flac", other)
    for folder in (other, limited_listing(root, "1h/0", 101).parent):
        shutil.copy(whole / "101-9101.trans.txt", folder)
    for module, settings in ((librispeech, speech(root)), (librilight, light(root))):
        found = budgets(module, settings, "10min", "1h", "10h")
        assert found["10min"] == made_libri.ids("1h/0")
        assert found["1h"] == made_libri.ids(*made_libri.PARTS[:6])
        assert found["10h"] == made_libri.ids(*made_libri.PARTS) | {"101-9101-0002"}


def test_a_part_whose_audio_is_gone_is_told(root: Path) -> None:
    for path in (root / "librispeech_finetuning/1h/0/clean").rglob("*.flac"):
        path.unlink()
    with pytest.raises(UserError, match=r"1h/0/clean holds no utterance"):
        budgets(librispeech, speech(root), "10min")


def test_published_numbers_of_utterances_are_those_of_960_hours() -> None:
    numbers = {name: official.utterances for name, official in _official.SPEECH.items()}
    assert sum(n for name, n in numbers.items() if name.startswith("train")) == 281_241
    assert all(2_500 < n < 3_000 for name, n in numbers.items() if not name.startswith("train"))


def fewer(settings: Any) -> dict[str, list[tuple[str, int, int]]]:
    """The sets that each split says it has not all of."""
    return {
        split: [
            (row["name"], row["found"], row["published"])
            for remark in sources.split_remarks(settings, split, rows)
            for row in remark.value
            if remark.line.count(f"{row['name']} {row['found']} of {row['published']}") == 1
        ]
        for split, rows in sources.splits(settings).items()
    }


@pytest.mark.parametrize("below", ["", "LibriSpeech"])
def test_sets_with_fewer_utterances_than_published_are_told(root: Path, below: str) -> None:
    settings = speech(root / below, dev=["dev-clean", "dev-other"], train_speeds=[0.9])
    assert fewer(settings) == {
        "train": [
            ("train-clean-100", 24, 28539),
            ("train-clean-360", 3, 104014),
            ("train-other-500", 21, 148688),
        ],
        "dev": [("dev-clean", 3, 2703), ("dev-other", 3, 2864)],
        "test/test-clean": [("test-clean", 3, 2620)],
        "test/test-other": [("test-other", 3, 2939)],
    }


def test_a_speaker_that_is_missing_is_told_and_a_whole_set_is_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, speakers in made_libri.SPEAKERS.items():
        official = replace(_official.SPEECH[name], utterances=3 * len(speakers))
        monkeypatch.setitem(_official.SPEECH, name, official)
    beside = light(root, train=["train-clean-100"])
    for settings in (speech(root), beside):
        assert not any(fewer(settings).values())
    shutil.rmtree(root / "LibriSpeech/train-clean-100/103")  # it is in Libri-light's folder, too
    for settings in (speech(root), beside):
        told = fewer(settings)
        assert told.pop("train") == [("train-clean-100", 21, 24)]
        assert not any(told.values())
