"""What dev decided, and by how much speech: notes of a line each on the rows of one recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stages.acoustic.figures import range_of

Row = Mapping[str, Any]
MOST_MODELS = 5  # of a budget, that are named and not counted


def tuned_weights(rows: Sequence[Row]) -> str:
    """The weights of each budget and decoder, with the models that dev found them best for."""
    which = _namer(rows)
    # (budget, decoder) -> weights -> WER on dev of each model; the same for every test set.
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in rows:
        if row["decoder"] != "greedy":
            weights = found.setdefault((row["budget"], row["decoder"]), {})
            weights.setdefault(_weights(row), {})[which(row)] = row["dev_wer"]
    told = "; ".join(
        f"{' '.join(place)} "
        + " or ".join(f"{each} ({_on_dev(models)})" for each, models in weights.items())
        for place, weights in found.items()
    )
    rest = f" Weights of the other decoders are tuned on dev: {told}." if told else ""
    return "Greedy uses no language model." + rest


def _weights(row: Row) -> str:
    beam = f", beam {row['beam']}" if row.get("beam_tuned") and row.get("beam") else ""
    return f"lm_weight {row['lm_weight']:g}, word_score {row['word_score']:g}{beam}"


def _on_dev(models: Mapping[str, float]) -> str:
    """`dev 12.1 %`, `lucas 12.1, theo 13.0 %`, or of many models `7 models, 12.1 to 15.0 %`."""
    wers = {name: f"{100 * wer:.1f}" for name, wer in models.items()}
    if len(wers) > MOST_MODELS:
        return f"{len(wers)} models, {range_of([100 * wer for wer in models.values()], '.1f')} %"
    return (
        ", ".join((f"{name}: {wer}" if name else f"dev {wer}") for name, wer in wers.items()) + " %"
    )


def _namer(rows: Sequence[Row]) -> Callable[[Row], str]:
    """What tells a row's model from those of the other `rows` of its budget: `lucas seed 2`."""
    several = {key: len({row[key] for row in rows}) > 1 for key in ("fold", "seed")}

    def name(row: Row) -> str:
        names = [str(row["fold"])] if several["fold"] and row["fold"] is not None else []
        return " ".join([*names, *([f"seed {row['seed']}"] if several["seed"] else [])])

    return name


def at_edge(rows: Sequence[Row]) -> list[str]:
    """One line on what has its best value at an end of its grid, with where; else none."""
    which = _namer(rows)
    # (setting, decoder) -> budget -> whether it is so, of each model; the same for every test set.
    found: dict[tuple[str, str], dict[str, dict[str, bool]]] = {}
    for key in ("lm_weights", "word_scores", "beam"):
        for row in rows:
            if row.get("at_edge") is not None:
                of_budget = found.setdefault((key, row["decoder"]), {})
                models = of_budget.setdefault(row["budget"], {})
                models[which(row)] = key in row["at_edge"]
    told = []
    for (key, decoder), budgets in found.items():
        where = [_which(budget, models) for budget, models in budgets.items()]
        if any(where):
            told.append(f"decode.{key} of {decoder} with {', '.join(filter(None, where))}")
    if not told:
        return []
    return [
        "The best value on dev was the first or last of its grid, so that a wider grid might give "
        f"fewer errors: {'; '.join(told)}."
    ]


def _which(budget: str, models: Mapping[str, bool]) -> str:
    """`2min`, `2min (lucas, theo)` or `2min (7 of 10)`; nothing where it is so of no model."""
    names = [name for name, is_so in models.items() if is_so]
    if len(names) in (0, len(models)):
        return budget if names else ""
    few = len(names) <= MOST_MODELS
    return f"{budget} ({', '.join(names) if few else f'{len(names)} of {len(models)}'})"


def chosen(rows: Sequence[Row]) -> list[str]:
    """That dev chose among the weights of a training, where it did."""
    seeds = len({row["seed"] for row in rows}) > 1
    told, by = [], "wer"
    for row in rows:
        if best := row.get("best"):
            by = "cer" if "dev_cer" in best else "wer"
            names = [row["fold"]] if row["fold"] is not None else []
            names += [f"seed {row['seed']}"] if seeds else []
            which = f" ({', '.join(names)})" if names else ""
            of_all = f" of {row['updates']}" if row.get("updates") else ""
            told.append(
                f"{row['budget']}{which} those after {best['update']}{of_all} updates, "
                f"the best of {best['evaluations']} evaluations ({100 * best[f'dev_{by}']:.1f} %)"
            )
    if not told:
        return []
    return [f"Dev chose the weights, by greedy {by.upper()}: {'; '.join(dict.fromkeys(told))}."]


def smaller_than_dev(rows: Sequence[Row]) -> list[str]:
    """That dev is larger than budgets, which, and in which folds: both without pauses put in."""
    found: dict[str, dict[str, bool]] = {}
    for row in rows:
        dev = row.get("dev_speech_seconds")
        dev = row["dev_seconds"] if dev is None else dev  # results of an older version
        found.setdefault(row["budget"], {})[str(row["fold"])] = row["budget_seconds"] < dev
    names = [told for budget, folds in found.items() if (told := _which(budget, folds))]
    if not names:
        return []
    return [f"Dev is larger than the budget {', '.join(names)}, and it is labelled speech too."]
