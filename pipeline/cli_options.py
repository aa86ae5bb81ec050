"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class NamedPath(click.Path):
    """A path that is not empty: Python takes the empty one for the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it must not be empty.", param, ctx)
        return super().convert(value, param, ctx)


EXP = click.option(
    "--exp", type=NamedPath(path_type=Path), default=Path("exp"), help="Folder of all results."
)
METRIC = click.option(
    "--metric", type=click.Choice(["wer", "cer"]), default="wer", help="Words or characters."
)
SET = click.option(
    "--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="Change the recipe."
)
