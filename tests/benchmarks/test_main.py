"""The file of `make bench`: whose rows stay, are replaced, or go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as bench


def row(name: str, benchmark: str | None, ours: float) -> dict[str, Any]:
    told = {"name": name, "ours": ours, "peer": 1.0, "ratio": 1.0, "unit": "s", "conditions": ""}
    return told if benchmark is None else told | {"benchmark": benchmark}


def test_a_benchmark_that_failed_leaves_no_old_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bench.json"
    before = [
        row("step", "quantizer_step", 1),
        row("codes", "discretize", 2),
        row("codes_of_old", "discretize", 3),
        row("elsewhere", "another", 4),
        row("of nobody", None, 5),
    ]
    out.write_text(json.dumps(before))
    monkeypatch.setattr(bench, "OUT", out)
    made = {"quantizer_step": None, "discretize": [row("codes", "discretize", 20)]}
    monkeypatch.setattr(bench, "_run", lambda name: made[name])
    assert bench.main(["quantizer_step", "discretize"]) == 1
    found = {r["name"]: r["ours"] for r in json.loads(out.read_text())}
    assert found == {"codes": 20, "elsewhere": 4}


def test_every_row_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.benchmarks import bench_discretize
    from tests.benchmarks.rows import lower_is_better

    monkeypatch.setattr(
        bench_discretize, "measure", lambda: [lower_is_better("codes", 1.0, 2.0, "s", "here")]
    )
    assert bench.main([bench.ONE, "discretize"]) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "discretize"
