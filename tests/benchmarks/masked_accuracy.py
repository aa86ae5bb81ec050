"""How well a stored BERT guesses masked units of speech kept back, by what it was shown there.

    python -m tests.benchmarks.masked_accuracy exp/digits [exp/OTHER ...] [--out FILE]

Takes the BERT that stage 3 left in finished runs, finds the utterances that were kept back from it
and the masks that they had, and lets it guess again: at frames that show [MASK], at those that
show their own unit, at those that show a random one, and over all of them, which is what
pretraining.json told when it knew no other figures. The two trivial guesses are of the same frames.
Prints JSON. Nothing is written in the run's folders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

COUNT = "kept_back_utterances"  # no figure, though its name starts as those do


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The JSON goes there too.")
def main(runs: tuple[Path, ...], out: Path | None) -> None:
    """See the module."""
    text = json.dumps({run.name: measure(run / "3-bert") for run in runs}, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", "utf-8")


def measure(folder: Path) -> dict[str, Any]:
    """Figures by fate of the frame, beside those of pretraining.json.

    Args:
        folder: the artifact of stage 3, or a link to it. What it was made of lies beside it.
    """
    from transformers import BertForMaskedLM

    from pipeline.recipe import BertSettings
    from stages.units.attention import packed
    from stages.units.guesses import Validation
    from stages.units.kept_back import KEPT_BACK, parts, read_tokens
    from stages.units.masked_units import MaskedUnits
    from stages.units.vocabulary import Vocabulary

    folder = folder.resolve()
    stamp = json.loads((folder / "stamp.json").read_text("utf-8"))
    if "seed" not in stamp["settings"]:
        raise click.ClickException(f"{folder} was not trained here: it is an imported BERT.")
    told = json.loads((folder / "pretraining.json").read_text("utf-8"))
    settings = {k: v for k, v in stamp["settings"].items() if k != "seed"}
    checked, seed = BertSettings(**settings), stamp["settings"]["seed"]
    inputs = {
        role: folder.parent / f"discretize-{signature}"
        for role, signature in stamp["input_signatures"].items()
    }
    vocabulary = Vocabulary.load(inputs["vocabulary"])
    tokens = read_tokens(inputs, vocabulary)
    split = parts(tokens)
    validation = Validation(
        MaskedUnits(tokens, checked, len(vocabulary), seed, "cpu"),
        split.chosen_on,
        split.learnt_from,
        checked.batch_frames,
        len(vocabulary),
        checked.precision,
        "cpu",
        split.what,
    )
    model = BertForMaskedLM.from_pretrained(folder).eval()
    with packed(model):
        found = validation.by_fate(model)
    for each in found.values():
        each["frames"] = int(each["frames"])
    figures = {k: v for k, v in told.items() if k.startswith(f"{split.what}_") and k != COUNT}
    return {
        "bert": folder.name,
        "speech": "kept back" if split.what == KEPT_BACK else "trained on",
        "utterances": len(split.chosen_on),
        "figures": found,
        "pretraining.json": figures,
        "furthest_from_pretraining.json": furthest(figures, found, split.what),
    }


def furthest(figures: dict[str, float], found: dict[str, dict[str, float]], what: str) -> float:
    """The largest distance of a figure measured again from the one that the file tells."""
    again = {f"{what}_{name}": value for name, value in found["all"].items()}
    again |= {f"{what}_mask_{name}": value for name, value in found.get("mask", {}).items()}
    return max(abs(again[name] - value) for name, value in figures.items())


if __name__ == "__main__":
    main()
