"""The benchmark of corpus sizes runs the commands that it says on as many utterances as told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.corpus_size import COMMANDS, HELD_OUT, measure, table


def test_each_command_is_measured_on_as_many_utterances_as_told(tmp_path: Path) -> None:
    rows = measure(tmp_path, 50)
    assert [row["command"] for row in rows] == list(COMMANDS)
    for row in rows:
        assert row["utterances"] == 50
        assert row["processor_seconds"] > 0 and 10 < row["mib"] < 4000
    links = tmp_path / "exp" / "size"
    found = {
        json.loads((folder / "summary.json").read_text())["utterances"]
        for folder in links.glob("0-prepare-t*")
        if folder.name in ("0-prepare-train", "0-prepare-test-test")
    }
    assert found == {50, HELD_OUT}
    units = json.loads((links / "2-discretize-train" / "units.json").read_text())
    assert units["utterances"] == 50
    assert (links / "4-lm-ngram" / "lm.bin").is_file()
    cells = [cell.strip() for cell in table(rows).splitlines()[2].split("|")]
    assert cells[1] == "50" and cells[4].endswith(f" {rows[2]['mib']:.0f} MiB")
