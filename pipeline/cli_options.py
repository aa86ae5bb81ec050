"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

EXP = click.option(
    "--exp", type=click.Path(path_type=Path), default=Path("exp"), help="Folder of all results."
)
SET = click.option(
    "--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="Change the recipe."
)
