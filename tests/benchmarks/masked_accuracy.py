"""How well a stored BERT guesses masked units of speech that it did not learn from.

    python -m tests.benchmarks.masked_accuracy exp/digits [exp/OTHER ...] [--out FILE]

Takes the BERT that stage 3 left in finished runs, finds the utterances that were kept back from it
and the masks that they had, and lets it guess again: at frames that show [MASK], at those that
show their own unit, at those that show a random one, and over all of them, which is what
pretraining.json told when it knew no other figures. The same under `dev`, of the dev sets of all
the run's folds together, with masks drawn by the same rule: folds share one BERT, so stage 3
knows no dev set. The two trivial guesses are of the same frames, and know the frequencies of what
the BERT learnt from. Prints JSON. Nothing is written in the run's folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
DEV_SEED = 1  # of dev's masks: BERTs of all seeds guess at the same frames


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The JSON goes there too.")
def main(runs: tuple[Path, ...], out: Path | None) -> None:
    """See the module."""
    text = json.dumps({run.name: measure(run / "3-bert", dev_sets(run)) for run in runs}, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", "utf-8")


def dev_sets(run: Path) -> list[Path]:
    """The units of each fold's dev, in a folder exp/<recipe>; a test set may be called dev too."""
    links = sorted(run.glob("2-discretize-*dev"))
    return [p for p in links if p.name.endswith("-dev") and not p.name.endswith("test-dev")]


def measure(folder: Path, dev: Sequence[Path] = ()) -> dict[str, Any]:
    """Figures by fate of the frame, beside those of pretraining.json; the same of dev.

    Args:
        folder: the artifact of stage 3, or a link to it. What it was made of lies beside it.
        dev: units of speech that the BERT did not learn from, or links to them.
    """
    from stages.units.kept_back import KEPT_BACK

    folder = folder.resolve()
    told = json.loads((folder / "pretraining.json").read_text("utf-8"))
    stored = Stored.read(folder)
    what = stored.split.what
    found = stored.by_fate(stored.tokens, stored.split.chosen_on, stored.seed)
    figures = {k: v for k, v in told.items() if k.startswith(f"{what}_") and k != COUNT}
    measured = {
        "bert": folder.name,
        "speech": "kept back" if what == KEPT_BACK else "trained on",
        "utterances": len(stored.split.chosen_on),
        "figures": found,
        "pretraining.json": figures,
        "furthest_from_pretraining.json": furthest(figures, found, what),
    }
    return measured | ({"dev": on_dev(stored, dev)} if dev else {})


def on_dev(stored: Stored, dev: Sequence[Path]) -> dict[str, Any]:
    """The figures over all utterances of these dev sets; one that is in several counts once.

    `by_set` has those at frames that show [MASK] for each set: few speakers differ much.
    """
    from stages.units.corpus import UnitCorpus
    from stages.units.masked_units import SHOWS_MASK

    units, names = {}, {}
    for folder in dev:
        stored.refuse_other_quantizer(folder)
        corpus = UnitCorpus(folder)
        units |= {f"dev/{name}": corpus[name] for name in corpus}
        names[folder.name] = sorted(f"dev/{name}" for name in corpus)
    outside = sum(int((~stored.vocabulary.known(u)).sum()) for u in units.values())
    tokens = {name: stored.vocabulary.tokens(u) for name, u in units.items()}
    every = {**stored.tokens, **tokens}
    return {
        "sets": len(dev),
        "utterances": len(tokens),
        "frames": sum(map(len, tokens.values())),
        "frames_outside_of_the_vocabulary": outside,
        "figures": stored.by_fate(every, sorted(tokens), DEV_SEED),
        "by_set": {
            one: stored.by_fate(every, of_one, DEV_SEED).get(SHOWS_MASK)
            for one, of_one in names.items()
        },
    }


@dataclass(frozen=True)
class Stored:
    """A BERT of stage 3 and what it was made of.

    Attributes:
        folder: its artifact.
        tokens: of the pretraining's utterances (F,).
        split: which of them it learnt from.
        quantizer: the signature of stage 1's artifact that its units are of.
    """

    folder: Path
    settings: BertSettings
    seed: int
    vocabulary: Vocabulary
    tokens: Mapping[str, NDArray[np.int64]]
    split: Parts
    quantizer: str

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
            _quantizer(inputs["vocabulary"]),
        )

    def refuse_other_quantizer(self, units: Path) -> None:
        """Units of another codebook are as many, and mean nothing to the BERT."""
        if _quantizer(units) != self.quantizer:
            raise click.ClickException(
                f"{units} holds units of another quantizer than the BERT's, {self.quantizer}."
            )

    def by_fate(
        self, tokens: Mapping[str, NDArray[np.int64]], names: Sequence[str], seed: int
    ) -> dict[str, dict[str, float]]:
        """What it guesses in these utterances, by fate of the frame.

        Args:
            tokens: of these utterances, and of those that it learnt from.
            seed: of the masks.
        """
        from transformers import BertForMaskedLM

        from stages.units.attention import packed
        from stages.units.guesses import Validation
        from stages.units.masked_units import MaskedUnits

        longest = max(len(tokens[name]) for name in names)
        if longest > self.settings.positions:
            raise click.ClickException(
                f"An utterance has {longest} frames, the BERT {self.settings.positions} positions."
            )
        validation = Validation(
            MaskedUnits(tokens, self.settings, len(self.vocabulary), seed, "cpu"),
            names,
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


def _quantizer(units: Path) -> str:
    return str(_stamp(units)["input_signatures"]["quantizer"])


def furthest(figures: dict[str, float], found: dict[str, dict[str, float]], what: str) -> float:
    """The largest distance of a figure measured again from the one that the file tells."""
    again = {f"{what}_{name}": value for name, value in found["all"].items()}
    again |= {f"{what}_mask_{name}": value for name, value in found.get("mask", {}).items()}
    return max(abs(again[name] - value) for name, value in figures.items())


if __name__ == "__main__":
    main()
