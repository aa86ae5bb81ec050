"""TensorBoard folders of a recipe: by a step's readable name, each with the signature of its step.

Another step may bear the same name once the settings have changed. The signature stands in a
file beside the folder, so that what TensorBoard shows is of trainings alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.stage import Step
from pipeline.store import write_atomically


def open_curves(links: Path, step: Step, *, resumed: bool) -> Path:
    """The folder for a step that starts to work, empty unless it goes on with what is there.

    Args:
        links: exp/<recipe>.
    """
    folder, told = _folder(links, step), _signature(links, step)
    if not (resumed and find_curves(links, step)):
        shutil.rmtree(folder, ignore_errors=True)
    told.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(told, step.signature)
    return folder


def find_curves(links: Path, step: Step) -> Path | None:
    """The folder that holds curves of this very step; None where there is none."""
    folder, told = _folder(links, step), _signature(links, step)
    try:
        is_its_own = told.read_text("utf-8") == step.signature
    except FileNotFoundError:
        return None
    return folder if is_its_own and folder.is_dir() else None


def _folder(links: Path, step: Step) -> Path:
    return links / "tensorboard" / step.link_name


def _signature(links: Path, step: Step) -> Path:
    return links / "tensorboard" / f".{step.link_name}"
