"""vqasr report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import EXP, METRIC, SET, NamedPath


@click.command()
@click.argument("recipes", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The page to write.",
)
@METRIC
@SET
@EXP
def report(
    recipes: tuple[str, ...], output: Path, metric: Any, changes: tuple[str, ...], exp: Path
) -> None:
    """Write a page that shows all there is of the RECIPES: one file of HTML.

    A recipe is named by its file or by its folder in EXP; a results.json is taken as it is. What
    is not finished is shown as far as it has come. Charts, the tables by budget and by speaker and
    the pairs are in one metric; every result stands there in both.
    """
    from pipeline.console import say
    from pipeline.errors import UserError
    from pipeline.folders import check_readable
    from pipeline.store import write_atomically
    from stages.report.collect import collect
    from stages.report.page import render
    from stages.use.chosen import command_of

    check_readable(exp)
    if not output.parent.is_dir():
        raise UserError(
            f"-o {output}: the folder {output.parent} is not there.",
            remedy=f"make it (mkdir -p {shlex.quote(str(output.parent))}), or name another",
        )
    sources = collect(recipes, exp, changes)
    page = render(sources, metric)
    write_atomically(output, page)
    for source in sources:
        if source.unfinished:
            left = f"{len(source.unfinished)} of {len(source.pieces)} steps are not done"
            status = command_of(Path(source.named), changes, exp, "status")
            say(f"{source.name}: {left}; {status} tells which")
    number = "1 recipe" if len(sources) == 1 else f"{len(sources)} recipes"
    say(f"{output}: {number}, {len(page.encode()) / 1e3:.0f} kB")
