"""From a server with broken connections and a wrong file to a model that transcribes: all folds."""

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
from pipeline.errors import RunError
from pipeline.model_folder import WEIGHTS
from stages.acoustic import finetune
from stages.prepare.corpora import _official
from stages.prepare.download import PART, REFUSED, Checksum
from tests import made_libri
from tests.babbling import babbling

LM_TEXT = "librispeech-lm-norm.txt.gz"
FOLDS = [f"fold{n}" for n in range(6)]
WRONG = "dev-other.tar.gz"  # what the server has at first


def vqasr(*words: str | Path) -> str:
    result = CliRunner().invoke(cli, [*map(str, words)])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture
def server(web: Any, publish: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Archives of two minutes of speech and an LM text, whose checksums are the published ones."""
    root = made_libri.make(web.folder.with_name("made"), seconds=2.0)
    made_libri.archive(root, web.folder)
    publish(web.folder)
    text = gzip.compress("".join(f"{s}\n" for s in made_libri.SENTENCES * 20).encode())
    (web.folder / "11").mkdir()
    (web.folder / "11" / LM_TEXT).write_bytes(text)
    md5 = Checksum("md5", hashlib.md5(text).hexdigest())
    official = replace(_official.LANGUAGE[LM_TEXT], checksum=md5)
    monkeypatch.setitem(_official.LANGUAGE, LM_TEXT, official)
    return web


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_librispeech_from_its_archives_to_a_model_that_transcribes(
    server: Any,
    values: dict[str, Any],
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finetune, "_new_model", babbling(finetune._new_model))
    libri = tmp_path / "libri"
    values["corpus"] = {
        "kind": "librispeech",
        "root": str(libri),
        "train": ["train-clean-100", "train-other-500"],
        "download": True,
        "mirror": server.url,
        "librilight_mirror": server.url,
    }
    values |= {"budgets": ["10min", "1h"], "folds": "all"}
    values["finetune"] |= {"learning_rate": 1e-6, "batch_frames": 800}
    values["bert"] |= {"batch_frames": 800}
    path, exp = write_recipe(values), tmp_path / "exp"
    run = ["run", path, "--exp", exp]

    _download_what_the_server_breaks(server, run, libri)
    vqasr(*run)
    _every_fold_has_its_results(path, exp)
    asked = len(server.asked)
    assert "nothing to do" in vqasr(*run)
    assert len(server.asked) == asked

    model = tmp_path / "model"
    vqasr("export", path, model, "--budget", "10min", "--fold", "fold4", "--exp", exp)
    assert "budget `10min`, fold fold4" in (model / "README.md").read_text("utf-8")
    trained = {
        fold: (exp / "tiny" / f"5-finetune-{fold}-10min" / WEIGHTS).read_bytes() for fold in FOLDS
    }
    assert len(set(trained.values())) == len(FOLDS)
    assert (model / WEIGHTS).read_bytes() == trained["fold4"]
    for decoder, option in (("greedy", ["--greedy"]), ("lexicon_beam", [])):
        heard = tmp_path / decoder
        recordings = libri / "LibriSpeech" / "test-clean"
        vqasr("transcribe", model, recordings, "-o", f"{heard}/", "--device", "cpu", *option)
        found = {text.stem: text.read_text("utf-8").strip() for text in heard.rglob("*.txt")}
        decoded = exp / "tiny" / "6-decode-fold4-test-clean-10min"
        assert found == _hypotheses(decoded / f"{decoder}.trn")
        assert len(found) == made_libri.UTTERANCES
        assert len(set(found.values())) == len(found)  # it says something of each


def _download_what_the_server_breaks(server: Any, run: list[Any], libri: Path) -> None:
    """Connections end early, and one archive is another than the published one."""
    archive = server.folder / "12" / WRONG
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    server.breaks_after = [5000, 100_000, 10**9, 700]
    with pytest.raises(RunError, match=f"{WRONG} from .* is not the published file"):
        vqasr(*run)
    assert server.breaks_after == []
    assert [asked for asked in server.asked if asked[1]]  # it went on where it was broken off
    assert [p.name for p in libri.rglob(f"*{REFUSED}")] == [WRONG + REFUSED]
    assert not (libri / "LibriSpeech" / "dev-other").exists()
    archive.write_bytes(whole)
    came = {name for name, _ in server.asked} - {f"/12/{WRONG}"}
    server.asked.clear()
    server.breaks_after = [3000]
    vqasr(*run, "--stop-stage", "0")
    again = [name for name, _ in server.asked]
    assert f"/12/{WRONG}" in again
    assert not came & set(again)  # what came whole is not asked for again
    assert not list(libri.rglob(f"*{PART}"))
    assert (libri / "LibriSpeech" / "dev-other").is_dir()


def _every_fold_has_its_results(path: Path, exp: Path) -> None:
    rows = json.loads((exp / "tiny" / "results.json").read_text())
    models = [*(("10min", fold) for fold in FOLDS), ("1h", None)]
    assert {(r["budget"], r["fold"], r["test_set"], r["decoder"]) for r in rows} == {
        (budget, fold, test_set, decoder)
        for budget, fold in models
        for test_set in ("test-clean", "test-other")
        for decoder in ("greedy", "lexicon_beam")
    }
    assert {r["lm_text"] for r in rows} == {
        "LibriSpeech's official text, without the books of dev and test"
    }
    for name in ("1h", *(f"{fold}-10min" for fold in FOLDS)):
        assert (exp / "tiny" / f"5-finetune-{name}").exists()
    assert "Discrete BERT" in vqasr("compare", path, "--exp", exp)  # published, beside ours
    deviations = json.loads(vqasr("compare", path, "--exp", exp, "--format", "json"))
    folds = {row["budget"]: set(row["folds"]) for row in deviations}
    assert folds == {"10min": set(FOLDS), "1h": {None}}
    assert all((row["wer_sd_of_folds"] is None) == (row["budget"] == "1h") for row in deviations)


def _hypotheses(trn: Path) -> dict[str, str]:
    rows = (line.rpartition("(") for line in trn.read_text("utf-8").splitlines())
    return {name.removesuffix(")"): words.strip() for words, _, name in rows}
