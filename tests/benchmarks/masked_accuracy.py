"""How well a stored BERT guesses masked units of speech that it did not learn from.

    python -m tests.benchmarks.masked_accuracy exp/digits [exp/OTHER ...] [--out FILE]

Takes the BERT that stage 3 left in finished runs, finds the utterances that were kept back from it
and the masks that they had, and lets it guess again: at frames that show [MASK], at those that
show their own unit, at those that show a random one, and over all of them, which is what
pretraining.json told when it knew no other figures. The two trivial guesses are of the same frames,
and know the frequencies of what the BERT learnt from. Under `dev` stands what stage 3 has told of
the dev sets of the run's folds, all together. Prints JSON. Nothing is written in the run's folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.recipe import BertSettings
    from stages.units.kept_back import Parts
    from stages.units.vocabulary import Vocabulary

COUNT = "kept_back_utterances"  # no figure, though its name starts as those do


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The JSON goes there too.")
def main(runs: tuple[Path, ...], out: Path | None) -> None:
    """See the module."""
    text = json.dumps({run.name: measure(run / "3-bert", dev_sets(run)) for run in runs}, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", "utf-8")


def dev_sets(run: Path) -> dict[str, Path]:
    """By fold, what stage 3 has told of its dev, in a folder exp/<recipe>."""
    from stages.units.on_dev import GUESSES

    links = [path for path in sorted(run.glob("3-bert-*dev")) if (path / GUESSES).is_file()]
    return {path.name.removeprefix("3-bert-"): path / GUESSES for path in links}


def measure(folder: Path, dev: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """Figures by fate of the frame, beside those of pretraining.json; the same of dev.

    Args:
        folder: the artifact of stage 3, or a link to it. What it was made of lies beside it.
        dev: what stage 3 has told of dev, by its name.
    """
    from stages.units.kept_back import KEPT_BACK

    folder = folder.resolve()
    told = json.loads((folder / "pretraining.json").read_text("utf-8"))
    stored = Stored.read(folder)
    what = stored.split.what
    found = stored.by_fate()
    figures = {k: v for k, v in told.items() if k.startswith(f"{what}_") and k != COUNT}
    measured = {
        "bert": folder.name,
        "speech": "kept back" if what == KEPT_BACK else "trained on",
        "utterances": len(stored.split.chosen_on),
        "figures": found,
        "pretraining.json": figures,
        "furthest_from_pretraining.json": furthest(figures, found, what),
    }
    return measured | ({"dev": on_dev(dev)} if dev else {})


def on_dev(sets: Mapping[str, Path]) -> dict[str, Any]:
    """What stage 3 told of these dev sets, all together.

    `by_set` has the figures at frames that show [MASK] for each set: few speakers differ much.
    """
    from stages.units.kept_back import SHOWS_MASK
    from stages.units.on_dev import pooled

    told = {name: json.loads(path.read_text("utf-8")) for name, path in sets.items()}
    figures = {name: facts.pop("figures") for name, facts in told.items()}
    counts = [key for key, value in next(iter(told.values())).items() if isinstance(value, int)]
    return {
        "sets": len(told),
        **{key: sum(facts[key] for facts in told.values()) for key in counts},
        "figures": {
            fate: {name: round(value, 5) for name, value in each.items()}
            for fate, each in pooled(figures.values()).items()
        },
        "by_set": {name: each.get(SHOWS_MASK) for name, each in figures.items()},
    }


@dataclass(frozen=True)
class Stored:
    """A BERT of stage 3 and what it was made of.

    Attributes:
        folder: its artifact.
        tokens: of the pretraining's utterances (F,).
        split: which of them it learnt from.
    """

    folder: Path
    settings: BertSettings
    seed: int
    vocabulary: Vocabulary
    tokens: Mapping[str, NDArray[np.int64]]
    split: Parts

    @classmethod
    def read(cls, folder: Path) -> Stored:
        """The BERT in `folder`, whose inputs lie beside it."""
        from pipeline.recipe import BertSettings
        from stages.units.kept_back import parts, read_tokens
        from stages.units.vocabulary import Vocabulary

        stamp = _stamp(folder)
        if "seed" not in stamp["settings"]:
            raise click.ClickException(f"{folder} was not trained here: it is an imported BERT.")
        settings = {k: v for k, v in stamp["settings"].items() if k != "seed"}
        inputs = {
            role: folder.parent / f"discretize-{signature}"
            for role, signature in stamp["input_signatures"].items()
        }
        vocabulary = Vocabulary.load(inputs["vocabulary"])
        tokens = read_tokens(inputs, vocabulary)
        return cls(
            folder,
            BertSettings(**settings),
            stamp["settings"]["seed"],
            vocabulary,
            tokens,
            parts(tokens),
        )

    def by_fate(self) -> dict[str, dict[str, float]]:
        """What it guesses in the utterances that chose its weights, by fate of the frame."""
        from transformers import BertForMaskedLM

        from stages.units.attention import packed
        from stages.units.guesses import Validation
        from stages.units.masked_units import MaskedUnits

        validation = Validation(
            MaskedUnits(self.tokens, self.settings, len(self.vocabulary), self.seed, "cpu"),
            self.split.chosen_on,
            self.split.learnt_from,
            self.settings.batch_frames,
            len(self.vocabulary),
            self.settings.precision,
            "cpu",
        )
        model = BertForMaskedLM.from_pretrained(self.folder).eval()
        with packed(model):
            found = validation.by_fate(model)
        for each in found.values():
            each["frames"] = int(each["frames"])
        return found


def _stamp(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "stamp.json").read_text("utf-8"))
    return told


def furthest(figures: dict[str, float], found: dict[str, dict[str, float]], what: str) -> float:
    """The largest distance of a figure measured again from the one that the file tells."""
    again = {f"{what}_{name}": value for name, value in found["all"].items()}
    again |= {f"{what}_mask_{name}": value for name, value in found.get("mask", {}).items()}
    return max(abs(again[name] - value) for name, value in figures.items())


if __name__ == "__main__":
    main()
