"""The exported folder: what is in it, what its card says, and when there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from pipeline.cli import cli
from pipeline.errors import RunError, UserError
from pipeline.recipe_file import load
from stages.use import card
from stages.use import folder as places
from stages.use.chosen import choose, refuse_unfinished
from stages.use.export import UNFINISHED


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, args)])


def test_the_folder_holds_all_that_it_takes_and_nothing_of_this_machine(
    exported: Path, finished: Any
) -> None:
    there = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert there >= {
        "README.md",
        "config.json",
        "model.safetensors",
        "quantizer/config.json",
        "quantizer/model.safetensors",
        "units/tokenizer.json",
        "units/unit_vectors.safetensors",
        "lm/targets.json",
        "lm/lexicon.txt",
        "lm/lm.bin",
        "preprocessor_config.json",
        "decoder_config.json",
        "results.json",
    }
    assert not {name for name in there if "stamp" in name or "predictor" in name}
    for path in exported.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(finished.exp.parent) not in path.read_text("utf-8"), path


def test_weights_are_those_of_the_artifacts(exported: Path, finished: Any) -> None:
    model = finished.store.path(finished.step("finetune", "all"))
    quantizer = finished.store.path(finished.step("quantizer", ""))
    for source, copy in ((model, exported), (quantizer, exported / places.QUANTIZER)):
        ours, theirs = (load_file(f / "model.safetensors") for f in (copy, source))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_decoder_has_the_weights_that_dev_chose(exported: Path, finished: Any) -> None:
    tuned = finished.store.path(finished.step("decode", "dev/all")) / "weights.json"
    best = json.loads(tuned.read_text())["decoders"]["lexicon_beam"]
    told = places.Decoding.read(exported)
    assert (told.lm_weight, told.word_score) == (best["lm_weight"], best["word_score"])
    assert (told.decoder, told.beam, told.beam_threshold) == ("lexicon_beam", 20, 30.0)


def test_recordings_are_cut_at_a_minute_however_few_positions_there_are(exported: Path) -> None:
    """Where stage 2 cuts: there are 256 positions, which is 2.6 s."""
    assert places.Hearing.read(exported).longest_samples == 60 * 16_000


def test_the_card_tells_errors_training_and_leaves_the_licence_open(
    exported: Path, finished: Any
) -> None:
    told = (exported / "README.md").read_text("utf-8")
    head = yaml.safe_load(told.split("---")[1])
    assert head["license"] is None
    assert head["pipeline_tag"] == "automatic-speech-recognition"
    rows = json.loads((exported / "results.json").read_text())
    assert {(r["budget"], r["decoder"]) for r in rows} == {
        ("all", d) for d in ("greedy", "lexicon_beam")
    }
    everything = json.loads((finished.exp / "tiny" / "results.json").read_text())
    assert rows == [row for row in everything if row["budget"] == "all"]
    for row in rows:
        assert f"{100 * row['wer']:.1f}" in told
    assert "fine-tuning 1" in told
    assert "torch 2" in told
    recipe = yaml.safe_load(told.split("```yaml\n")[1].split("```")[0])
    assert recipe["quantizer"]["codes"] == 4
    assert recipe["finetune"]["updates"] == 2


def test_the_card_says_what_is_heard_and_what_can_be_written(exported: Path) -> None:
    told = (exported / "README.md").read_text("utf-8")
    assert "trained on 0.2 min of transcribed speech (budget `all`)" in told.splitlines()[7]
    assert "under the BERT that was pretrained on them" in told
    assert "lexicon of 7 words" in told
    assert "longer than 60.0 s are cut" in told


def test_the_card_says_that_the_modelling_file_computes_units_of_bf16_in_fp32() -> None:
    told = {p: card.without_vqasr(places.Hearing(40_000, None, p)) for p in ("bf16", "fp32")}
    assert "vqasr computes the units of this model in bf16" in told["bf16"]
    assert "bf16" not in told["fp32"]
    assert all("trust_remote_code" in text for text in told.values())


def test_the_card_names_the_versions_that_vqasr_itself_asks_for(exported: Path) -> None:
    project = tomllib.loads((Path(card.__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    asked = [d for d in project["project"]["dependencies"] if d.startswith(("torch", "transf"))]
    assert len(asked) == 2
    told = (exported / "README.md").read_text("utf-8")
    assert all(f"`{dependency}`" in told for dependency in asked)


def test_the_command_writes_the_same_folder(exported: Path, finished: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()  # empty: it may be written
    found = call(finished.recipe_path, tmp_path / "model", "--budget", "all", "--exp", finished.exp)
    assert found.exit_code == 0, found.output
    for path in exported.rglob("*"):
        if path.is_file():
            copy = tmp_path / "model" / path.relative_to(exported)
            assert copy.read_bytes() == path.read_bytes(), path
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "more than one budget"),
        (["--budget", "2min"], "no such budget; there are: 2s, all"),
        (["--budget", "all", "--seed", "7"], "--seed 7: the recipe has no such seed"),
        (["--budget", "all", "--fold", "x"], "--fold x: the recipe has no folds"),
    ],
)
def test_a_model_that_is_not_there_is_refused(
    finished: Any, tmp_path: Path, args: list[str], told: str
) -> None:
    found = call(finished.recipe_path, tmp_path / "model", "--exp", finished.exp, *args)
    assert isinstance(found.exception, UserError)
    assert told in str(found.exception)
    assert not list(tmp_path.iterdir())


def test_what_is_not_done_is_refused_with_the_command_that_makes_it(
    finished: Any, tmp_path: Path
) -> None:
    change = ["--set", "finetune.updates=3"]
    args = [finished.recipe_path, tmp_path / "m", "--budget", "all", "--exp", finished.exp]
    found = call(*args, *change)
    assert isinstance(found.exception, UserError)
    assert "5 finetune all" in str(found.exception)
    assert "updates: 2 -> 3" in str(found.exception)
    remedy = f"vqasr run {finished.recipe_path} --set finetune.updates=3 --exp {finished.exp}"
    assert remedy in str(found.exception)
    assert not list(tmp_path.iterdir())


def test_a_missing_quantizer_is_made_by_its_own_stage(finished: Any, tmp_path: Path) -> None:
    """A plain run would not make it: nothing that is to run reads it."""
    place = finished.store.path(finished.step("quantizer", ""))
    aside = place.rename(place.with_name("aside"))
    try:
        with pytest.raises(UserError, match="1 quantizer is not done: missing") as caught:
            job = finished.job()
            chosen = choose(load(finished.recipe_path), job.steps, "all", None, None)
            refuse_unfinished(chosen, job)
    finally:
        aside.rename(place)
    assert "--stage 1 --stop-stage 1" in caught.value.remedy


def test_a_folder_with_something_in_it_is_refused_and_stays(finished: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something already"):
        finished.export(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="no folder"):
        finished.export(tmp_path / "mine.txt")


@pytest.mark.case(8)
def test_an_export_that_fails_leaves_nothing(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        finished.export(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_killed_export_is_done_again_and_another_folder_of_its_name_is_left_alone(
    finished: Any, tmp_path: Path
) -> None:
    partial = tmp_path / "model.partial"
    partial.mkdir()
    (partial / "mine.txt").touch()
    with pytest.raises(UserError, match=r"model\.partial is in the way"):
        finished.export(tmp_path / "model")
    assert (partial / "mine.txt").exists()
    (partial / UNFINISHED).touch()
    finished.export(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "mine.txt").exists()


def test_a_damaged_artifact_is_not_exported(finished: Any, tmp_path: Path) -> None:
    path = finished.store.path(finished.step("finetune", "all")) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(RunError, match="its checksum differs"):
            finished.export(tmp_path / "model")
    finally:
        path.write_bytes(whole)
    assert not list(tmp_path.iterdir())


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from pipeline.cli import cli\n"
        "for command in ('export', 'transcribe'):\n"
        "    cli.main([command, '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
