"""Archives: what is in them, and what may not be."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import RunError, UserError
from stages.prepare import unpack as unpacking
from stages.prepare.unpack import unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = "") -> tuple:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, len(content), link, 0o4777
    return info, content


GOOD = [
    member("a", tarfile.DIRTYPE),
    member("a/one.txt", content=b"one"),
    member("./b/two.txt", content=b"two" * 1000),  # whose folder is no member
]


def write(path: Path, members: list[tuple], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_files_come_with_their_content_and_no_permissions(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "FORGET_EVERY", 2)
    unpack(write(tmp_path / "x.tar", GOOD, mode), tmp_path / "to")
    there = {p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*")}
    assert there == {"a", "a/one.txt", "b", "b/two.txt"}
    assert (tmp_path / "to/b/two.txt").read_bytes() == b"two" * 1000
    assert (tmp_path / "to/a/one.txt").stat().st_mode & 0o7111 == 0


ESCAPED = Path("/tmp/vqasr-escaped")
HOSTILE = {
    "an absolute name": [member(str(ESCAPED), content=b"x")],
    "a way up": [member("a/../../escaped", content=b"x")],
    "a folder above": [member("../escaped", tarfile.DIRTYPE)],
    "a symbolic link outside": [member("a/evil", tarfile.SYMTYPE, link="/etc/passwd")],
    "a symbolic link inside": [member("a/evil", tarfile.SYMTYPE, link="one.txt")],
    "a hard link": [member("evil", tarfile.LNKTYPE, link="../escaped")],
    "a file through a link": [
        member("a/evil", tarfile.SYMTYPE, link=".."),
        member("a/evil/escaped", content=b"x"),
    ],
    "a device": [member("evil", tarfile.CHRTYPE)],
    "a pipe": [member("evil", tarfile.FIFOTYPE)],
    "a file twice": [member("a/one.txt", content=b"other")],
    "a file in a file": [member("a/one.txt/evil", content=b"x")],
}


@pytest.mark.case(21)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused_by_name(tmp_path: Path, name: str) -> None:
    archive = write(tmp_path / "x.tgz", [*GOOD, *HOSTILE[name]])
    ESCAPED.unlink(missing_ok=True)  # of a run in which this test failed
    with pytest.raises(UserError) as caught:
        unpack(archive, tmp_path / "to")
    assert HOSTILE[name][0][0].name in caught.value.text()
    assert str(archive) in caught.value.text()
    written = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "to")}
    assert written == {archive}
    assert not ESCAPED.exists()
    assert not any(p.is_symlink() or "evil" in p.name for p in (tmp_path / "to").rglob("*"))
    assert (tmp_path / "to/a/one.txt").read_bytes() == b"one"


def test_an_archive_that_ends_early_is_damaged_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = write(tmp_path / "x.tgz", GOOD).read_bytes()
    plain = gzip.decompress(whole)
    # Between members too, where tar alone sees nothing.
    cuts = [whole[:-1], whole[: len(whole) // 2], whole[:20], gzip.compress(plain[:1024])[:-8]]
    for number, content in enumerate(cuts):
        (tmp_path / "cut.tgz").write_bytes(content)
        with pytest.raises(RunError, match=r"cut\.tgz is damaged"):
            unpack(tmp_path / "cut.tgz", tmp_path / f"to{number}")


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(b"<html>moved</html>" * 100)
    with pytest.raises(RunError, match="damaged"):
        unpack(tmp_path / "x.tgz", tmp_path / "to")


def test_it_unpacks_into_a_new_folder_only(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(FileExistsError):
        unpack(write(tmp_path / "x.tgz", GOOD), tmp_path / "to")
