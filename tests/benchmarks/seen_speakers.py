"""How much of the error is the unheard voice? The labelled speakers, recordings not in the budget.

    python -m tests.benchmarks.seen_speakers exp/digits 2min 5min

Takes the finished run of a recipe on units and lets the model of each budget write, greedily, the
training utterances that the budget left out: the same speakers, other recordings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from tabulate import tabulate

from pipeline.manifest import Manifest, original_id
from pipeline.stage import StepContext


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("budgets", nargs=-1, required=True)
def main(run: Path, budgets: tuple[str, ...]) -> None:
    """See the module."""
    rows = [[budget, *_errors(run, budget)] for budget in budgets]
    print(
        tabulate(rows, ["budget", "utterances left out", "words", "greedy WER %"], floatfmt=".1f")
    )


def _errors(run: Path, budget: str) -> tuple[int, int, float]:
    """Utterances, words and word error rate in % of what the budget left out."""
    from stages.acoustic.decoders.greedy import Greedy
    from stages.acoustic.finetune import compute_log_probs
    from stages.acoustic.scoring import count_words
    from stages.acoustic.targets import Targets

    manifest = Manifest.load(run / "0-prepare-train")
    listed = (run / f"0-prepare-budget-{budget}" / "ids.txt").read_text("utf-8")
    learnt = {original_id(name) for name in listed.split("\n")[:-1]}
    said = {u.id: u.transcript or "" for u in manifest if original_id(u.id) == u.id}
    said = {name: transcript for name, transcript in said.items() if name not in learnt}
    folders = {
        "model": run / f"5-finetune-{budget}",
        "manifest": run / "0-prepare-train",
        "units": run / "2-discretize-train",
        "vocabulary": run / "2-discretize-vocabulary",
    }
    with tempfile.TemporaryDirectory() as scratch:
        ctx = StepContext(Path(scratch), {}, "cpu", Path(scratch))
        log_probs = compute_log_probs(ctx, folders)
    greedy = Greedy(Targets.load(run / "4-lm-targets"))
    heard = {name: " ".join(greedy.decode(log_probs[name])) for name in said}
    counts = count_words(said, heard)
    wrong = counts.substitutions + counts.deletions + counts.insertions
    return len(said), counts.reference, 100 * wrong / counts.reference


if __name__ == "__main__":
    main()
