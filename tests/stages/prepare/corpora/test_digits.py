"""Digit strings: each recording once, joined as told, counted without its pauses."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline import audio
from pipeline.errors import UserError
from stages.prepare.corpora.digits import Settings, load, splits
from stages.prepare.corpus import Source, read_tsv


def settings(root: Path, **changes: Any) -> Settings:
    return Settings(**({"root": root, "test_speakers": ["bert"]} | changes))


def test_each_recording_stands_in_exactly_one_string(digits_folder: Path) -> None:
    made = splits(settings(digits_folder))
    files = Counter(f for sources in made.values() for s in sources for f in s.files)
    assert set(files.values()) == {1}
    assert sorted(files) == sorted(r.files[0] for r in read_tsv(digits_folder / "utts.tsv"))


def test_speakers_are_whole_and_the_one_after_test_is_dev(digits_folder: Path) -> None:
    made = splits(settings(digits_folder))
    assert {split: {s.speaker for s in made[split]} for split in made} == {
        "train": {"anna"},
        "dev": {"carl"},
        "test/test": {"bert"},
    }
    turned = splits(settings(digits_folder, test_speakers=["carl"]))
    assert {s.speaker for s in turned["dev"]} == {"anna"}


def test_strings_have_3_to_7_digits_and_only_a_speaker_of_two_has_fewer(
    digits_folder: Path,
) -> None:
    made = splits(settings(digits_folder))
    assert [len(s.files) for s in made["dev"]] == [2]
    for seed in range(30):
        made = splits(settings(digits_folder, seed=seed))
        lengths = [len(s.files) for s in made["train"] + made["test/test"]]
        assert min(lengths) >= 3 and max(lengths) <= 7 and sum(lengths) == 33


def test_the_transcript_is_the_recordings_words_in_order(digits_folder: Path) -> None:
    words = {r.files[0]: r.transcript for r in read_tsv(digits_folder / "utts.tsv")}
    for source in splits(settings(digits_folder))["train"]:
        assert source.transcript == " ".join(str(words[f]) for f in source.files)


def test_a_speakers_strings_are_the_same_in_any_split(digits_folder: Path) -> None:
    as_test = splits(settings(digits_folder))["test/test"]
    others = splits(settings(digits_folder, test_speakers=["anna"], dev_speakers=["carl"]))
    assert others["train"] == as_test
    assert splits(settings(digits_folder, seed=2))["test/test"] != as_test


def joined(source: Source, rate_hz: int = 8000) -> tuple[np.ndarray, list[slice], list[slice]]:
    """Where a string's digits and pauses must lie, found from the files and parameters alone."""
    digits, pauses, at = [], [], 0
    lengths = [len(audio.read(source.root / f)[0]) for f in source.files]
    for n, seconds in enumerate(source.parameters["pauses_seconds"]):
        for kind, count in ((pauses, round(seconds * rate_hz)), (digits, [*lengths, 0][n])):
            kind.append(slice(at, at + count))
            at += count
    return load(source).samples, digits[:-1], pauses


def test_a_string_is_its_recordings_with_noise_between(digits_folder: Path) -> None:
    source = splits(settings(digits_folder))["train"][0]
    samples, digits, pauses = joined(source)
    assert len(pauses) == len(digits) + 1
    assert pauses[-1].stop == len(samples)
    for name, where in zip(source.files, digits, strict=True):
        assert np.array_equal(samples[where], audio.read(source.root / name)[0])
    speech_rms = np.sqrt(np.mean(np.concatenate([samples[d] for d in digits]) ** 2))
    for where in pauses:
        pause = samples[where]
        assert 0.05 * 8000 <= len(pause) <= 0.25 * 8000
        assert np.count_nonzero(pause) == len(pause)
        # The recordings end at 5 % of their level, -26 dB.
        level_db = 20 * np.log10(np.sqrt(np.mean(pause**2)) / speech_rms)
        assert level_db == pytest.approx(-26, abs=2)


def test_the_noise_has_a_least_level_where_recordings_are_silent(digits_folder: Path) -> None:
    source = splits(settings(digits_folder, noise_floor_db=-10))["train"][0]
    samples, digits, pauses = joined(source)
    speech = np.concatenate([samples[d] for d in digits])
    noise = np.concatenate([samples[p] for p in pauses])
    assert 10 * np.log10(np.mean(noise**2) / np.mean(speech**2)) == pytest.approx(-10, abs=0.5)


def test_budgets_count_the_recordings_and_no_pause(digits_folder: Path) -> None:
    for source in splits(settings(digits_folder))["train"]:
        loaded = load(source)
        samples = sum(len(audio.read(digits_folder / f)[0]) for f in source.files)
        assert loaded.speech_seconds == samples / 8000
        assert loaded.made and loaded.rate_hz == 8000
        assert len(loaded.samples) / 8000 > loaded.speech_seconds


def test_samples_are_bitwise_the_same_each_time(digits_folder: Path) -> None:
    sources = splits(settings(digits_folder))["train"]
    first = [load(s).samples.tobytes() for s in sources]
    assert [load(s).samples.tobytes() for s in reversed(sources)] == first[::-1]


def test_a_damaged_recording_is_named(digits_folder: Path) -> None:
    source = splits(settings(digits_folder))["train"][0]
    (digits_folder / source.files[1]).write_bytes(b"no audio")
    with pytest.raises(audio.BadAudio, match=source.files[1]):
        load(source)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"test_speakers": ["berd"]}, "did you mean bert"),
        ({"dev_speakers": ["nobody"]}, "anna, bert, carl"),
        ({"dev_speakers": ["bert"]}, "both of dev and of test"),
        ({"test_speakers": ["anna", "bert"]}, "No speaker is left to train on"),
    ],
)
def test_wrong_speakers_are_told(digits_folder: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        splits(settings(digits_folder, **changes))


def test_a_recording_without_transcript_is_told(digits_folder: Path) -> None:
    path = digits_folder / "utts.tsv"
    path.write_text(path.read_text().replace("1_anna_1.wav\tone", "1_anna_1.wav\t"))
    with pytest.raises(UserError, match="'1_anna_1' has no transcript"):
        splits(settings(digits_folder))


def test_a_folder_without_the_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such corpus list: .*utts\.tsv"):
        splits(settings(tmp_path))


@pytest.mark.parametrize(
    "changes", [{"digits": (3, 4)}, {"digits": (0, 3)}, {"pause_seconds": (0.3, 0.1)}]
)
def test_wrong_settings_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(tmp_path, **changes)


def test_real_digits_make_18_minutes_of_five_speakers(speech: Path) -> None:
    made = splits(Settings(root=speech / "fsdd"))
    assert {s: len({x.speaker for x in made[s]}) for s in made} == {
        "train": 3,
        "dev": 1,
        "test/test": 1,
    }
    assert sum(len(x.files) for sources in made.values() for x in sources) == 2500
    minutes = sum(load(x).speech_seconds or 0 for x in made["test/test"]) / 60
    assert minutes == pytest.approx(4.79, abs=0.01)  # lucas, measured from the files
