"""vqasr transcribe: formats, places, and what is told when something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner, Result

from pipeline.cli import cli
from pipeline.disk import refusal
from pipeline.errors import RunError, UserError
from stages.acoustic import search
from stages.use.transcriber import Transcriber
from stages.use.transcript import Failure, Piece, Transcript, Word


class Echo:
    """Says of each recording its name; those called bad cannot be used."""

    def transcribe_all(self, recordings: Iterable[Path]) -> Iterator[Transcript | Failure]:
        for path in recordings:
            if path.stem == "bad":
                yield Failure(str(path), "truncated")
            else:
                word = Word(path.stem, 0.5, 1.0, 0.9)
                yield Transcript(str(path), 2.0, (Piece(0.0, 2.0, (word,)),))


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that commands name: by its files an exported one, which nothing reads here."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "decoder_config.json"):
        (folder / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the transcriber was loaded with; it echoes."""
    told: dict[str, Any] = {}

    def load(folder: Path, **options: Any) -> Echo:
        told.update(folder=folder, **options)
        return Echo()

    monkeypatch.setattr(Transcriber, "load", load)
    return told


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    root = tmp_path / "speech"
    for name in ("b.wav", "a.flac", "inner/c.WAV", "inner/notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["transcribe", "model", *map(str, args)])


def test_one_file_is_its_words_and_several_are_lines_with_their_names(
    loaded: dict[str, Any], speech: Path
) -> None:
    assert call(speech / "b.wav").stdout == "b\n"
    found = call(speech / "b.wav", speech / "a.flac")
    assert found.stdout == f"{speech}/b.wav\tb\n{speech}/a.flac\ta\n"
    found = call(speech)
    assert found.stdout == "".join(
        f"{speech}/{file}\t{word}\n"
        for file, word in (("a.flac", "a"), ("b.wav", "b"), ("inner/c.WAV", "c"))
    )
    assert "0.1 min of speech in" in found.stderr
    assert "times real time" in found.stderr


def test_options_reach_the_transcriber(loaded: dict[str, Any], speech: Path) -> None:
    assert call(speech, "--greedy", "--device", "cpu", "--batch-seconds", "9").exit_code == 0
    folder = Path("model")
    options = {"greedy": True, "device": "cpu", "batch_seconds": 9.0}
    assert loaded == {"folder": folder, "processes": search.allowed(), **options}


def test_json_and_subtitles(loaded: dict[str, Any], speech: Path) -> None:
    lines = call(speech, "--format", "json").stdout.splitlines()
    assert len(lines) == 3
    assert '"words": [{"word": "a", "start": 0.5, "end": 1.0, "confidence": 0.9}]' in lines[0]
    srt = call(speech / "b.wav", "--format", "srt").stdout
    assert srt == "1\n00:00:00,500 --> 00:00:01,000\nb\n"


def test_one_file_or_a_file_for_each_is_written(
    loaded: dict[str, Any], speech: Path, tmp_path: Path
) -> None:
    assert call(speech, "-o", tmp_path / "all.txt").stdout == ""
    assert (tmp_path / "all.txt").read_text().count("\n") == 3
    assert call(speech, "--format", "srt", "-o", f"{tmp_path}/new/").exit_code == 0
    written = {p.relative_to(tmp_path / "new").as_posix() for p in (tmp_path / "new").rglob("*.*")}
    assert written == {"a.srt", "b.srt", "inner/c.srt"}
    (tmp_path / "there").mkdir()
    call(speech / "b.wav", "-o", tmp_path / "there")
    assert (tmp_path / "there" / "b.txt").read_text() == "b\n"


def test_bad_recordings_are_named_others_go_on_and_the_status_is_1(
    loaded: dict[str, Any], speech: Path, tmp_path: Path
) -> None:
    (speech / "bad.wav").touch()
    found = call(speech, "-o", tmp_path / "all.txt")
    assert isinstance(found.exception, RunError)
    assert found.exception.exit_status == 1
    assert "1 of 4 recordings" in str(found.exception)
    assert f"{speech}/bad.wav: truncated" in found.stderr
    assert (tmp_path / "all.txt").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["absent.wav", "also.wav"], "No such file or folder: absent.wav, also.wav"),
        (["{speech}/empty"], "holds no recordings"),
        (["{speech}", "--format", "srt"], "give a folder: -o DIR/"),
        (["{speech}/a.flac", "{speech}/other/a.wav", "-o", "{speech}/out/"], "would both be"),
        (["{speech}/a.flac", "-o", "{speech}/absent/a.txt"], "is not there"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    speech: Path, args: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (speech / "empty").mkdir()
    (speech / "other").mkdir()
    (speech / "other" / "a.wav").touch()
    monkeypatch.setattr(Transcriber, "load", lambda *_, **__: pytest.fail("it was loaded"))
    found = call(*(arg.format(speech=speech) for arg in args))
    assert isinstance(found.exception, UserError), found.output
    assert told in str(found.exception)


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("absent", "absent is no exported folder: it is not there."),
        ("model/config.json", "model/config.json is no exported folder: it is no folder."),
        (".", ". is no exported folder: config.json is not there."),
    ],
)
def test_the_folder_is_refused_before_recordings_that_are_not_there(folder: str, told: str) -> None:
    error = CliRunner().invoke(cli, ["transcribe", folder, "absent.wav"]).exception
    assert isinstance(error, UserError)
    assert error.what == told


def test_a_folder_that_is_not_exported_is_refused(speech: Path, tmp_path: Path) -> None:
    soundfile.write(speech / "b.wav", [0.1] * 9000, 16_000)
    found = CliRunner().invoke(cli, ["transcribe", str(tmp_path), str(speech / "b.wav")])
    assert isinstance(found.exception, UserError)
    assert "no exported folder: config.json is not there" in str(found.exception)


@pytest.mark.case(8)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_on_a_full_disk_the_file_is_named_and_the_old_one_stays(
    loaded: dict[str, Any], speech: Path, tmp_path: Path
) -> None:
    place = tmp_path / "out.txt"
    place.write_text("old\n")
    place.with_name("out.txt.partial").symlink_to("/dev/full")
    result = call(speech / "b.wav", "-o", place)
    told = refusal(result.exception, tmp_path) if result.exception else None
    assert told is not None and told.what == f"The disk is full: {place} could not be written."
    assert place.read_text() == "old\n"
