"""From a server with broken connections to a table of word error rates, over two folds."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from stages.prepare.corpora import _official
from stages.prepare.download import Checksum
from tests import made_libri

LM_TEXT = "librispeech-lm-norm.txt.gz"


@pytest.mark.slow
def test_librispeech_from_its_archives_to_results(
    served: Any,
    values: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (served.folder / "11").mkdir(exist_ok=True)
    text = gzip.compress("".join(f"{s}\n" for s in made_libri.SENTENCES * 20).encode())
    (served.folder / "11" / LM_TEXT).write_bytes(text)
    md5 = Checksum("md5", hashlib.md5(text).hexdigest())
    official = replace(_official.LANGUAGE[LM_TEXT], checksum=md5)
    monkeypatch.setitem(_official.LANGUAGE, LM_TEXT, official)
    served.breaks_after = [5000, 10_000, 10**9, 700]
    values["corpus"] = {
        "kind": "librispeech",
        "root": str(tmp_path / "libri"),
        "train": ["train-clean-100", "train-other-500"],
        "download": True,
        "mirror": served.url,
        "librilight_mirror": served.url,
    }
    values |= {"budgets": ["10min", "1h"], "folds": ["fold0", "fold3"]}
    path, exp = write_recipe(values), tmp_path / "exp"

    def vqasr(*words: str) -> str:
        result = CliRunner().invoke(cli, [*words])
        if result.exception:
            raise result.exception
        return result.output

    vqasr("run", str(path), "--exp", str(exp))
    rows = json.loads((exp / "tiny" / "results.json").read_text())
    assert {(r["budget"], r["fold"], r["test_set"], r["decoder"]) for r in rows} == {
        (budget, fold, test_set, decoder)
        for budget, fold in (("10min", "fold0"), ("10min", "fold3"), ("1h", None))
        for test_set in ("test-clean", "test-other")
        for decoder in ("greedy", "lexicon_beam")
    }
    assert {r["lm_text"] for r in rows} == {
        "LibriSpeech's official text, without the books of dev and test"
    }
    assert {(exp / "tiny" / f"5-finetune-{n}").exists() for n in ("fold0-10min", "1h")} == {True}
    asked = len(served.asked)
    assert "nothing to do" in vqasr("run", str(path), "--exp", str(exp))
    assert len(served.asked) == asked
    table = vqasr("compare", str(path), "--exp", str(exp))
    assert "Discrete BERT" in table  # published, beside ours
    deviations = json.loads(vqasr("compare", str(path), "--exp", str(exp), "--format", "json"))
    folds = {row["budget"]: row["folds"] for row in deviations}
    assert folds == {"10min": ["fold0", "fold3"], "1h": [None]}
    assert all((row["wer_sd_of_folds"] is None) == (row["budget"] == "1h") for row in deviations)
