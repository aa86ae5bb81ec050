"""Whose curves the TensorBoard folder of a step holds."""

from __future__ import annotations

from pathlib import Path

from pipeline.curves import find_curves, open_curves
from pipeline.stage import Step, StepContext


def step(**settings: int) -> Step:
    def nothing(ctx: StepContext) -> None:
        pass

    return Step("finetune", 5, "anna/10min", 1, settings, {}, nothing, fold="f")


def draw(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(name)


def names(folder: Path | None) -> set[str]:
    assert folder is not None
    return {path.name for path in folder.iterdir()}


def test_a_step_that_goes_on_adds_to_its_own_curves(tmp_path: Path) -> None:
    assert find_curves(tmp_path, step()) is None
    for name in ("first", "second"):
        folder = open_curves(tmp_path, step(), resumed=name == "second")
        assert folder == tmp_path / "tensorboard" / step().link_name
        draw(folder, name)
    assert find_curves(tmp_path, step()) == folder
    assert names(folder) == {"first", "second"}


def test_a_step_that_begins_anew_leaves_no_curve_of_before(tmp_path: Path) -> None:
    draw(open_curves(tmp_path, step(), resumed=False), "before")
    folder = open_curves(tmp_path, step(), resumed=False)
    assert not folder.exists()
    assert find_curves(tmp_path, step()) is None  # killed before it drew anything


def test_curves_of_other_settings_are_not_those_of_the_step(tmp_path: Path) -> None:
    draw(open_curves(tmp_path, step(updates=5), resumed=False), "five")
    assert find_curves(tmp_path, step(updates=7)) is None
    assert find_curves(tmp_path, step(updates=5)) is not None
    # Of these settings something was begun, but elsewhere: in another recipe, say.
    folder = open_curves(tmp_path, step(updates=7), resumed=True)
    assert not folder.exists()
    assert find_curves(tmp_path, step(updates=5)) is None


def test_a_folder_that_says_nothing_of_its_step_is_not_trusted(tmp_path: Path) -> None:
    draw(tmp_path / "tensorboard" / step().link_name, "old")
    assert find_curves(tmp_path, step()) is None
