"""vqasr import-fairseq."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli_options import NamedPath


@click.command("import-fairseq")
@click.argument("checkpoint", type=NamedPath(path_type=Path))
@click.argument("folder", metavar="DIR", type=NamedPath(path_type=Path))
@click.option(
    "--dict",
    "dictionary",
    metavar="FILE",
    type=NamedPath(path_type=Path),
    help="A RoBERTa's dictionary; dict.txt beside CHECKPOINT if not given.",
)
def import_fairseq(checkpoint: Path, folder: Path, dictionary: Path | None) -> None:
    """Convert a CHECKPOINT of fairseq into DIR, for a recipe.

    wav2vec and vq-wav2vec (Gumbel, k-means) serve as `quantizer: {from: DIR}`, a RoBERTa
    trained on their units as `bert: {from: DIR}`. Nothing that a checkpoint holds is run.
    """
    from pipeline.console import say
    from pipeline.training import quiet_transformers
    from stages.importing import import_fairseq as convert

    quiet_transformers()
    convert(checkpoint, folder, dictionary, say)
