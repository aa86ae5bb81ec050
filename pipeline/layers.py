"""What a later layer of a recipe takes back of an earlier one, beside the keys that it sets anew.

The layers are the recipe's base, the recipe, and all `--set` options together.

- A preset stands for several keys at once. Where a later layer names one, these keys of earlier
  layers give way, lest a model be neither the preset's nor the earlier layer's. A key that
  stands beside the preset, or in a layer over it, wins.
- So do they where a preset is a single budget's, also those of the section, which hold on for the
  other budgets. Which these are is kept beside the values until all layers lie over one another.
- Other budgets need none of the settings that an earlier layer has for those that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline import bert_settings, finetune_settings

# Section to the keys that a preset stands for.
PRESET_KEYS: dict[str, frozenset[str]] = {
    "bert": bert_settings.PRESET_KEYS,
    "finetune": finetune_settings.PRESET_KEYS,
}

# In the section `finetune` of values that are being laid over one another: by budget, the keys of
# the section that give way to this budget's preset. No YAML file holds such a character.
GIVE_WAY = "\0give way"

Values = Mapping[str, Any]


def sections_of(changes: Iterable[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """The layer of `--set` options, from their keys and values."""
    layer: dict[str, Any] = {}
    for parts, value in changes:
        here = layer
        for part in parts[:-1]:
            there = here.get(part)
            here[part] = here = dict(there) if isinstance(there, dict) else {}
        here[parts[-1]] = value
    return layer


def without_overruled(earlier: Values, later: Values) -> dict[str, Any]:
    """The values of `earlier` without what `later` takes back."""
    kept = dict(earlier)
    for section, keys in PRESET_KEYS.items():
        over, under = later.get(section), kept.get(section)
        if isinstance(over, dict) and over.get("preset") is not None and isinstance(under, dict):
            kept[section] = _without(under, keys)
    finetune = kept.get("finetune")
    if isinstance(finetune, dict):
        over = later.get("finetune")
        kept["finetune"] = finetune = _of_budgets(finetune, over if isinstance(over, dict) else {})
    budgets = later.get("budgets")
    if isinstance(budgets, list) and isinstance(finetune, dict):
        by_budget = finetune.get("by_budget")
        if isinstance(by_budget, dict):
            ours = {name: own for name, own in by_budget.items() if name in budgets}
            kept["finetune"] = {**finetune, "by_budget": ours}
    return kept


def settled(values: Values) -> dict[str, Any]:
    """The values of all layers, each budget's preset spelt out where keys of the section give way.

    Where a preset does not say what it stands for, that is told when the recipe is checked.
    """
    finetune = values.get("finetune")
    if not isinstance(finetune, dict) or GIVE_WAY not in finetune:
        return dict(values)
    plain = {name: value for name, value in finetune.items() if name != GIVE_WAY}
    by_budget = dict(_budgets(plain))
    for budget, names in finetune[GIVE_WAY].items():
        preset = _preset_of(by_budget, budget)
        if preset is None:
            continue
        with suppress(ValueError):
            said = finetune_settings.published(preset, str(budget))
            spelt = {name: value for name, value in said.items() if name in names}
            by_budget[budget] = {**spelt, **by_budget[budget]}
    return {**values, "finetune": plain | ({"by_budget": by_budget} if by_budget else {})}


def _of_budgets(under: Values, over: Values) -> dict[str, Any]:
    """The earlier section without what gives way to presets that the later has for budgets."""
    keys, by_budget = PRESET_KEYS["finetune"], _budgets(under)
    gone = {budget: set(names) for budget, names in under.get(GIVE_WAY, {}).items()}
    for budget in _budgets(over):
        if _preset_of(_budgets(over), budget) is not None:
            own = by_budget.get(budget)
            by_budget[budget] = _without(own, keys) if isinstance(own, dict) else {}
            gone.setdefault(budget, set()).update(keys & under.keys())
    # What lies over a preset, or beside it, wins.
    left = {budget: names - over.keys() for budget, names in gone.items()}
    kept = dict(under)
    if by_budget:
        kept["by_budget"] = by_budget
    if left:
        kept[GIVE_WAY] = left
    return kept


def _budgets(section: Values) -> dict[Any, Any]:
    by_budget = section.get("by_budget")
    return dict(by_budget) if isinstance(by_budget, dict) else {}


def _preset_of(by_budget: Mapping[Any, Any], budget: Any) -> str | None:
    own = by_budget.get(budget)
    preset = own.get("preset") if isinstance(own, dict) else None
    return preset if isinstance(preset, str) else None


def _without(section: Values, keys: frozenset[str]) -> dict[str, Any]:
    """Also for single budgets, whose settings would lie over the preset's."""
    kept = {name: value for name, value in section.items() if name not in keys}
    by_budget = kept.get("by_budget")
    if isinstance(by_budget, dict):
        kept["by_budget"] = {
            name: _without(own, keys) if isinstance(own, dict) else own
            for name, own in by_budget.items()
        }
    return kept
