"""vqasr transcribe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import NamedPath


@click.command()
@click.argument("folder", metavar="DIR", type=NamedPath(path_type=Path))
@click.argument(
    "named", metavar="AUDIO...", nargs=-1, required=True, type=NamedPath(path_type=Path)
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "srt"]),
    default="text",
    show_default=True,
    help="json: an object a line, with the times of words. srt: subtitles.",
)
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=str),
    help="A file; or a folder (DIR/), for a file a recording. Else it is printed.",
)
@click.option("--greedy", is_flag=True, help="Without language model and lexicon: faster.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--batch-seconds",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Speech computed at once. More is faster on a GPU, and takes more memory.",
)
def transcribe(
    folder: Path,
    named: tuple[Path, ...],
    form: Any,
    output: str | None,
    greedy: bool,
    device: Any,
    batch_seconds: float,
) -> None:
    """Write what is said in AUDIO, by the folder DIR that `vqasr export` made.

    AUDIO is any number of recordings, or folders of them, of any length: WAV, FLAC, Ogg or MP3.
    What cannot be used is named, and the others are transcribed; the exit status is 1 then.
    Several recordings make a line each: the file, a tab, the text.
    """
    from pipeline.errors import RunError
    from stages.use.folder import refuse_other
    from stages.use.recordings import Output, find
    from stages.use.transcript import Failure

    refuse_other(folder)  # before the recordings: a DIR left out takes the first of them
    recordings = find(named)
    alone = len(named) == 1 and not named[0].is_dir()
    place = None if output is None else Path(output)
    is_folder = output is not None and output.endswith("/")
    to = Output(recordings, form, place, alone=alone, folder=is_folder)

    from pipeline.training import quiet_transformers, set_threads
    from stages.acoustic import search
    from stages.use.transcriber import Transcriber

    set_threads(0)
    quiet_transformers()
    transcriber = Transcriber.load(
        folder,
        greedy=greedy,
        device=device,
        batch_seconds=batch_seconds,
        processes=search.allowed(),
    )
    failed, seconds, started = 0, 0.0, time.monotonic()
    with to.opened():
        for found in transcriber.transcribe_all(r.path for r in recordings):
            if isinstance(found, Failure):
                failed += 1
                click.echo(f"{found.audio}: {found.reason}", err=True)
            else:
                seconds += found.seconds
                to.write(found)
    taken = time.monotonic() - started
    if seconds:
        speed = seconds / max(taken, 1e-9)
        told = f"{seconds / 60:.1f} min of speech in {taken:.1f} s: {speed:.1f} times real time"
        click.echo(told, err=True)
    if failed:
        raise RunError(f"{failed} of {len(recordings)} recordings could not be transcribed.")
