"""vqasr compare: word error rates of several recipes side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import METRIC, NamedPath


@click.command()
@click.argument("recipes", nargs=-1, required=True)
@click.option(
    "--exp", type=NamedPath(path_type=Path), default=Path("exp"), help="Folder of all results."
)
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "csv", "json"]), default="table"
)
@METRIC
@click.option(
    "--pairs",
    is_flag=True,
    help="Compare systems, decoders and budgets in pairs, on the same utterances. In csv and "
    "json the pairs then stand alone.",
)
@click.option(
    "--against", metavar="NAME", help="The system of --pairs for others to beat; else the first."
)
def compare(
    recipes: tuple[str, ...], exp: Path, form: Any, metric: Any, pairs: bool, against: str | None
) -> None:
    """Show WER by budget and system of the RECIPES, which have run before.

    A recipe is named by its file or by its folder in EXP; a results.json, or the folder of one, is
    taken as it is. Several seeds and folds of a system make one figure; A+B are two runs of one
    system, such as from two seeds of pretraining.
    """
    from pipeline import comparison
    from pipeline.errors import UserError
    from pipeline.folders import check_readable
    from stages.acoustic import tables
    from stages.acoustic.pair_tables import format_pairs
    from stages.acoustic.pairs import compare_pairs, without_partner
    from stages.acoustic.summary import systems

    check_readable(exp)
    if against is not None and not pairs:
        raise UserError("--against says nothing without --pairs.", remedy="add --pairs")
    found = {named: comparison.read(named, exp) for named in recipes}
    comparison.tell_apart(found)
    for remark in (remark for results in found.values() for remark in results.remarks):
        click.echo(remark, err=True)
    for_people = form in ("table", "md")
    if not pairs or for_people:
        click.echo(tables.format_table(tables.compare(found.values()), form, metric))
    if pairs:
        names = [row["recipe"] for results in found.values() for row in results.rows]
        base = against or next(iter(names), "")
        scored = systems(found.values())
        rows = compare_pairs(scored, metric, base) if names else []
        alone = without_partner(scored, base)
        if for_people:
            click.echo("\n" + format_pairs(rows, form, alone))
        else:
            click.echo(format_pairs(rows, form))
            for line in alone:
                click.echo(line, err=True)
