"""vqasr export."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli_options import EXP, SET, NamedPath


@click.command()
@click.argument("recipe_path", metavar="RECIPE", type=NamedPath(path_type=Path))
@click.argument("folder", metavar="DIR", type=NamedPath(path_type=Path))
@click.option("--budget", help="Whose model, where the recipe has several budgets.")
@click.option("--fold", help="Whose model, where it has several folds.")
@click.option("--seed", type=int, help="Whose model, where it has several seeds of fine-tuning.")
@SET
@EXP
def export(
    recipe_path: Path,
    folder: Path,
    budget: str | None,
    fold: str | None,
    seed: int | None,
    changes: tuple[str, ...],
    exp: Path,
) -> None:
    """Write a finished model of RECIPE into DIR, with all that it takes to use it.

    One folder of HuggingFace's form, with a model card, for `vqasr transcribe`. DIR must be empty
    or not there.
    """
    from pipeline.console import say
    from pipeline.folders import check_readable
    from pipeline.recipe_file import load
    from pipeline.runner import Run
    from pipeline.store import Store
    from stages.plan import plan
    from stages.prepare.sources import FileHashes
    from stages.use.chosen import choose, command_of, refuse_unfinished
    from stages.use.export import refuse_folder

    recipe = load(recipe_path, changes)
    check_readable(exp)
    refuse_folder(folder)
    steps = plan(recipe, FileHashes(exp / "store" / "files.json", "trust"))
    job = Run(
        steps=steps,
        store=Store(exp / "store"),
        links=exp / recipe.name,
        first=None,
        last=7,
        force=False,
        device="cpu",
        command=command_of(recipe_path, changes, exp),
    )
    chosen = choose(recipe, steps, budget, fold, seed)
    refuse_unfinished(chosen, job)

    from pipeline.training import quiet_transformers
    from stages.use.export import export as write

    quiet_transformers()
    write(chosen, job, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"{folder}: {chosen.model.title} of {recipe.name}, {size / 1e6:.1f} MB")
