"""What a model was trained with, seeds apart: equal for runs whose mean says something."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pipeline.recipe import Recipe
from pipeline.stage import Step


def settings_by_stage(recipe: Recipe, model: Step) -> dict[str, str]:
    """Of each stage behind a model, in their order, 8 hex digits of its settings without seeds.

    The version of the stage is among them: other code makes another model of the same settings.

    Two runs that differ in seeds, names, folds or in what a front-end does not read have the same
    ones, and so do all seeds and folds of one run. Of stage 0 it is the content of the splits that
    folds share, such as the speech of pretraining: what a fold cuts is told by its name.

    Args:
        model: the step of stage 5.
    """
    told: dict[str, set[str]] = {"prepare": {_text(recipe.corpus.train_speeds)}}
    numbers = {"prepare": 0}
    for step in _behind(model):
        numbers[step.stage] = step.number
        if step.stage != "prepare":
            settings = {key: value for key, value in step.settings.items() if key != "seed"}
            told.setdefault(step.stage, set()).add(
                _text([settings, step.version, sorted(step.inputs)])
            )
        elif step.fold is None and step.budget is None:
            told["prepare"].add(_text(step.settings))
    return {
        stage: hashlib.sha256(_text(sorted(told[stage])).encode()).hexdigest()[:8]
        for stage in sorted(told, key=numbers.__getitem__)
    }


def _behind(model: Step) -> Iterator[Step]:
    """The step and all that it is made from, each once."""
    waiting, seen = [model], {id(model)}
    while waiting:
        step = waiting.pop()
        yield step
        for source in step.inputs.values():
            if id(source) not in seen:
                seen.add(id(source))
                waiting.append(source)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
