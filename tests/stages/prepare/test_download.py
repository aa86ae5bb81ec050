"""Downloads from a server on this machine: broken off, gone on with, refused."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError, UserError
from stages.prepare import download
from stages.prepare.download import Checksum, fetch

CONTENT = random.Random(1).randbytes(50_000)
MD5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())
Put = Callable[[str, bytes], str]


@pytest.mark.parametrize("checksum", [MD5, SHA256, None], ids=["md5", "sha256", "none"])
def test_a_file_comes_whole_and_alone(put: Put, tmp_path: Path, checksum: Checksum | None) -> None:
    fetch(put("a.bin", CONTENT), tmp_path / "to" / "a.bin", checksum)
    assert (tmp_path / "to" / "a.bin").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "to").iterdir()] == ["a.bin"]


def test_a_broken_download_goes_on_where_it_broke(web: Any, put: Put, tmp_path: Path) -> None:
    web.breaks_after = [20_000, 15_000]
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, "bytes=20000-", "bytes=35000-"]


def test_another_call_goes_on_with_what_a_kill_left(web: Any, put: Put, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:40_000])
    (tmp_path / "a.bin.part.of").write_text('"one"')
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert web.asked == [("/a.bin", "bytes=40000-")]


def test_a_kill_before_the_last_act_downloads_nothing_again(
    web: Any, put: Put, tmp_path: Path
) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert web.asked == [("/a.bin", "bytes=50000-")]


def test_a_server_without_ranges_begins_again(web: Any, put: Put, tmp_path: Path) -> None:
    web.ranges, web.breaks_after = False, [20_000]
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_not_joined_with_its_old_beginning(
    web: Any, put: Put, tmp_path: Path
) -> None:
    web.etag = '"two"'
    (tmp_path / "a.bin.part").write_bytes(b"old" * 1000)
    (tmp_path / "a.bin.part.of").write_text('"one"')
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", None)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(web: Any, put: Put, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_that_is_busy_is_asked_again(web: Any, put: Put, tmp_path: Path) -> None:
    web.statuses = [503, 429]
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert len(web.asked) == 3


def test_it_gives_up_where_nothing_comes_and_keeps_what_came(
    web: Any, put: Put, tmp_path: Path
) -> None:
    web.breaks_after = [20_000, *[0] * download.ATTEMPTS]
    with pytest.raises(RunError, match=r"(?s)a\.bin.*ended at 20000 of 50000.*goes on from there"):
        fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:20_000]
    assert not (tmp_path / "a.bin").exists()
    assert len(web.asked) == download.ATTEMPTS
    web.breaks_after.clear()
    fetch(f"{web.url}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_breaks_after_progress_are_forgiven(web: Any, put: Put, tmp_path: Path) -> None:
    web.breaks_after = [4_000] * 12  # twice as often as it would give up
    fetch(put("a.bin", CONTENT), tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_kept_aside(put: Put, tmp_path: Path) -> None:
    url = put("a.bin", CONTENT[:-1] + b"x")
    with pytest.raises(RunError) as caught:
        fetch(url, tmp_path / "a.bin", MD5)
    told = caught.value.text()
    assert url in told and MD5.digest in told and "a.bin.refused" in told and "mirror" in told
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.bin.refused"]
    put("a.bin", CONTENT)
    fetch(url, tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_what_the_server_has_not_is_told(web: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)/no\.bin.*404.*mirror"):
        fetch(f"{web.url}/no.bin", tmp_path / "no.bin", MD5)
    assert len(web.asked) == 1


def test_a_server_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(RunError, match="no answer"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", MD5)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "a.bin"])
def test_other_than_web_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="no address to download from"):
        fetch(url, tmp_path / "a.bin", None)
