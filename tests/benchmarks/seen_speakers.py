"""How much of the error is the unheard voice? The labelled speakers, recordings not in the budget.

    python -m tests.benchmarks.seen_speakers exp/digits 2min 5min --fold lucas

Takes the finished run of a recipe on units and lets the model of each budget write, greedily, the
training utterances that the budget left out: the same speakers, other recordings.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import click
from tabulate import tabulate

from pipeline.manifest import Manifest, original_id
from pipeline.stage import StepContext


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("budgets", nargs=-1, required=True)
@click.option("--fold", multiple=True, help="Of a recipe with folds; may be given several times.")
def main(run: Path, budgets: tuple[str, ...], fold: tuple[str, ...]) -> None:
    """See the module."""
    rows = []
    for budget in budgets:
        counts = sum((_errors(run, budget, name) for name in fold or ("",)), Counter())
        rate = 100 * counts["errors"] / counts["words"]
        rows.append([budget, counts["utterances"], counts["words"], rate])
    print(
        tabulate(rows, ["budget", "utterances left out", "words", "greedy WER %"], floatfmt=".1f")
    )


def _errors(run: Path, budget: str, fold: str) -> Counter[str]:
    """Utterances, words and word errors of what the budget left out; "" where are no folds."""
    from stages.acoustic.decoders.greedy import Greedy
    from stages.acoustic.finetune import compute_log_probs
    from stages.acoustic.scoring import count_words
    from stages.acoustic.targets import Targets

    of_fold = f"{fold}-" if fold else ""
    train = run / f"0-prepare-{of_fold}train"
    manifest = Manifest.load(train)
    listed = (run / f"0-prepare-{of_fold}budget-{budget}" / "ids.txt").read_text("utf-8")
    learnt = {original_id(name) for name in listed.split("\n")[:-1]}
    said = {u.id: u.transcript or "" for u in manifest if original_id(u.id) == u.id}
    said = {name: transcript for name, transcript in said.items() if name not in learnt}
    folders = {
        "model": run / f"5-finetune-{of_fold}{budget}",
        "manifest": train,
        "units": run / f"2-discretize-{of_fold}train",
        "vocabulary": run / "2-discretize-vocabulary",
    }
    with tempfile.TemporaryDirectory() as scratch:
        ctx = StepContext(Path(scratch), {}, "cpu", Path(scratch))
        log_probs = compute_log_probs(ctx, folders).log_probs
    greedy = Greedy(Targets.load(run / f"4-lm-{of_fold}targets"))
    heard = {name: " ".join(greedy.decode(log_probs[name])) for name in said}
    counts = count_words(said, heard)
    wrong = counts.substitutions + counts.deletions + counts.insertions
    return Counter(utterances=len(said), words=counts.reference, errors=wrong)


if __name__ == "__main__":
    main()
