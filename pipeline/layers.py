"""What a later layer of a recipe takes back of an earlier one, beside the keys that it sets anew.

The layers are the recipe's base, the recipe, and all `--set` options together.

- A preset stands for several keys at once. Where a later layer names one, these keys of earlier
  layers give way, lest a model be neither the preset's nor the earlier layer's. A key that
  stands beside the preset, or in a layer over it, wins.
- Other budgets need none of the settings that an earlier layer has for those that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline import bert_settings, finetune_settings

# Section to the keys that a preset stands for.
PRESET_KEYS: dict[str, frozenset[str]] = {
    "bert": bert_settings.PRESET_KEYS,
    "finetune": finetune_settings.PRESET_KEYS,
}

Values = Mapping[str, Any]


def sections_of(changes: Iterable[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """The layer of `--set` options, from their keys and values: as far as it is looked at here."""
    layer: dict[str, Any] = {}
    for parts, value in changes:
        if len(parts) == 1:
            layer[parts[0]] = value
        elif len(parts) == 2:
            section = layer.get(parts[0])
            layer[parts[0]] = {**(section if isinstance(section, dict) else {}), parts[1]: value}
    return layer


def without_overruled(earlier: Values, later: Values) -> dict[str, Any]:
    """The values of `earlier` without what `later` takes back."""
    kept = dict(earlier)
    for section, keys in PRESET_KEYS.items():
        over, under = later.get(section), kept.get(section)
        if isinstance(over, dict) and over.get("preset") is not None and isinstance(under, dict):
            kept[section] = _without(under, keys)
    budgets, finetune = later.get("budgets"), kept.get("finetune")
    if isinstance(budgets, list) and isinstance(finetune, dict):
        by_budget = finetune.get("by_budget")
        if isinstance(by_budget, dict):
            ours = {name: own for name, own in by_budget.items() if name in budgets}
            kept["finetune"] = {**finetune, "by_budget": ours}
    return kept


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
