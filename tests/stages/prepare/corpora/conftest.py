"""Real recordings where they are, and small corpora made up where they are not needed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stages.prepare.corpora import _official
from stages.prepare.download import Checksum
from tests import made_libri

SPEECH = Path(__file__).resolve().parents[4].parent / "shared" / "speech"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HEADER = "utt_id\tspeaker\tpath\ttranscript\n"

WriteTsv = Callable[[str, Sequence[Sequence[str]]], Path]


@pytest.fixture
def speech() -> Path:
    if not SPEECH.is_dir():
        pytest.skip("real speech is not here: there is no ../shared/speech")
    return SPEECH


@pytest.fixture
def write_tsv(tmp_path: Path) -> WriteTsv:
    """Write rows as a list in the test's folder; parents are made."""

    def write(name: str, rows: Sequence[Sequence[str]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + "".join("\t".join(row) + "\n" for row in rows), "utf-8")
        return path

    return write


@pytest.fixture
def digits_folder(tmp_path: Path, write_tsv: WriteTsv) -> Path:
    """Three speakers: 23 recordings of anna, 10 of bert, 2 of carl; each of a length of its own."""
    rows = []
    for speaker, count in (("anna", 23), ("bert", 10), ("carl", 2)):
        for n in range(count):
            name = f"audio/{n % 10}_{speaker}_{n}.wav"
            rows.append((f"{n % 10}_{speaker}_{n}", speaker, name, WORDS[n % 10]))
            rng = np.random.RandomState(len(rows))
            samples = 0.1 * rng.standard_normal(1600 + 8 * len(rows))
            samples[-400:] *= 0.05  # where the speaker is silent
            (tmp_path / "audio").mkdir(exist_ok=True)
            soundfile.write(tmp_path / name, samples, 8000, "PCM_16")
    write_tsv("utts.tsv", rows)
    return tmp_path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus, and `served` with its archives."""
    folder = tmp_path_factory.mktemp("libri")
    made_libri.archive(made_libri.make(folder / "corpus"), folder / "served")
    return folder


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`publish(folder)`: the checksums of the archives in it are taken for the published ones."""

    def of(official: _official.Official, path: Path) -> _official.Official:
        digest = hashlib.new(official.checksum.algorithm, path.read_bytes()).hexdigest()
        return replace(official, checksum=Checksum(official.checksum.algorithm, digest))

    def taken(folder: Path) -> None:
        for name, official in list(_official.SPEECH.items()):
            path = folder / "12" / official.name
            monkeypatch.setitem(_official.SPEECH, name, of(official, path))
        limited = of(_official.LIMITED, folder / _official.LIMITED.name)
        monkeypatch.setattr(_official, "LIMITED", limited)

    return taken


@pytest.fixture
def served(web: Any, made: Path, publish: Callable[[Path], None]) -> Any:
    """A server of the archives, whose checksums are taken for the published ones."""
    web.folder = made / "served"
    publish(web.folder)
    return web
