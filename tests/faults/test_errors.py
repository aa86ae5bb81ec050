"""Errors as people meet them: a few lines, the right status, and the traceback only in a log."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli, kenlm_tools, yaml_file
from stages import plan as plan_module
from stages.prepare import stage as prepare

MOST_LINES = 5
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Place:
    """Where a mistake is made: a recipe on disk, and the folder of results."""

    recipe: Path
    exp: Path
    corpus: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *args: object) -> list[object]:
        return ["run", self.recipe, "--exp", self.exp, "--stop-stage", "prepare", *args]

    def write(self, name: str, content: bytes) -> Path:
        path = self.recipe.parent / name
        path.write_bytes(content)
        return path

    def artifact(self, stage: str) -> Path:
        return next(p for p in (self.exp / "store").glob(f"{stage}-*") if p.is_dir())


@pytest.fixture
def place(
    tmp_path: Path,
    corpus: Path,
    values: dict[str, Any],
    write_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    recipe = write_recipe({**values, "frontend": "log_mel", "budgets": ["all"]})
    return Place(recipe, tmp_path / "exp", corpus, monkeypatch)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`call("run", ...)`: the program's exit status, output and errors."""

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vqasr", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        told = capsys.readouterr()
        return int(caught.value.code or 0), told.out, told.err

    return run


Mistake = Callable[[Place], list[object]]


def recipe_of(content: bytes) -> Mistake:
    return lambda p: ["run", p.write("bad.yaml", content), "--exp", p.exp]


def setting(change: str, *args: str) -> Mistake:
    return lambda p: p.run("--set", change, *args)


def with_file(where: str) -> Mistake:
    """A file where a folder belongs."""

    def make(place: Place) -> list[object]:
        path = place.exp / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a file")
        return place.run()

    return make


def forbidden(place: Place) -> list[object]:
    """A recipe that may not be read: as root, chmod alone forbids nothing."""

    def refuse(path: Any, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    place.monkeypatch.setattr(yaml_file, "open", refuse, raising=False)
    return place.run()


def unreadable_audio(place: Place) -> list[object]:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    place.monkeypatch.setattr("stages.prepare.hashes.file_sha256", refuse)
    return place.run()


def without_lmplz(place: Place) -> list[object]:
    place.monkeypatch.setattr(kenlm_tools.shutil, "which", lambda *_, **__: None)
    return ["run", place.recipe, "--exp", place.exp, "--stop-stage", "lm"]


def imported(*args: str, content: bytes | None = None) -> Mistake:
    def make(place: Place) -> list[object]:
        if content is not None:
            place.write("c.pt", content)
        return ["import-fairseq", *(place.recipe.parent / name for name in args)]

    return make


def model_folder(section: str, config: bytes, weights: bytes = b"") -> Mistake:
    """A recipe that takes over a model from a folder with these files."""

    def make(place: Place) -> list[object]:
        folder = place.recipe.parent / "model"
        folder.mkdir()
        (folder / "config.json").write_bytes(config)
        (folder / "model.safetensors").write_bytes(weights)
        changes = ["--set", "frontend=unit_bert", "--set", f"{section}.from={folder}"]
        return ["run", place.recipe, "--exp", place.exp, *changes, "--stop-stage", "quantizer"]

    return make


def folder_as_link(place: Place) -> list[object]:
    (place.exp / "tiny" / "0-prepare-dev").mkdir(parents=True)
    return place.run()


def with_results(content: bytes) -> Mistake:
    def make(place: Place) -> list[object]:
        folder = place.exp / "tiny"
        folder.mkdir(parents=True)
        (folder / "results.json").write_bytes(content)
        return ["compare", place.recipe, "--exp", place.exp]

    return make


def cut_text(place: Place) -> list[object]:
    path = place.write("lm.gz", gzip.compress(bytes(range(256)) * 99)[:-9])
    return place.run("--set", f"lm.text={path}")


LONG_FIELD = b"utt_id\tspeaker\tpath\ttranscript\na\ta\tx.wav\t" + b"x" * 200_000
BOMB = b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (n + 1, n + 1, b", ".join([b"*%c" % n] * 10)) for n in range(97, 107)
)
LYING = (2**62).to_bytes(8, "little") + b'{"__metadata__":{}}'
GUMBEL = b'{"model_type": "vqasr_quantizer"}'

MISTAKES: dict[str, tuple[Mistake, int, str]] = {
    "no recipe": (
        lambda p: ["run", p.recipe.with_name("t.yaml")],
        2,
        r"No such recipe.*tiny\.yaml",
    ),
    "a folder as recipe": (lambda p: ["run", p.corpus], 2, "cannot be read as YAML: Is a direct"),
    "a recipe below a file": (lambda p: ["run", p.recipe / "x.yaml"], 2, "Not a directory"),
    "a recipe without permission": (forbidden, 2, r"tiny\.yaml cannot be .*: Permission denied"),
    "a device as recipe": (lambda p: ["run", "/dev/zero"], 2, "larger than 256 KiB"),
    "a recipe of audio": (recipe_of(b"RIFF\xff\xff\x00\x00WAVE"), 2, "line 1 is not UTF-8"),
    "an empty recipe": (recipe_of(b""), 2, "must be a mapping of sections"),
    "a key twice": (recipe_of(b"seed: 1\nseed: 2\n"), 2, "line 2: the key 'seed' stands twice"),
    "references without end": (recipe_of(BOMB), 2, "more than 50000 values"),
    "brackets without end": (recipe_of(b"a: " + b"[" * 9999), 2, "RecursionError"),
    "a date that is none": (recipe_of(b"name: 2001-99-99\n"), 2, "cannot be read as YAML: month"),
    "a number without digits": (recipe_of(b'seed: !!int ""\n'), 2, "cannot be read as YAML"),
    "a value as long as a book": (recipe_of(b"seed: " + b"x" * 99_999), 2, r"found 'xxx.*\.\.\."),
    "a base that is no path": (recipe_of(b'base: "a\\0b"\n'), 2, "base must be the name"),
    "no command": (lambda p: ["walk"], 2, "No such command 'walk'"),
    "no argument": (lambda p: ["run"], 2, "Missing argument 'RECIPE'"),
    "an unknown option": (lambda p: p.run("--sett", "x"), 2, "No such option.*--set"),
    "an unknown stage": (lambda p: p.run("--stage", "tune"), 2, "did you mean finetune"),
    "an unknown key": (setting("lm.odrer=2"), 2, "unknown key lm.odrer; did you mean order"),
    "a setting without a value": (setting("lm.order"), 2, "write section.key=value"),
    "no corpus": (setting("corpus.root=/no/corpus"), 2, "No such corpus folder: /no/corpus"),
    "a file as corpus": (lambda p: p.run("--set", f"corpus.root={p.recipe}"), 2, "No such corp"),
    "no list": (setting("corpus.train=none.tsv"), 2, "No such corpus list: .*none.tsv"),
    "a folder as list": (setting("corpus.train=audio"), 2, "cannot be read: Is a directory"),
    "a device as list": (setting("corpus.train=/dev/zero"), 2, "is no plain file"),
    "audio as list": (setting("corpus.train=audio/train-00.wav"), 2, "line 1: not UTF-8|lacks"),
    "audio without permission": (unreadable_audio, 1, r"Permission denied: .*train-00\.wav"),
    "a file as exp": (lambda p: p.run("--exp", p.recipe), 2, "is not a folder"),
    "a file as store": (with_file("store"), 2, "store is not a folder"),
    "a file as folder of links": (with_file("tiny"), 2, "tiny is not a folder"),
    "a file as folder of logs": (with_file("tiny/logs"), 2, "logs is not a folder"),
    "no GPU": (setting("machine.device=cuda"), 2, "torch finds no GPU. Set it to auto or cpu"),
    "no lmplz": (without_lmplz, 1, "lmplz is not there(.|\n)*make setup(.|\n)*log: .*4-lm-ngram"),
    "no model to take over": (
        setting("quantizer.from=/no/model", "--set", "frontend=unit_bert"),
        2,
        "quantizer.from: /no/model holds no model",
    ),
    "a model of another kind": (
        model_folder("quantizer", b'{"model_type": "bert"}'),
        2,
        "not an exported quantizer(.|\n)*found: model_type bert",
    ),
    "a model's settings cut": (model_folder("quantizer", GUMBEL[:-5]), 2, "quantizer.from: "),
    "a model's settings a list": (model_folder("quantizer", b"[1]"), 2, "quantizer.from: "),
    "a model with a lying header": (
        model_folder("quantizer", GUMBEL, LYING),
        2,
        "quantizer.from: .*cannot be read(.|\n)*[Hh]eader",
    ),
    "no checkpoint": (imported("none.pt", "out"), 2, "No such checkpoint"),
    "a folder as checkpoint": (imported("corpus", "out"), 2, "No such checkpoint"),
    "text as checkpoint": (imported("tiny.yaml", "out"), 2, "is no checkpoint"),
    "a file to import into": (imported("c.pt", "tiny.yaml", content=b"x"), 2, "is a file"),
    "nothing to compare": (lambda p: ["compare", "x", "--exp", p.exp], 2, "x has no results"),
    "nowhere to report": (
        lambda p: ["report", p.recipe, "-o", "/no/x.html"],
        2,
        "/no is not there",
    ),
    "nothing to compare in another folder": (
        lambda p: ["compare", p.recipe, "--exp", p.exp],
        2,
        r"remedy: vqasr run \S*tiny\.yaml --exp \S*exp; there are",
    ),
    "a folder as link": (folder_as_link, 2, "0-prepare-dev is no link(.|\n)*remedy: move it"),
    "results cut": (with_results(b'[{"recipe'), 2, "is not JSON: .*\n  remedy: vqasr run .*exp$"),
    "results of nothing": (with_results(b"[]"), 2, "holds no results(.|\n)*remedy: give"),
    "a text cut": (cut_text, 2, "lm.text: .*lm.gz cannot be read: .*\n  remedy: write or fetch"),
    "a list without ends of line": (
        lambda p: p.run("--set", f"corpus.train={p.write('long.tsv', LONG_FIELD)}"),
        2,
        "line 2: field larger.*\n  remedy: split the utterance",
    ),
    "a folder below a file to import into": (
        imported("c.pt", "tiny.yaml/x", content=b"x"),
        2,
        "cannot be made: .*\n  remedy: name another folder",
    ),
    "no text": (setting("lm.text="), 2, r"tiny\.yaml: lm\.text: .*found None\n"),
    "nowhere to prune": (lambda p: ["prune", "--exp", "/nope"], 2, "/nope: there is no such fol"),
    "an empty exp": (lambda p: p.run("--exp", ""), 2, "'--exp': it must not be empty"),
    "an empty exp to compare": (lambda p: ["compare", "x", "--exp", ""], 2, "must not be empty"),
    "an empty recipe's name": (lambda p: ["run", ""], 2, "'RECIPE': it must not be empty"),
    "a file as results": (lambda p: ["compare", p.recipe, "--exp", p.recipe], 2, "not a folder"),
}


OF_CASES = {
    "a key twice": pytest.mark.case(26),
    "an unknown key": pytest.mark.case(26),
    "no text": pytest.mark.case(26),
    "references without end": pytest.mark.case(26, 31),
    "brackets without end": pytest.mark.case(26, 31),
    "text as checkpoint": pytest.mark.case(30),
    "a model with a lying header": pytest.mark.case(32),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=OF_CASES.get(name, ())) for name in MISTAKES]
)
def test_a_mistake_ends_in_a_few_lines_with_its_status(
    place: Place, call: Callable[..., tuple[int, str, str]], name: str
) -> None:
    mistake, status, told = MISTAKES[name]
    found, out, err = call(*mistake(place))
    assert re.search(told, err), err
    assert (found, "Traceback" in out + err) == (status, False)
    assert len(err.splitlines()) <= MOST_LINES
    assert max(map(len, err.splitlines())) <= 1000


def test_a_wrong_place_for_results_costs_no_work(
    place: Place, call: Callable[..., tuple[int, str, str]]
) -> None:
    assert call(*with_file("tiny/logs")(place))[0] == 2
    assert not list(place.exp.glob("store/prepare-*"))


def break_step(place: Place, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    place.monkeypatch.setattr(prepare, "write_split", fail)


@pytest.mark.parametrize(
    "error",
    [ValueError("of a library\n  at 0x7f\n  at 0x80"), MemoryError(), RecursionError("too deep")],
)
def test_what_a_step_did_not_foresee_is_in_its_log_alone(
    place: Place, call: Callable[..., tuple[int, str, str]], error: Exception
) -> None:
    break_step(place, error)
    status, out, err = call(*place.run())
    log = place.exp / "tiny" / "logs" / "0-prepare-train.log"
    told = "ValueError: of a library" if isinstance(error, ValueError) else type(error).__name__
    assert status == 1
    assert err.splitlines()[0].startswith(f"vqasr: 0 prepare train failed: {told}")
    assert err.splitlines()[1:] == [f"  log: {log}"]
    assert "Traceback" not in out + err
    assert "Traceback" in log.read_text("utf-8")


def test_what_nobody_foresaw_is_in_a_file_alone(
    place: Place, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    place.monkeypatch.setattr(plan_module, "plan", fail)
    place.monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, out, err = call(*place.run())
    first, second = err.splitlines()
    assert (status, out) == (1, "")
    assert first == "vqasr: this should not happen: ZeroDivisionError: division by zero"
    log = Path(second.removeprefix("  log: "))
    assert log.parent == tmp_path
    text = log.read_text("utf-8")
    assert text.startswith("vqasr run ") and "Traceback" in text


@pytest.fixture
def prepared(place: Place, call: Callable[..., tuple[int, str, str]]) -> Place:
    assert call(*place.run())[0] == 0
    return place


def next_stage(place: Place) -> list[object]:
    return ["run", place.recipe, "--exp", place.exp, "--stop-stage", "lm"]


@pytest.mark.case(14)
def test_an_altered_artifact_is_refused_with_the_command_that_makes_it_anew(
    prepared: Place, call: Callable[..., tuple[int, str, str]]
) -> None:
    text = prepared.exp / "tiny" / "0-prepare-text" / "lm_text.txt"
    text.write_text("another text\n")
    status, _, err = call(*next_stage(prepared))
    assert status == 1
    assert "lm_text.txt is not what was written (its checksum differs)" in err
    command = re.search(r"remedy: vqasr (run .*--stage 0 .*)", err)
    assert command and len(err.splitlines()) == 2
    assert call(*command[1].split())[0] == 0
    assert call(*next_stage(prepared))[0] == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"a": 3}', b"[" * 99_999, b"\xff"])
def test_damaged_books_of_the_store_are_made_anew(
    prepared: Place, call: Callable[..., tuple[int, str, str]], content: bytes
) -> None:
    store = prepared.exp / "store"
    (store / "files.json").write_bytes(content)
    stamp = (prepared.exp / "tiny" / "0-prepare-dev").resolve() / "stamp.json"
    stamp.write_bytes(content)
    half = stamp.parent.with_name(f"{stamp.parent.name}.partial")
    half.mkdir()
    (half / "inputs.json").write_bytes(content)
    for command in ("status", "run"):
        args = [command, prepared.recipe, "--exp", prepared.exp]
        args += ["--stop-stage", "prepare"] if command == "run" else []
        status, out, err = call(*args)
        assert (status, err) == (0, "")
        assert "prepare" in out
    assert stamp.stat().st_size > 1000


def test_a_run_whose_reader_has_gone_ends_without_a_word(place: Place) -> None:
    """As `vqasr status ... | head -1`."""
    command = [sys.executable, "-m", "pipeline.cli", "status", place.recipe, "--exp", place.exp]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
