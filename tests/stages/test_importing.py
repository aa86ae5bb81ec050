"""vqasr import-fairseq: what it writes and says, what it refuses, and that recipes take it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from pipeline.cli import cli, main
from pipeline.store import read_stamp
from stages.quantizer.model import QuantizerModel
from stages.units.vocabulary import Vocabulary


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`call("import-fairseq", ...)`: the program's exit status, output and errors."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vqasr", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            main()
        told = capsys.readouterr()
        return int(caught.value.code or 0), told.out, told.err

    return run


def test_a_quantizer_is_written_and_told(
    call: Any, make_wav2vec: Callable[..., Any], tmp_path: Path
) -> None:
    theirs = make_wav2vec(tmp_path / "vq.pt", vq_type="kmeans")
    folder = tmp_path / "made" / "vq"
    status, out, _ = call("import-fairseq", tmp_path / "vq.pt", folder)
    assert status == 0
    count = sum(p.numel() for n, p in theirs.named_parameters() if not n.startswith("wav2vec_pred"))
    assert "vq-wav2vec (k-means), 2 groups of 4 codes, 8 features every 10 ms" in out
    assert f"{count:,} parameters" in out
    assert f"quantizer: {{from: {folder}}}" in out
    samples_S = torch.randn(3000)
    with torch.no_grad():
        z_BDF = theirs.feature_extractor(samples_S[None])
        _, codes_BFG = theirs.vector_quantizer.forward_idx(z_BDF)
    assert torch.equal(QuantizerModel.from_pretrained(folder).units(samples_S), codes_BFG[0])
    assert [p.name for p in folder.parent.iterdir()] == ["vq"]


def test_a_bert_is_written_and_told(
    call: Any, make_roberta: Callable[..., Any], tmp_path: Path
) -> None:
    make_roberta(tmp_path / "bert.pt")
    (tmp_path / "dict.txt").rename(tmp_path / "units.txt")
    status, _, err = call("import-fairseq", tmp_path / "bert.pt", tmp_path / "bert")
    assert status == 2
    assert "--dict FILE" in err
    given = ("--dict", tmp_path / "units.txt")
    status, out, _ = call("import-fairseq", tmp_path / "bert.pt", tmp_path / "bert", *given)
    assert status == 0
    assert "RoBERTa on 16 units of 2 groups, 2 layers of 16, at most 63 frames" in out
    assert f"bert: {{from: {tmp_path / 'bert'}}}" in out


def test_the_same_import_again_changes_nothing_and_another_is_refused(
    call: Any, make_wav2vec: Callable[..., Any], tmp_path: Path
) -> None:
    make_wav2vec(tmp_path / "one.pt", vq_type="gumbel")
    make_wav2vec(tmp_path / "two.pt", vq_type="kmeans")
    folder = tmp_path / "vq"
    folder.mkdir()  # an empty one will do
    assert call("import-fairseq", tmp_path / "one.pt", folder)[0] == 0
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    status, out, _ = call("import-fairseq", tmp_path / "one.pt", folder)
    assert (status, "holds it already" in out) == (0, True)
    status, _, err = call("import-fairseq", tmp_path / "two.pt", folder)
    assert (status, "not empty" in err) == (2, True)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.pt", "two.pt", "vq"]


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.mark}",))


@pytest.mark.case(30)
@pytest.mark.parametrize("kind", ["evil", "truncated", "text", "missing", "wav2vec 2.0", "--dict"])
def test_a_wrong_file_ends_in_a_few_lines_and_writes_nothing(
    call: Any, make_wav2vec: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    path, mark, options = tmp_path / "c.pt", tmp_path / "ran", []
    if kind == "evil":
        torch.save({"args": Evil(mark), "model": {}}, path)
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "wav2vec 2.0":
        names = ("feature_extractor.conv_layers.0.0.weight", "mask_emb")
        weights = {name: torch.zeros(2) for name in names}
        torch.save({"args": argparse.Namespace(arch="wav2vec2"), "model": weights}, path)
    elif kind != "missing":
        make_wav2vec(path, vq_type="gumbel")
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:2000])
        else:
            options = ["--dict", str(path)]
    status, _, err = call("import-fairseq", path, tmp_path / "out", *options)
    assert status == 2
    assert err.startswith("vqasr: ")
    assert len(err.splitlines()) <= 4
    assert "Traceback" not in err
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    if kind == "wav2vec 2.0":
        assert "architecture wav2vec2" in err


@pytest.mark.case(8)
def test_a_full_disk_is_named_and_nothing_is_left(
    call: Any,
    make_wav2vec: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    make_wav2vec(tmp_path / "c.pt", vq_type="gumbel")
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", full)
        status, _, err = call("import-fairseq", tmp_path / "c.pt", tmp_path / "vq")
    assert status == 1
    assert err.startswith(f"vqasr: The disk is full: {tmp_path / 'vq'} could not be written.")
    assert "make space" in err and len(err.splitlines()) <= 3
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
    assert call("import-fairseq", tmp_path / "c.pt", tmp_path / "vq")[0] == 0


def test_a_folder_that_cannot_be_is_refused(
    call: Any, make_wav2vec: Callable[..., Any], tmp_path: Path
) -> None:
    make_wav2vec(tmp_path / "c.pt", vq_type="gumbel")
    for folder in (tmp_path / "c.pt", tmp_path / "c.pt" / "below"):
        assert call("import-fairseq", tmp_path / "c.pt", folder)[0] == 2


def run(recipe: Path, exp: Path, *args: str) -> str:
    result = CliRunner().invoke(cli, ["run", str(recipe), "--exp", str(exp), *args])
    if result.exception:
        raise result.exception
    return result.output


def test_a_recipe_runs_on_imported_models(
    make_wav2vec: Callable[..., Any],
    make_roberta: Callable[..., Any],
    write_recipe: Callable[..., Path],
    values: dict[str, Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "rob").mkdir()
    make_wav2vec(tmp_path / "vq.pt", vq_type="kmeans", combine_groups=True)
    make_roberta(tmp_path / "rob" / "bert.pt")
    for name, checkpoint in (("vq", "vq.pt"), ("bert", "rob/bert.pt")):
        command = ["import-fairseq", str(tmp_path / checkpoint), str(tmp_path / "made" / name)]
        assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    values["quantizer"] = {"from": str(tmp_path / "made" / "vq")}
    values["bert"] = {"from": str(tmp_path / "made" / "bert")}
    values["budgets"] = ["all"]
    path, exp = write_recipe(values), tmp_path / "exp"
    out = run(path, exp)
    assert "vocabulary of 16 units; 100.0% of the frames have one of them" in out
    (bert,) = exp.glob("tiny/*bert*")
    vocabulary = Vocabulary.load(bert)
    first = (tmp_path / "rob" / "dict.txt").read_text().split()[0]
    assert vocabulary.symbols[3] == first
    model = "model.safetensors"
    assert (bert / model).read_bytes() == (tmp_path / "made" / "bert" / model).read_bytes()
    assert read_stamp(bert) is not None
    rows = json.loads((exp / "tiny" / "results.json").read_text())
    assert {row["budget"] for row in rows} == {"all"}
    assert "nothing to do" in run(path, exp)
    moved = tmp_path / "moved"
    (tmp_path / "made").rename(moved)
    told = ("--set", f"quantizer.from={moved / 'vq'}", "--set", f"bert.from={moved / 'bert'}")
    assert "nothing to do" in run(path, exp, *told)


def test_an_import_that_does_not_fit_is_refused_by_the_plan(
    make_roberta: Callable[..., Any],
    write_recipe: Callable[..., Path],
    values: dict[str, Any],
    tmp_path: Path,
    call: Any,
) -> None:
    make_roberta(tmp_path / "bert.pt", codes=5)
    assert call("import-fairseq", tmp_path / "bert.pt", tmp_path / "bert")[0] == 0
    values["bert"] = {"from": str(tmp_path / "bert")}
    status, _, err = call("run", write_recipe(values), "--exp", tmp_path / "exp")
    assert status == 2
    assert "codes below 4" in err
    assert "2 x 5" in err


def test_wav2vec_1_has_no_units_for_a_bert(
    make_wav2vec: Callable[..., Any],
    write_recipe: Callable[..., Path],
    values: dict[str, Any],
    tmp_path: Path,
    call: Any,
) -> None:
    make_wav2vec(tmp_path / "c.pt", vq_type="none")
    status, out, _ = call("import-fairseq", tmp_path / "c.pt", tmp_path / "w")
    assert (status, "wav2vec 1.0, 8 features every 10 ms" in out) == (0, True)
    values["quantizer"] = {"from": str(tmp_path / "w")}
    status, _, err = call("run", write_recipe(values), "--exp", tmp_path / "exp")
    assert (status, "needs quantizer type gumbel or kmeans" in err) == (2, True)
