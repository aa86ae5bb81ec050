"""Do the recipes' quantizers stay healthy? Trains stage 1 over corpora and seeds, makes a table.

    python -m tests.benchmarks.seeds_health --speech ../shared/speech --updates 300

Without --updates each recipe's own number; other settings of stage 1 with --set. What an earlier
call has trained is not trained again. The table goes to the terminal and, as JSON, to OUT.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml
from tabulate import tabulate

CORPORA = ("demo", "digits", "speechocean762")
SHOWN = ("corpus", "seed", "updates", "loss_bits", "chance_bits", "perplexity", "codes_in_use")


@click.command(help=__doc__)
@click.option("--corpora", default=",".join(CORPORA), show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--updates", type=int)
@click.option("--set", "changes", multiple=True, help="section.key=value, as vqasr run takes it")
@click.option("--speech", type=click.Path(path_type=Path), default=Path("../shared/speech"))
@click.option("--exp", type=click.Path(path_type=Path), default=Path("exp"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("exp/seeds_health.json"))
def main(
    corpora: str,
    seeds: str,
    updates: int | None,
    changes: tuple[str, ...],
    speech: Path,
    exp: Path,
    out: Path,
) -> None:
    """See the module."""
    if updates is not None:
        changes = (*changes, f"quantizer.updates={updates}")
    rows = []
    for corpus in corpora.split(","):
        for seed in seeds.split(","):
            rows.append(_row(corpus, int(seed), changes, speech, exp))
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    names = [*SHOWN, "pairs_in_use", "repairs", "collapsed"]
    print(tabulate([[row.get(name) for name in names] for row in rows], names))


def _row(
    corpus: str, seed: int, changes: tuple[str, ...], speech: Path, exp: Path
) -> dict[str, Any]:
    """Train one quantizer through the program, and what its report tells."""
    name = f"seeds_{corpus}_{seed}"
    given = [f"name={name}", f"seed={seed}", *_root(corpus, speech), *changes]
    command = [sys.executable, "-m", "pipeline.cli", "run", str(_recipe(corpus, exp))]
    command += ["--exp", str(exp), "--stop-stage", "quantizer"]
    for change in given:
        command += ["--set", change]
    done = subprocess.run(command, check=False)
    row: dict[str, Any] = {"corpus": corpus, "seed": seed, "changes": list(changes)}
    if done.returncode:
        return row | {"collapsed": f"failed, exit status {done.returncode}"}
    report = json.loads((exp / name / "1-quantizer" / "codebook.json").read_text("utf-8"))
    groups = report["groups"]
    return row | {
        "updates": report["updates"],
        "loss_bits": report["loss_bits"],
        "chance_bits": round(report["chance_bits"], 3),
        "perplexity": [group["perplexity"] for group in groups],
        "codes_in_use": [group["codes_in_use"] for group in groups],
        "pairs_in_use": report["pairs_in_use"],
        "repairs": len(report["repairs"]),
        "collapsed": report["collapsed"],
    }


def _root(corpus: str, speech: Path) -> list[str]:
    folder = {"digits": "fsdd", "speechocean762": "speechocean762"}.get(corpus)
    return [f"corpus.root={speech / folder}"] if folder else []


def _recipe(corpus: str, exp: Path) -> Path:
    """The corpus' recipe; where there is none, the digits' quantizer on that corpus' lists."""
    path = Path("recipes") / f"{corpus}.yaml"
    if path.exists():
        return path
    digits = yaml.safe_load(Path("recipes/digits.yaml").read_text("utf-8"))
    lists = {"train": "train.tsv", "dev": "dev.tsv", "test": {"test": "test.tsv"}}
    values = {
        "corpus": {"kind": "tsv", **lists},
        "budgets": ["all"],
        "quantizer": digits["quantizer"],
        "frontend": "unit_bert",
    }
    path = exp / f"seeds_{corpus}.yaml"
    exp.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return path


if __name__ == "__main__":
    main()
