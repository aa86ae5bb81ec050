"""The one model of a recipe that is exported, with what it was made of; or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, nearest
from pipeline.folders import exp_option
from pipeline.freshness import StepState
from pipeline.recipe import Recipe
from pipeline.runner import Run
from pipeline.stage import Step


@dataclass(frozen=True)
class Chosen:
    """A fine-tuned model, the steps that tuned its decoder and scored it, and the recipe."""

    recipe: Recipe
    model: Step
    tuned: Step
    scores: Sequence[Step]

    @property
    def lm(self) -> Step:
        return self.tuned.inputs["lm"]

    @property
    def units(self) -> Step | None:
        """Those of dev, where the model reads units."""
        return self.tuned.inputs["log_probs"].inputs.get("units")

    @property
    def vocabulary(self) -> Step | None:
        return self.model.inputs.get("vocabulary")

    @property
    def quantizer(self) -> Step | None:
        """Stage 1's model, where speech goes through it."""
        units = self.units
        return units.inputs["quantizer"] if units else self.model.inputs.get("quantizer")

    @cached_property
    def copied(self) -> list[Step]:
        """Those whose artifacts go into the folder."""
        steps = [self.model, self.tuned, self.lm, self.quantizer, self.vocabulary]
        return [step for step in steps if step is not None]

    @cached_property
    def told(self) -> list[Step]:
        """Those whose facts stand in the card."""
        steps = [*self.scores, self.model.inputs["budget"], self.tuned.inputs["manifest"]]
        steps += [score.inputs["hypotheses"].inputs["manifest"] for score in self.scores]
        steps += [*self.pretraining, self.tuned.inputs["text"]]
        if self.units is not None:
            steps.append(self.units)
        return steps

    @property
    def pretraining(self) -> list[Step]:
        """The splits whose speech stage 1 heard."""
        return list(self.quantizer.inputs.values()) if self.quantizer else []


def choose(
    recipe: Recipe, steps: Sequence[Step], budget: str | None, fold: str | None, seed: int | None
) -> Chosen:
    """The model of that budget, fold and seed; each may be left out where there is but one.

    Raises:
        UserError: there is none such, or several.
    """
    models = every = [step for step in steps if step.stage == "finetune"]
    for option, name, wanted in (
        ("--budget", "budget", budget),
        ("--fold", "fold", fold),
        ("--seed", "seed", seed),
    ):
        if name == "fold" and fold is not None:
            _refuse_shared(models, every, fold)
        models = _with(models, option, name, wanted)
    (model,) = models
    decoded = [s for s in steps if s.stage == "decode" and "log_probs" in s.inputs]
    reading = [s for s in decoded if s.inputs["log_probs"].inputs["model"] is model]
    (tuned,) = [s for s in reading if "tuned" not in s.inputs]
    scores = [s for s in steps if s.stage == "score" and s.inputs["hypotheses"] in reading]
    return Chosen(recipe, model, tuned, scores)


def _refuse_shared(models: Sequence[Step], every: Sequence[Step], fold: str) -> None:
    """Raise UserError if the recipe has folds, but not for the models that are left."""
    if any(step.fold for step in every) and not any(step.fold for step in models):
        raise UserError(
            f"--fold {fold}: {models[0].budget} is the same for all folds.",
            remedy="leave --fold out",
        )


def _with(models: list[Step], option: str, name: str, wanted: Any) -> list[Step]:
    there = list(dict.fromkeys(getattr(step, name) for step in models))
    if wanted is None and len(there) > 1:
        listed = ", ".join(map(str, there))
        raise UserError(f"The recipe has more than one {name}.", remedy=f"{option}, of {listed}")
    if wanted is not None and wanted not in there:
        if there == [None]:
            raise UserError(f"{option} {wanted}: the recipe has no {name}s.")
        known = nearest(str(wanted), map(str, there))
        raise UserError(f"{option} {wanted}: the recipe has no such {name}; {known}")
    return [step for step in models if wanted is None or getattr(step, name) == wanted]


def refuse_unfinished(chosen: Chosen, job: Run) -> None:
    """Raise UserError, with the command that helps, unless all that is exported is done."""
    needed = {id(step) for step in (*chosen.copied, *chosen.told)}
    left = [s for s in job.examine() if id(s.step) in needed and s.state != "done"]
    if left:
        first, more = left[0], f" and {len(left) - 1} more steps" if len(left) > 1 else ""
        why = f" ({'; '.join(first.reasons)})" if first.reasons else ""
        raise UserError(
            f"{first.step.title}{more} {'are' if more else 'is'} not done: "
            f"{first.state}{why}. Only finished work can be exported.",
            remedy=_command(first, job),
        )


def _command(state: StepState, job: Run) -> str:
    """What makes the step: a run, which leaves out what is missing but nobody reads any more."""
    if any(step is state.step for step in replace(job, first=None, last=7).pending()):
        return job.command
    number = state.step.number
    return f"{job.command} --stage {number} --stop-stage {number}"


def command_of(recipe_path: Path, changes: Sequence[str], exp: Path, command: str = "run") -> str:
    """`vqasr run`, or another command, for this recipe, as it can be typed.

    Values may hold spaces and braces.
    """
    import shlex

    words = ["vqasr", command, str(recipe_path)]
    for change in changes:
        words += ["--set", change]
    return shlex.join(words) + exp_option(exp)
