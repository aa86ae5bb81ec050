"""Watches the codebook while it is trained: recognises a collapse, and does what the recipe says.

A group counts as collapsed when its perplexity over a window of the history stays below
`health.collapsed_below` for `PATIENCE` windows in a row; the first windows do not count, as the
learning rate warms up. The codes are the likeliest ones, without Gumbel noise, which would hide a
collapse. All that the doctor knows is in `state`, which travels inside of the checkpoints, and a
run without a collapse is not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from pipeline.errors import RunError
from pipeline.recipe import QuantizerSettings
from stages.quantizer.gumbel import GumbelCodebook
from stages.quantizer.health import REMEDY, collapsed_below
from stages.quantizer.history import WINDOW_UPDATES, Record, by_group, in_words
from stages.quantizer.restart import restart

PATIENCE = 3  # windows: 75 updates
GRACE_UPDATES = 50
MOST_REPAIRS = 4
REPAIR_WEIGHT = 1.0  # of the diversity loss: what a repair raises it to at least
SEED_STRIDE = 1_000_003  # update u draws from seed x this + u: keeps two seeds apart


@dataclass
class State:
    """What a resumed run needs to know.

    Attributes:
        sick: windows in a row that each group was below the threshold.
        collapses, repairs: what was found and done, with update numbers.
    """

    sick: list[int]
    diversity_weight: float
    reheated_at: int | None = None
    collapses: list[dict[str, Any]] = field(default_factory=list)
    repairs: list[dict[str, Any]] = field(default_factory=list)


class Doctor:
    """Sees each window of the history; see the module.

    Args:
        say: for the lines that a person should read.
    """

    def __init__(self, settings: QuantizerSettings, seed: int, say: Callable[[str], None]) -> None:
        self.settings, self.seed, self.say = settings, seed, say
        self.state = State([0] * settings.groups, settings.diversity_weight)

    def prepare(self, model: Any) -> None:
        """Before each update: the model computes with what repairs have set."""
        if isinstance(model.vector_quantizer, GumbelCodebook):
            model.diversity_weight = self.state.diversity_weight
            model.vector_quantizer.reheated_at = self.state.reheated_at

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: numbers, lists and dicts."""
        return asdict(self.state)

    def restore(self, state: dict[str, Any]) -> None:
        self.state = State(**state)

    def see(self, record: Record, model: Any) -> None:
        """After the update that completes a window.

        Raises:
            RunError: a collapse, where the recipe says stop or all repairs are used up.
        """
        groups = self._collapsed(record)
        if not groups:
            return
        update, figures = int(record["update"]), in_words(record)
        self.state.collapses.append({"update": update, "groups": groups})
        if self.settings.on_collapse == "warn":
            self.say(f"WARNING: the codebook has COLLAPSED: {figures}")
            return
        if self.settings.on_collapse == "stop" or len(self.state.repairs) == MOST_REPAIRS:
            raise self._error(update, figures)
        low = 2 * collapsed_below(self.settings.codes)  # a group on its way is treated with it
        every = by_group(record, "perplexity")
        ill = [group for group, perplexity in enumerate(every) if perplexity < low]
        self._repair(update, ill, figures, model)

    def _collapsed(self, record: Record) -> list[int]:
        """The groups below the threshold, once one of them has been there for long enough."""
        if record["update"] - WINDOW_UPDATES < max(GRACE_UPDATES, self.settings.warmup_updates):
            return []
        floor, sick = collapsed_below(self.settings.codes), self.state.sick
        for group, perplexity in enumerate(by_group(record, "perplexity")):
            sick[group] = sick[group] + 1 if perplexity < floor else 0
        return [group for group, windows in enumerate(sick) if windows and PATIENCE in sick]

    def _error(self, update: int, figures: str) -> RunError:
        repairs = len(self.state.repairs)
        return RunError(
            f"The codebook has collapsed at update {update}"
            + (f", after {repairs} repairs." if repairs else "."),
            constraint=f"in each group a perplexity of {collapsed_below(self.settings.codes):.2g} "
            f"or more, at least once in {PATIENCE * WINDOW_UPDATES} updates",
            found=figures,
            remedy=f"{REMEDY}; the last checkpoint is kept",
        )

    def _repair(self, update: int, groups: list[int], figures: str, model: Any) -> None:
        """Codes restarted; for Gumbel also more diversity loss and the temperature put up."""
        generator = torch.Generator().manual_seed(self.seed * SEED_STRIDE + update)
        restarted = restart(model.vector_quantizer, groups, generator)
        done: dict[str, Any] = {"update": update, "groups": groups, "restarted_codes": restarted}
        text = f"{restarted} codes restarted"
        if isinstance(model.vector_quantizer, GumbelCodebook):
            weight = max(2 * self.state.diversity_weight, REPAIR_WEIGHT)
            self.state.diversity_weight, self.state.reheated_at = weight, update
            done["diversity_weight"] = weight
            done["temperature"] = model.vector_quantizer.temperatures[0]
            text += f", diversity weight {weight:g}, temperature up to {done['temperature']:g}"
        self.state.sick = [0] * len(self.state.sick)
        self.state.repairs.append(done)
        number = len(self.state.repairs)
        self.say(f"codebook collapsed at update {update}, repair {number}: {text} ({figures})")
