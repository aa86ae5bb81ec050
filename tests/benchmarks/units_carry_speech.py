"""Do the units carry speech? Real digits, speakers never heard before, controls beside them.

    python -m tests.benchmarks.units_carry_speech --speech DIR --out recipes/results/units

Systems: the trained quantizer; the same one untrained; k-means on MFCC with as many codes in as
many groups; plain k-means on MFCC with as many clusters as the quantizer has codes in all groups
together. Each is run through the normal pipeline, with the same CTC model and settings on its
units, and then looked at: WER on the unseen speaker; the contrastive loss on dev speech, beside
chance; and what a unit tells of the digit that is spoken, beside digits shuffled among recordings.
Writes RESULTS.md and units.json. What is finished is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from pipeline import audio
from pipeline.manifest import Manifest
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step
from pipeline.store import Store
from stages.plan import plan
from stages.prepare.corpora.digits import LIST
from stages.prepare.corpus import read_tsv
from stages.prepare.sources import FileHashes
from tests.benchmarks.information import Spoken, told_of_digits
from tests.benchmarks.rows import machine

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
# The CTC model of all systems. Whole words as targets: with letters, spelling mistakes hide what
# was heard. At the recipe's learning rate of 0.002 it wrote only blanks for 600 updates and more.
# What the digits' recipe has beside that is left out: the proof was measured without it.
CTC = (
    "folds=null",
    "budgets=[all]",
    "corpus.train_speeds=[]",
    "frontend.encoder=transformer",
    "frontend.attention_frames=0",
    "frontend.layer_weights=false",
    "frontend.acoustic=null",
    "bert.position_init=random",
    "bert.attention_dropout=0.1",
    "finetune.validate_every=0",
    "text.units=sentencepiece",
    "text.pieces=40",
    "finetune.updates=1200",
    "finetune.by_budget={}",
    "finetune.freeze_updates=300",
    "finetune.batch_frames=1500",
    "finetune.subsample=1",
    "finetune.learning_rate=0.001",
    "finetune.time_mask_probability=0.01",
    "finetune.channel_mask_probability=0.0",
    "decode.beam=100",
    "decode.lm_weights=[0.0, 0.25, 0.5, 1.0, 2.0]",
    "decode.word_scores=[0.0, 2.0, 4.0, 6.0]",
)
Codes = Callable[[NDArray[np.float32]], NDArray[np.integer]]


@dataclass(frozen=True)
class System:
    """A recipe with changes; `title` is how the table calls it."""

    title: str
    recipe: str
    changes: tuple[str, ...] = ()

    def load(self, more: Sequence[str]) -> tuple[Recipe, list[str]]:
        """The checked recipe, and all changes that make it; those of the user come before ours."""
        changes = [*more, *self.changes]
        return load(ROOT / "recipes" / self.recipe, changes), changes


def systems(quantizer: Any) -> list[System]:
    """The quantizer and its controls, for the settings of the recipe's quantizer section."""
    trained = ("name=units_proof_trained",)
    untrained = ("name=units_proof_untrained", "quantizer.updates=0")
    all_codes = quantizer.groups * quantizer.codes
    grouped = ("name=units_proof_kmeans_mfcc",)
    plain = (
        "name=units_proof_kmeans_mfcc_plain",
        "frontend.groups=1",
        f"frontend.codes={all_codes}",
    )
    sizes = f"{quantizer.groups} x {quantizer.codes}"
    return [
        System("quantizer, trained", "digits_units.yaml", trained),
        System("quantizer, untrained", "digits_units.yaml", untrained),
        System(f"k-means on MFCC, {sizes}", "digits_kmeans_mfcc.yaml", grouped),
        System(f"k-means on MFCC, 1 x {all_codes}", "digits_kmeans_mfcc.yaml", plain),
    ]


@dataclass(frozen=True)
class Finished:
    """A run of a system through the pipeline."""

    recipe: Recipe
    steps: Sequence[Step]
    store: Store
    exp: Path

    def folder(self, stage: str, label: str | None = None) -> Path:
        """The artifact of the first step of `stage` (with that label)."""
        found = (s for s in self.steps if s.stage == stage and label in (None, s.label))
        return self.store.path(next(found))

    def wer(self, decoder: str) -> dict[str, Any]:
        rows = json.loads((self.exp / self.recipe.name / "results.json").read_text("utf-8"))
        (row,) = [r for r in rows if r["decoder"] == decoder]
        return {k: row[k] for k in ("wer", "wer_low", "wer_high", "reference_words")}

    def codes(self) -> Codes:
        """Samples to code indices (F, G), by what stage 1 made."""
        folder = self.folder("quantizer")
        if self.recipe.frontend_name == "kmeans_mfcc":
            from stages.quantizer.kmeans_mfcc import MfccKmeans

            return MfccKmeans.load(folder).units
        import torch

        from stages.quantizer.model import QuantizerModel

        model = QuantizerModel.from_pretrained(folder).eval()
        return lambda samples: model.units(torch.from_numpy(samples)).numpy()

    def dev_bits(self) -> dict[str, float] | None:
        """The contrastive loss on dev and its chance; None for k-means on MFCC."""
        if self.recipe.frontend_name == "kmeans_mfcc":
            return None
        from stages.quantizer.contrast import contrastive_bits, load_predictor
        from stages.quantizer.health import chance_bits
        from stages.quantizer.model import QuantizerModel

        folder, negatives = self.folder("quantizer"), self.recipe.quantizer.negatives
        model = QuantizerModel.from_pretrained(folder).eval()
        dev = Manifest.load(self.folder("prepare", "dev"))
        speech = (dev.samples(utterance) for utterance in dev)
        bits = contrastive_bits(model, load_predictor(folder, model, negatives), speech, SEED)
        return {"bits": bits, "chance_bits": chance_bits(negatives, infonce=True)}


def run(system: System, changes: Sequence[str], exp: Path) -> Finished:
    """Run the system's recipe as a user would; raises CalledProcessError where that fails."""
    recipe, all_changes = system.load(changes)
    command = [sys.executable, "-m", "pipeline.cli", "run", str(ROOT / "recipes" / system.recipe)]
    command += ["--exp", str(exp)]
    for change in all_changes:
        command += ["--set", change]
    print(f"== {system.title} ({recipe.name})", flush=True)
    subprocess.run(command, check=True)
    store = Store(exp / "store")
    steps = plan(recipe, FileHashes(store.root / "files.json", "trust"))
    return Finished(recipe, steps, store, exp)


def spoken(finished: Finished, speakers: Sequence[str]) -> Iterator[Spoken]:
    """The single recordings of these speakers as units."""
    root, codes = finished.recipe.corpus.root, finished.codes()
    for recording in read_tsv(root / LIST):
        if recording.speaker in speakers:
            samples, rate_hz = audio.read(root / recording.files[0])
            units_FG = codes(audio.resample(samples, rate_hz))
            yield Spoken(recording.speaker, str(recording.transcript), units_FG)


def measure(system: System, changes: Sequence[str], exp: Path) -> dict[str, Any]:
    """All figures of one system."""
    finished = run(system, changes, exp)
    held_out = {
        name: sorted({u.speaker for u in Manifest.load(finished.folder("prepare", name))})
        for name in ("test/test", "dev")
    }
    told = {}
    for speakers in (held_out["test/test"], held_out["test/test"] + held_out["dev"]):
        found = told_of_digits(list(spoken(finished, speakers)), SEED)
        told[", ".join(speakers)] = asdict(found)
    return {
        "system": system.title,
        "recipe": finished.recipe.name,
        "greedy": finished.wer("greedy"),
        "lexicon_beam": finished.wer("lexicon_beam"),
        "dev_contrast": finished.dev_bits(),
        "digits": told,
    }


def page(rows: Sequence[dict[str, Any]], command: str, conditions: str) -> str:
    """RESULTS.md."""
    speakers = list(rows[0]["digits"])
    header = ["units", "greedy WER %", "WER % with LM", "loss on dev, bits (chance)"]
    header += [f"unit and digit, bits: {names}" for names in speakers]
    body = []
    for row in rows:
        contrast = row["dev_contrast"]
        dev = f"{contrast['bits']:.2f} ({contrast['chance_bits']:.2f})" if contrast else "-"
        told = [_information(row["digits"][names]) for names in speakers]
        body.append([row["system"], _wer(row["greedy"]), _wer(row["lexicon_beam"]), dev, *told])
    first = rows[0]["digits"]
    counts = "; ".join(f"{names}: {t['recordings']} recordings" for names, t in first.items())
    notes = [
        "Nobody of the speakers named was heard by a quantizer, by k-means or by a CTC model. "
        f"{counts}.",
        "Loss on dev: InfoNCE of the quantizer's own predictor, without noise, negatives from the "
        "same utterance.",
        "Unit and digit: mutual information of a frame's unit (all groups together) and its "
        "recording's digit, above that of digits shuffled among each speaker's recordings; in "
        "brackets the plain estimate, the shuffled mean and largest, and the number of unit types. "
        "The plain estimate grows with the number of types: read the difference.",
        "The CTC model, its settings and updates are the same for all, and nothing of it is "
        "pretrained. Greedy uses no language model.",
        f"Measured on {conditions}.",
    ]
    table = tabulate(body, header, tablefmt="github", disable_numparse=True)
    listed = "\n".join(f"- {note}" for note in notes)
    return f"# Do the units carry speech?\n\n    {command}\n\n{table}\n\n{listed}\n"


def _wer(row: dict[str, float]) -> str:
    low, high = 100 * row["wer_low"], 100 * row["wer_high"]
    return f"{100 * row['wer']:.1f} [{low:.1f}, {high:.1f}]"


def _information(told: dict[str, float]) -> str:
    above = told["bits"] - told["shuffled_mean"]
    shuffled = f"{told['shuffled_mean']:.2f}, {told['shuffled_max']:.2f}"
    return f"{above:.2f} ({told['bits']:.2f}; {shuffled}; {told['units']} types)"


@click.command()
@click.option("--speech", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--exp", type=click.Path(path_type=Path), default=Path("exp"))
@click.option("--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="For all.")
def main(speech: Path, out: Path, exp: Path, changes: tuple[str, ...]) -> None:
    """Run the quantizer and its controls; write the table to OUT."""
    every = [f"corpus.root={speech / 'fsdd'}", *CTC, *changes]
    quantizer = load(ROOT / "recipes" / "digits_units.yaml", every).quantizer
    rows = [measure(system, every, exp) for system in systems(quantizer)]
    words = ["python -m tests.benchmarks.units_carry_speech --speech DIR --out", str(out)]
    for change in changes:
        words += ["--set", f"'{change}'"]
    text = page(rows, " ".join(words), machine())
    out.mkdir(parents=True, exist_ok=True)
    (out / "units.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    (out / "RESULTS.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
