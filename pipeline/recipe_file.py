"""From YAML files and `--set` options to a checked Recipe; all mistakes are told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline import layers, plugins, yaml_file
from pipeline.errors import UserError, nearest, shown
from pipeline.finetune_settings import never_thawed
from pipeline.recipe import CORPORA, DECODERS, FRONT_ENDS, Recipe, Section
from pipeline.recipe_names import no_such_base, no_such_recipe

MOST_TOLD = 20  # mistakes


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, over its `base` recipes, with `section.key=value` changes.

    Raises:
        UserError: a file that is not there or not YAML, or any number of wrong keys and values.
    """
    values = _read_with_base(path, ())
    parsed = [_parsed(change) for change in changes]
    layer = layers.sections_of(parsed)
    values = layers.without_overruled(values, layer)
    _leave_behind(values, layer)
    for change, (parts, value) in zip(changes, parsed, strict=True):
        _apply(values, change, parts, value)
    return _check(layers.settled(values), path)


def _read_with_base(
    path: Path, seen: tuple[Path, ...], asked_by: tuple[Path, str] | None = None
) -> dict[str, Any]:
    """The values of a recipe; `asked_by` is the recipe that has it as base, and its words."""
    if path.resolve() in seen:
        raise UserError(f"{path}: `base` leads back to itself.")
    try:
        values = yaml_file.read(path)
    except FileNotFoundError as error:
        raise (no_such_base(*asked_by) if asked_by else no_such_recipe(path)) from error
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read as YAML: {reason}") from error
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise UserError(f"{path} is not a recipe: it must be a mapping of sections.")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or "\0" in base:
        raise UserError(
            f"{path}: base must be the name of a recipe beside it, found {shown(base)}."
        )
    below = _read_with_base(path.parent / base, (*seen, path.resolve()), (path, base))
    return _over(layers.without_overruled(below, values), values)


def _over(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` laid over `base`, mapping by mapping; another corpus or front-end replaces all."""
    merged = dict(base)
    for key, value in values.items():
        merged[key] = _laid_over(_section(key, merged.get(key)), value)
    return merged


def _leave_behind(values: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Empty what a layer of keys over `values` makes another of, as where recipes lie over one
    another: its old keys are none of the new one's. Kinds of corpus share most of theirs: those
    stay."""
    for key, value in layer.items():
        if key == "corpus":
            continue
        old = _section(key, values.get(key))
        if _names_another(old, value):
            values[key] = {}
        elif isinstance(old, dict) and isinstance(value, dict):
            values[key] = dict(old)
            _leave_behind(values[key], value)


def _section(key: str, value: Any) -> Any:
    """`frontend: log_mel` stands for a section of its name alone, and replaces one whole."""
    return {"name": value} if key == "frontend" and isinstance(value, str) else value


def _laid_over(old: Any, value: Any) -> Any:
    if isinstance(old, dict) and isinstance(value, dict) and not _names_another(old, value):
        return _over(old, value)
    return value


def _names_another(old: Any, value: Any) -> bool:
    """Whether a section over another is of another corpus or front-end, which has other keys."""
    if not (isinstance(old, dict) and isinstance(value, dict)):
        return False
    return any(t in value and value[t] != old.get(t) for t in ("kind", "name"))


def _parsed(change: str) -> tuple[list[str], Any]:
    """The keys and the value of one `section.key=value`; the value is read as YAML."""
    key, equals, text = change.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise UserError(f"--set {change}: write section.key=value, such as finetune.updates=500")
    try:
        return parts, yaml_file.parse(text)
    except ValueError as error:
        raise UserError(f"--set {change}: the value is not YAML.") from error


def _apply(values: dict[str, Any], change: str, parts: Sequence[str], value: Any) -> None:
    """Carry out one change."""
    here = values
    for part in parts[:-1]:
        there = _section(part, here.get(part)) if here is values else here.get(part)
        if there is not None and not isinstance(there, dict):
            raise UserError(f"--set {change}: {part} holds a value, not a section.")
        here[part] = there = dict(there or {})
        here = there
    here[parts[-1]] = value


def _check(values: dict[str, Any], path: Path) -> Recipe:
    values.setdefault("name", path.stem)
    values["frontend"] = _section("frontend", values.get("frontend"))
    mistakes: list[str] = []
    for section, key, package, what in (
        ("corpus", "kind", CORPORA, "kind of corpus"),
        ("frontend", "name", FRONT_ENDS, "front-end"),
    ):
        found = _plugin_section(values.get(section), key, package, what, section, mistakes)
        # Its own mistakes are told already: anything valid keeps the rest checkable.
        values[section] = found if found is not None else _placeholder(section)
    mistakes.extend(_unknown_decoders(values.get("decode")))
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        mistakes.extend(_told(error, Recipe, ""))
    if recipe is not None and not mistakes:
        mistakes.extend(_contradictions(recipe))
    if mistakes or recipe is None:
        more = [f"and {n} more mistakes"] if (n := len(mistakes) - MOST_TOLD) > 0 else []
        told = [f"{path}: {mistake}" for mistake in mistakes[:MOST_TOLD] + more]
        raise UserError("\n".join(told))
    return recipe


def _unknown_decoders(section: Any) -> list[str]:
    """Decoders are files too, and only stage 6 would miss one; other mistakes are pydantic's."""
    named = section.get("decoders") if isinstance(section, dict) else None
    known = plugins.names(DECODERS)
    return [
        f"decode.decoders: Unknown decoder {shown(name)}. {nearest(name, known)}"
        for name in (named if isinstance(named, list) else ())
        if isinstance(name, str) and name not in known
    ]


def _contradictions(recipe: Recipe) -> list[str]:
    """Why the front-end cannot do with the recipe's quantizer, or with its fine-tuning."""
    module = plugins.find(FRONT_ENDS, recipe.frontend_name, "front-end")
    refusal = getattr(module, "refusal", None)
    told = refusal(recipe.frontend, recipe.quantizer) if refusal else None
    rests = "bert" in module.STAGES and not getattr(recipe.frontend, "freeze", False)
    frozen = never_thawed(recipe.finetune, recipe.budgets) if rests else []
    return [*([told] if told else []), *frozen]


def _placeholder(section: str) -> Section:
    from pipeline.recipe import CorpusSettings

    return CorpusSettings(kind="none") if section == "corpus" else Section()


def _plugin_section(
    value: Any, key: str, package: str, what: str, section: str, mistakes: list[str]
) -> Section | None:
    """The section as the Settings of the file that it names; mistakes are added to the list."""
    if not isinstance(value, dict) or not isinstance(value.get(key), str):
        known = ", ".join(plugins.names(package))
        mistakes.append(f"{section}.{key} must name a {what}; there are: {known}")
        return None
    try:
        settings: type[Section] = plugins.find(package, value[key], what).Settings
        return settings.model_validate(value)
    except UserError as error:
        mistakes.append(f"{section}.{key}: {error.what[:100]} {error.remedy}")
    except ValidationError as error:
        mistakes.extend(_told(error, settings, f"{section}."))
    return None


def _told(error: ValidationError, model: type[BaseModel], prefix: str) -> list[str]:
    """One line for each mistake that pydantic found."""
    lines, listed = [], set()
    for one in error.errors(include_url=False)[: MOST_TOLD + 1]:
        unknown = one["type"] == "extra_forbidden"
        # Of several types pydantic adds which one it speaks of, such as `list[int]`: no key.
        keys = [str(p)[:60] for p in one["loc"] if unknown or "[" not in str(p)]
        where = prefix + ".".join(keys)
        if unknown:
            section = one["loc"][:-1]
            told = nearest(str(one["loc"][-1]), _keys_at(model, section))
            if section in listed:  # all its keys stand in a line above
                told = told.partition("?")[0] + "?" if "?" in told else "see above"
            listed.add(section)
            lines.append(f"unknown key {where}; {told}")
        else:
            reason = one["msg"].removeprefix("Value error, ")[:300]
            told = one.get("input")
            # Where a key is missing the input is all that stands beside it; of a section as a
            # whole its validator says what matters.
            whole = one["type"] == "value_error" and isinstance(told, dict)
            found = "" if whole or one["type"] == "missing" else f"; found {shown(told)}"
            lines.append(f"{where}: {reason}{found}")
    return lines


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys allowed in the section at `location`."""
    for part in location:
        field = model.model_fields.get(str(part))
        inner = [field.annotation, *get_args(field.annotation)] if field else []
        model = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
