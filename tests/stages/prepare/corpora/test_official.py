"""From a server to a corpus: broken off, killed, refused; and what is there is left alone."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError, UserError
from pipeline.recipe import LmSettings
from stages.prepare.corpora import _official, librilight, librispeech
from stages.prepare.download import Checksum

BUDGETS = ["10min", "100h"]
LM = LmSettings(text="train")
SETS = ["train-clean-100", "dev-other", "test-clean"]


@pytest.fixture
def settings(served: Any, tmp_path: Path) -> librispeech.Settings:
    return librispeech.Settings(
        root=tmp_path / "new" / "corpus",
        train=["train-clean-100", "train-other-500"],
        test_sets=["test-clean"],
        download=True,
        mirror=f"{served.url}/",
        librilight_mirror=served.url,
    )


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def expected(made: Path, *folders: str) -> dict[str, bytes]:
    there = files(made / "corpus")
    return {
        name: content
        for name, content in there.items()
        if name == "LibriSpeech/README.TXT" or name.startswith(tuple(f"{f}/" for f in folders))
    }


def test_what_is_missing_comes_and_nothing_else(
    settings: librispeech.Settings, served: Any, made: Path
) -> None:
    librispeech.fetch(settings, BUDGETS, LM)
    wanted = ["train-clean-100", "train-other-500", "dev-other", "test-clean"]
    folders = [f"LibriSpeech/{s}" for s in wanted]
    there = files(settings.root)
    assert there.pop("downloads/lock") == b""
    assert there == expected(made, *folders, "librispeech_finetuning")
    assert [path for path, _ in served.asked] == [
        *(f"/12/{s}.tar.gz" for s in wanted),
        "/librispeech_finetuning.tgz",
    ]
    served.asked.clear()
    librispeech.fetch(settings, BUDGETS, LM)
    assert served.asked == []
    assert len(librispeech.splits(settings)["train"]) == 45


def test_the_language_models_files_come_if_the_recipe_names_them(
    settings: librispeech.Settings, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("librispeech-lm-norm.txt.gz", "4-gram.arpa.gz", "librispeech-lexicon.txt"):
        content = name.encode() * 100
        (served.folder / "11").mkdir(exist_ok=True)
        (served.folder / "11" / name).write_bytes(content)
        md5 = Checksum("md5", hashlib.md5(content).hexdigest())
        official = replace(_official.LANGUAGE[name], checksum=md5)
        monkeypatch.setitem(_official.LANGUAGE, name, official)

    def asked(**lm: Any) -> list[str]:
        served.asked.clear()
        librispeech.fetch(settings, ["all"], LmSettings(**lm))
        return [path for path, _ in served.asked if path.startswith("/11/")]

    root = settings.root
    with pytest.raises(UserError, match=r"(?s)language model's text is not there.*downloads it"):
        librispeech.lm_text(settings)
    assert asked(text="train") == []
    elsewhere = root.parent / "4-gram.arpa.gz"
    assert asked(arpa=elsewhere) == []
    files = {"arpa": root / "4-gram.arpa.gz", "lexicon": root / "librispeech-lexicon.txt"}
    assert asked(**files) == ["/11/4-gram.arpa.gz", "/11/librispeech-lexicon.txt"]
    assert all(path.is_file() for path in files.values())
    assert asked() == ["/11/librispeech-lm-norm.txt.gz"]
    assert librispeech.lm_text(settings).read_bytes() == b"librispeech-lm-norm.txt.gz" * 100
    assert asked() == []


def test_budgets_of_our_own_need_nothing_of_libri_light(
    settings: librispeech.Settings, served: Any
) -> None:
    librispeech.fetch(settings, ["2s", "100h"], LM)
    assert "/librispeech_finetuning.tgz" not in {path for path, _ in served.asked}


def test_librilight_brings_its_ten_hours_and_the_evaluation_sets(
    settings: librispeech.Settings, served: Any
) -> None:
    told = settings.model_dump(exclude={"kind", "train"})
    own = librilight.Settings(**told)
    librilight.fetch(own, ["10min"], LM)
    assert [path for path, _ in served.asked] == [
        "/12/dev-other.tar.gz",
        "/12/test-clean.tar.gz",
        "/librispeech_finetuning.tgz",
    ]
    assert len(librilight.splits(own)["train"]) == 28


def test_broken_connections_are_gone_on_from(
    settings: librispeech.Settings, served: Any, made: Path
) -> None:
    served.breaks_after = [1000, 3000, 10**9, 500]
    librispeech.fetch(settings, ["all"], LM)
    ranges = [wanted for _, wanted in served.asked]
    assert ranges == [None, "bytes=1000-", "bytes=4000-", None, "bytes=500-", None, None]
    assert len(librispeech.splits(settings)["train"]) == 45


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 7])
def test_a_kill_while_unpacking_is_repaired(
    settings: librispeech.Settings,
    served: Any,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    from stages.prepare import unpack

    write, left = unpack._write, [after]

    def dying(*args: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        write(*args)

    with monkeypatch.context() as patched:
        patched.setattr(unpack, "_write", dying)
        with pytest.raises(Killed):
            librispeech.fetch(settings, ["all"], LM)
    assert not (settings.root / "LibriSpeech/train-clean-100").exists()
    with pytest.raises(UserError, match="train-clean-100"):
        librispeech.splits(settings)
    librispeech.fetch(settings, ["all"], LM)
    assert [path for path, _ in served.asked].count("/12/train-clean-100.tar.gz") == 1
    wanted = ["train-clean-100", "train-other-500", "dev-other", "test-clean"]
    there = files(settings.root)
    del there["downloads/lock"]
    assert there == expected(made, *(f"LibriSpeech/{s}" for s in wanted))


def test_a_wrong_checksum_is_refused_and_nothing_of_it_unpacked(
    settings: librispeech.Settings, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = _official.SPEECH["train-clean-100"]
    wrong = replace(right, checksum=Checksum("md5", "0" * 32))
    monkeypatch.setitem(_official.SPEECH, "train-clean-100", wrong)
    with pytest.raises(RunError, match=r"(?s)train-clean-100\.tar\.gz.*not the published.*refused"):
        librispeech.fetch(settings, ["all"], LM)
    assert not (settings.root / "LibriSpeech").exists()
    monkeypatch.setitem(_official.SPEECH, "train-clean-100", right)
    librispeech.fetch(settings, ["all"], LM)
    assert (settings.root / "LibriSpeech/train-clean-100").is_dir()


def test_an_archive_that_is_there_is_taken_and_stays(
    settings: librispeech.Settings, served: Any, made: Path
) -> None:
    given = settings.root / "train-clean-100.tar.gz"
    settings.root.mkdir(parents=True)
    content = (made / "served/12/train-clean-100.tar.gz").read_bytes()
    given.write_bytes(content[:-10])
    with pytest.raises(
        RunError, match=r"(?s)train-clean-100\.tar\.gz is not the published archive"
    ):
        librispeech.fetch(settings, ["all"], LM)
    assert given.exists() and served.asked == []
    given.write_bytes(content)
    librispeech.fetch(settings, ["all"], LM)
    assert given.read_bytes() == content
    assert "/12/train-clean-100.tar.gz" not in {path for path, _ in served.asked}
    assert (settings.root / "LibriSpeech/train-clean-100/108").is_dir()


def test_libri_lights_folder_may_be_on_another_disk(
    settings: librispeech.Settings,
    served: Any,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = tmp_path / "disk"
    place = disk / "data" / "limited"

    def within(rename: Callable[..., None]) -> Callable[..., None]:
        def refusing(old: Any, new: Any, **named: Any) -> None:
            if Path(old).is_relative_to(disk) != Path(new).is_relative_to(disk):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            rename(old, new, **named)

        return refusing

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, within(getattr(os, name)))
    settings = settings.model_copy(update={"librilight": place})
    librispeech.fetch(settings, BUDGETS, LM)
    there = {f"librispeech_finetuning/{name}": content for name, content in files(place).items()}
    assert there == {
        name: content
        for name, content in files(made / "corpus").items()
        if name.startswith("librispeech_finetuning/")
    }
    assert [p.name for p in place.parent.iterdir()] == ["limited"]
    train = librispeech.splits(settings)["train"]
    assert len(librispeech.budget_ids(settings, "10h", train) or []) == 28


def test_what_is_unpacked_is_on_the_disk_before_it_has_its_name(
    settings: librispeech.Settings, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    told: list[str] = []
    fsync, rename, unlink = os.fsync, os.rename, os.unlink

    def syncing(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def renaming(old: Any, new: Any, **named: Any) -> None:
        held = {p.stat().st_ino for p in (Path(old), *Path(old).rglob("*"))}
        assert len(held) > 1 and held <= set(synced)
        rename(old, new, **named)
        synced.clear()
        told.append(Path(new).name)

    def unlinking(path: Any, **named: Any) -> None:
        if str(path).endswith(".tar.gz"):
            assert (settings.root / "LibriSpeech").stat().st_ino in synced
            told.append(Path(path).name)
        unlink(path, **named)

    settings.root.mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "rename", renaming)
    monkeypatch.setattr(os, "unlink", unlinking)
    librispeech.fetch(settings, ["all"], LM)
    sets = ["train-clean-100", "train-other-500", "dev-other", "test-clean"]
    assert told == [name for s in sets for name in (s, f"{s}.tar.gz")]


Pack = Callable[[tarfile.TarFile], None]


def packed(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Pack:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(b"x"))

    return add


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (packed("LibriSpeech/../../escaped"), "outside"),
        (packed("LibriSpeech/dev-other/evil", tarfile.SYMTYPE, "/etc"), "link to '/etc'"),
        (packed("Other/file"), "does not hold LibriSpeech/dev-other"),
    ],
)
def test_a_hostile_archive_changes_nothing_outside_of_downloads(
    settings: librispeech.Settings, web: Any, tmp_path: Path, add: Pack, told: str
) -> None:
    path = settings.root / "dev-other.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        add(archive)
    official = _official.SPEECH["dev-other"]
    md5 = Checksum("md5", hashlib.md5(path.read_bytes()).hexdigest())
    place = settings.root / official.holds
    with pytest.raises(UserError, match=told):
        _official.bring(settings.root, [(replace(official, checksum=md5), place, web.url)])
    written = {p for p in tmp_path.rglob("*") if "downloads" not in p.parts and p.is_file()}
    assert {p.name for p in written if not p.is_relative_to(web.folder)} == {"dev-other.tar.gz"}
    assert not place.exists()


def test_it_waits_while_another_process_downloads(
    settings: librispeech.Settings, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings.root / "downloads").mkdir(parents=True)
    held = (settings.root / "downloads" / "lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(0.2, held.close).start()
    librispeech.fetch(settings, ["all"], LM)
    assert "another process downloads into" in capsys.readouterr().out
    assert (settings.root / "LibriSpeech/dev-other").is_dir()


def test_a_folder_that_cannot_be_made_is_told(settings: librispeech.Settings) -> None:
    settings.root.parent.mkdir(parents=True)
    settings.root.write_text("a file")
    with pytest.raises(UserError, match=r"(?s)cannot be made.*corpus\.root"):
        librispeech.fetch(settings, ["all"], LM)


def test_published_checksums_have_their_algorithms_length() -> None:
    every = [*_official.SPEECH.values(), *_official.LANGUAGE.values(), _official.LIMITED]
    lengths = {"md5": 32, "sha256": 64}
    for official in every:
        assert len(official.checksum.digest) == lengths[official.checksum.algorithm]
        assert int(official.checksum.digest, 16)
    assert len({official.checksum.digest for official in every}) == len(every)
