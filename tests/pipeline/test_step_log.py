"""What is logged while a step works stands in its file, and a full disk ends that silently."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from pipeline.step_log import log_file


def test_what_is_logged_meanwhile_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "3-bert.log"
    for text in ("first", "second"):
        with log_file(path) as told:
            assert told == path
            logging.getLogger("vqasr").debug(text)
            logging.getLogger("fairseq").info("of %s", "others")
            logging.getLogger("fairseq").debug("too much")
        logging.getLogger("vqasr").error("outside")
    lines = path.read_text("utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "vqasr DEBUG first",
        "fairseq INFO of others",
        "vqasr DEBUG second",
        "fairseq INFO of others",
    ]


@pytest.mark.case(8)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_on_a_full_disk_the_work_fails_for_its_own_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="its own"), log_file(Path("/dev/full")):
        logging.getLogger("vqasr").info("no room for this")
        raise ValueError("its own")
    assert capsys.readouterr().err == ""


def test_what_goes_wrong_in_a_thread_stands_in_the_log_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError("no room for curves")

    with log_file(tmp_path / "3-bert.log") as path:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert "OSError: no room for curves" in path.read_text("utf-8")
    assert capsys.readouterr().err == ""
