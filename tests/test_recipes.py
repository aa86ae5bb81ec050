"""The recipes as they are committed: read, planned on the real speech, and fairly compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import comparison
from pipeline.errors import UserError
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step
from stages.acoustic import tables
from stages.acoustic.results import Results
from stages.plan import plan
from stages.prepare.sources import FileHashes
from tests import made_libri

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SPEECH = RECIPES.parents[1] / "shared" / "speech"
ALL = sorted(RECIPES.glob("*.yaml"))
FAMILIES = {"digits": "fsdd", "speechocean": "speechocean762"}
SHORT_HEADERS = [p for p in ALL if p.stem == "demo"]
SIBLINGS = [p for p in ALL if p.stem.partition("_")[0] in FAMILIES and "_" in p.stem]


def real(path: Path, *changes: str) -> Recipe:
    root = SPEECH / FAMILIES[path.stem.partition("_")[0]]
    if not root.is_dir():
        pytest.skip(f"real speech is not here: there is no {root}")
    return load(path, [f"corpus.root={root}", *changes])


def steps(recipe: Recipe, tmp_path: Path) -> list[Step]:
    """Its plan as of a run whose files are all known, so that no audio is read."""
    hashes = FileHashes(tmp_path / "none" / "files.json", "trust")  # where nothing is remembered
    hashes.of = lambda path: path.name  # type: ignore[method-assign]
    return plan(recipe, hashes)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_recipe_says_what_it_is_and_its_command(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# What it is  ")
    assert "\n# It needs  " in text and "\n# Command  " in text
    assert f"recipes/{path.name}" in text
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", [p for p in ALL if p not in SHORT_HEADERS], ids=lambda p: p.stem)
def test_a_recipe_says_what_it_costs_what_to_expect_and_where_to_read_it(path: Path) -> None:
    header, _, _ = path.read_text("utf-8").partition("\n\n")
    assert "\n# It costs  " in header and "\n# Expect  " in header
    assert f"\n# Results      exp/{path.stem}/RESULTS.md" in header


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_recipe_expects_what_was_measured(path: Path) -> None:
    """Of no results nothing may be expected, and of other results the header tells others."""
    header, _, _ = path.read_text("utf-8").partition("\n\n")
    told = re.search(r"^# Expect +(greedy )?(WER|CER) .*?([\d., and]+) % at ", header, re.MULTILINE)
    results = RECIPES / "results" / path.stem
    if told is None:
        assert "measured" in header or "see the README" in header or path.stem == "demo"
        return
    found = comparison.read(str(results), RECIPES.parent / "exp")
    rows = [r for r in found.rows if (r["decoder"] == "greedy") == bool(told[1])]
    measured = tables.compare([Results(rows, found.counts)])
    expected = re.findall(r"\d+\.\d", told[3])
    assert expected == [tables.percent(row[told[2].lower()]) for row in measured]


@pytest.mark.parametrize("path", SIBLINGS, ids=lambda p: p.stem)
def test_systems_of_a_family_differ_in_what_they_hear_alone(path: Path) -> None:
    base, other = load(RECIPES / f"{path.stem.partition('_')[0]}.yaml"), load(path)
    for section in ("corpus", "budgets", "text", "lm", "finetune", "decode", "score", "seed"):
        assert getattr(other, section) == getattr(base, section), section
    for section in ("bert", "discretize", "quantizer"):
        if section != "quantizer" or other.quantizer.type != "none":
            assert getattr(other, section) == getattr(base, section), section
    assert other.frontend_name != base.frontend_name


@pytest.mark.parametrize("path", SIBLINGS, ids=lambda p: p.stem)
def test_systems_of_a_family_share_their_text_and_speech(path: Path, tmp_path: Path) -> None:
    base = RECIPES / f"{path.stem.partition('_')[0]}.yaml"
    first = {s.artifact_name: s.label for s in steps(real(base), tmp_path) if s.number in (0, 4)}
    other = {s.artifact_name for s in steps(real(path), tmp_path) if s.number in (0, 4)}
    assert other <= first.keys()
    heard_by_the_first_alone = {first[name].split("/")[0] for name in first.keys() - other}
    assert heard_by_the_first_alone <= {"unlabelled"}


def test_the_digits_have_a_fold_for_each_speaker_which_share_pretraining(tmp_path: Path) -> None:
    speakers = ["george", "jackson", "lucas", "nicolas", "yweweler"]
    for path in ALL:
        if not path.stem.startswith("digits"):
            continue
        made = steps(real(path, "folds=all"), tmp_path)
        assert sorted({s.fold for s in made if s.fold}) == speakers
        pretrained = [s for s in made if s.number in (1, 3) and s.label != "dev"]
        assert {s.fold for s in pretrained} <= {None}, path.name
        assert len(pretrained) <= 2
        models = [s for s in made if s.number == 5]
        assert len(models) == len(speakers) * len(load(path).budgets)


def test_a_fold_of_the_real_digits_is_the_recipe_with_that_speaker(tmp_path: Path) -> None:
    path = RECIPES / "digits.yaml"
    lone = {s.artifact_name for s in steps(real(path, "folds=null"), tmp_path)}  # lucas
    fold = {s.artifact_name for s in steps(real(path, "folds=[lucas]"), tmp_path)}
    assert lone == fold


def test_read_english_is_cut_by_its_lists(tmp_path: Path) -> None:
    made = steps(real(RECIPES / "speechocean.yaml"), tmp_path)
    quantizer = next(s for s in made if s.number == 1)
    assert list(quantizer.inputs) == ["train", "unlabelled/0"]
    sizes = {s.label: len(s.audio_files) for s in made if s.audio_files}
    assert sizes == {"train": 1340, "dev": 300, "test/test": 300, "unlabelled/0": 251}


LIBRI = {
    "librispeech": ["log_mel", "units", "wav2vec"],
    "librispeech_100": ["log_mel", "units", "kmeans_mfcc"],
}


@pytest.fixture(scope="module")
def libri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_libri.make(tmp_path_factory.mktemp("libri"))


def libri_steps(libri: Path, tmp_path: Path, name: str, *changes: str) -> list[Step]:
    told = [f"corpus.root={libri}", "lm.text=train", *changes]
    return steps(load(RECIPES / f"{name}.yaml", told), tmp_path)


def test_every_recipe_of_librispeech_is_known_here() -> None:
    named = {*LIBRI, "librispeech_published"}
    named |= {f"{base}_{own}" for base, others in LIBRI.items() for own in others}
    assert {p.stem for p in ALL if p.stem.startswith("libri")} == named


@pytest.mark.parametrize("base", LIBRI)
def test_baselines_on_librispeech_differ_in_what_they_hear_and_in_their_learning_rate(
    base: str,
) -> None:
    """wav2vec 2.0's rates are made for pretrained weights: nothing learns from scratch at 5e-5."""
    ours = load(RECIPES / f"{base}.yaml")
    for name in LIBRI[base]:
        other = load(RECIPES / f"{base}_{name}.yaml")
        told, own = other.model_dump(), ours.model_dump()
        differing = {key for key in told if told[key] != own[key]}
        assert differing <= {"name", "frontend", "finetune", "quantizer"}, name
        assert other.frontend_name != ours.frontend_name
        assert ("quantizer" in differing) == (name == "wav2vec")
        for budget in ours.budgets:
            given = other.finetune.for_budget(budget).model_dump()
            mine = ours.finetune.for_budget(budget).model_dump()
            assert given["learning_rate"] > mine["learning_rate"]
            assert given == mine | {"learning_rate": given["learning_rate"]}


@pytest.mark.parametrize("base", LIBRI)
def test_recipes_of_librispeech_train_six_folds_and_share_the_rest(
    base: str, libri: Path, tmp_path: Path
) -> None:
    first = libri_steps(libri, tmp_path, base)
    models = [s.place for s in first if s.number == 5]
    assert models == ["1h", "10h", "100h", *(f"fold{n}/10min" for n in range(6))]
    assert [s.title for s in first if s.number in (1, 3)] == ["1 quantizer", "3 bert", "3 bert dev"]
    tests = {s.label for s in first if s.label.startswith("test/") and s.number == 0}
    assert tests == {"test/test-clean", "test/test-other"}
    names = {s.artifact_name for s in first if s.number in (0, 4)}
    for name in LIBRI[base]:
        made = libri_steps(libri, tmp_path, f"{base}_{name}")
        assert {s.artifact_name for s in made if s.number in (0, 4)} == names


def test_the_published_models_are_asked_for_by_their_place(libri: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"quantizer\.from: models/vq holds no model"):
        libri_steps(libri, tmp_path, "librispeech_published")
    changes = ("quantizer.from=null", "bert.from=null")
    made = libri_steps(libri, tmp_path, "librispeech_published", *changes)
    assert len([s for s in made if s.number == 5]) == 9
