"""vqasr run | status | check | prune, and the commands of pipeline/cli_*.py. Nothing else exits."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pipeline import interrupt
from pipeline.cli_compare import compare
from pipeline.cli_export import export
from pipeline.cli_import import import_fairseq
from pipeline.cli_options import EXP, SET, NamedPath
from pipeline.cli_report import report
from pipeline.cli_transcribe import transcribe
from pipeline.console import say
from pipeline.disk import refusal
from pipeline.errors import UserError, VqasrError, brief, nearest

if TYPE_CHECKING:
    from pipeline.freshness import StepState
    from pipeline.recipe import Recipe
    from pipeline.runner import Run
    from pipeline.stage import Step

INTERRUPTED = 130
INSIST_SECONDS = 3.0
DEFERRED_SECONDS = 20.0  # for the update and the checkpoint of a training that was interrupted
RECIPE = click.argument("recipe_path", metavar="RECIPE", type=NamedPath(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vqasr", prog_name="vqasr")
def cli() -> None:
    """Train a speech recogniser that learns from unlabelled audio first.

    A recipe's stages: 0 prepare, 1 quantizer, 2 discretize, 3 bert, 4 lm, 5 finetune, 6 decode,
    7 score.
    """


cli.add_command(import_fairseq)
cli.add_command(compare)
cli.add_command(report)
cli.add_command(export)
cli.add_command(transcribe)


@cli.command()
@RECIPE
@click.option("--stage", help="Start at this stage, by number or name.")
@click.option("--stop-stage", help="Stop after this stage.")
@SET
@EXP
@click.option("--force", is_flag=True, help="Run the chosen stages although they are done.")
@click.option("--verify", is_flag=True, help="Read all audio again instead of trusting its time.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and stop.")
def run(
    recipe_path: Path,
    stage: str | None,
    stop_stage: str | None,
    changes: tuple[str, ...],
    exp: Path,
    force: bool,
    verify: bool,
    dry_run: bool,
) -> None:
    """Run all stages of RECIPE that are not done."""
    from pipeline.folders import check_writable, make
    from pipeline.runner import Run
    from pipeline.store import Store
    from stages.plan import published

    recipe = _load(recipe_path, changes)
    first = _stage_number(stage) if stage else None
    last = _stage_number(stop_stage) if stop_stage else 7
    if first is not None and first > last:
        raise UserError(f"--stage {stage} comes after --stop-stage {stop_stage}.")
    check_writable(exp, recipe.name, f"{recipe.name}/logs")
    if not dry_run:
        _fetch(recipe)
    steps = _plan(recipe, exp, "verify" if verify else "look")
    words = ["vqasr", "run", str(recipe_path)]
    for change in changes:
        words += ["--set", change]
    if exp != Path("exp"):
        words += ["--exp", str(exp)]
    job = Run(
        steps=steps,
        store=Store(exp / "store"),
        links=exp / recipe.name,
        first=first,
        last=last,
        force=force,
        device="cpu",
        command=shlex.join(words),  # as it can be typed: values may hold spaces and braces
        kept=published(steps),
    )
    pending = job.pending()
    if dry_run:
        _tell_pending(job, pending)
        return
    if pending:
        make(exp / "store")
        job = _on_device(job, recipe)
        say(f"{recipe.name}: {len(pending)} of {len(steps)} steps to run, on {job.device}")
        job.carry_out()
    else:
        job.carry_out()
        say(f"{recipe.name}: {job.nothing_to_do()}")
    _results(recipe, job)


def _on_device(job: Run, recipe: Recipe) -> Run:
    """The run with its device chosen; torch is imported only here."""
    from dataclasses import replace

    import torch

    from pipeline.training import quiet_transformers, set_threads

    set_threads(recipe.machine.threads)
    quiet_transformers()
    wanted = recipe.machine.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("machine.device is cuda, and torch finds no GPU. Set it to auto or cpu.")
    has_gpu = wanted != "cpu" and torch.cuda.is_available()
    return replace(job, device="cuda" if has_gpu else "cpu")


def _tell_pending(job: Run, pending: list[Step]) -> None:
    states = {id(s.step): s for s in job.examine()}
    for step in pending:
        state = states[id(step)]
        why = f": {'; '.join(state.reasons)}" if state.reasons else ""
        click.echo(f"{step.title} ({state.state}{why})")
    click.echo(f"{len(pending)} of {len(job.steps)} steps would run")


def _results(recipe: Recipe, job: Run) -> None:
    """Write results.json, RESULTS.md and the plot, and show the table; or say why there is none."""
    from stages.acoustic.publish import publish, unfinished, verify

    left = unfinished(job.examine(), job.kept)
    if left:
        more = f", and {len(left) - 1} more steps are not done" if len(left) > 1 else ""
        say(f"{recipe.name}: no table of results: {left[0].step.title} is {left[0].state}{more}")
    else:
        verify(job.steps, job.store, job.rebuild)
        click.echo(publish(recipe, job.steps, job.store, job.links))


@cli.command()
@RECIPE
@SET
@EXP
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(recipe_path: Path, changes: tuple[str, ...], exp: Path, as_json: bool) -> None:
    """Say of every step whether it is done, and why not."""
    from pipeline.folders import check_readable
    from pipeline.freshness import examine
    from pipeline.store import Store
    from stages import STAGES

    recipe = _load(recipe_path, changes)
    check_readable(exp, recipe.name)
    steps = _plan(recipe, exp, "trust")
    states = examine(steps, Store(exp / "store"), exp / recipe.name)
    used = {s.number for s in steps}
    rows = [_row(s) for s in states]
    why = f"front-end {recipe.frontend_name} does not read it"
    rows += [_unused_row(n, name, why) for n, name in enumerate(STAGES) if n not in used]
    rows.sort(key=lambda row: row["number"])
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from tabulate import tabulate

    shown = [
        [r["number"], r["name"], r["label"], r["state"], r["seconds"], _remark(r)] for r in rows
    ]
    header = ["", "stage", "step", "state", "seconds", "why"]
    if recipe.folds is not None:  # "-": the same for every fold
        header.insert(2, "fold")
        for line, row in zip(shown, rows, strict=True):
            line.insert(2, row["fold"] or "-")
    click.echo(tabulate(shown, header, "simple"))


def _row(state: StepState) -> dict[str, Any]:
    step, stamp = state.step, state.stamp
    return {
        "number": step.number,
        "name": step.stage,
        "label": step.label,
        "fold": step.fold,
        "budget": step.budget,
        "seed": step.seed,
        "state": state.state,
        "reason": "; ".join(state.reasons),
        "reasons": state.reasons,
        "notes": state.notes,
        "seconds": stamp.seconds if stamp else None,
        "path": str(state.path),
    }


def _unused_row(number: int, name: str, why: str) -> dict[str, Any]:
    """Of a stage that the recipe's front-end does without: the same keys, None where none is."""
    empty = dict.fromkeys(("label", "fold", "budget", "seed", "seconds", "path"))
    state = {"state": "not used", "reason": why, "reasons": [why], "notes": []}
    return {"number": number, "name": name, **empty, **state}


def _remark(row: dict[str, Any]) -> str:
    told = [*row["reasons"], *row["notes"]]
    more = f" (and {len(told) - 3} more)" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more


@cli.command()
def check() -> None:
    """Check every component: its version, and whether it works."""
    from pipeline import checks

    sys.exit(checks.main())


@cli.command()
@EXP
@click.option("--partial", is_flag=True, help="Delete the work of interrupted runs as well.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def prune(exp: Path, partial: bool, yes: bool) -> None:
    """Delete the artifacts that no recipe of EXP points to; they are listed first."""
    from pipeline.folders import REMEDY, check_readable
    from pipeline.prune import artifacts, delete, interrupted, size_bytes, unused

    check_readable(exp)
    if not exp.exists():
        raise UserError(f"--exp {exp}: there is no such folder.", remedy=REMEDY)
    half = interrupted(exp)
    if half and not partial:
        size = sum(map(size_bytes, half)) / 1e6
        click.echo(f"{size:.1f} MB of interrupted work stay, to go on from; --partial lists them")
    chosen = [(path, "") for path in unused(exp)]
    chosen += [(path, "  (interrupted work)") for path in half if partial]
    if not chosen:
        any_there = any(artifacts(exp))
        why = "every artifact belongs to a recipe" if any_there else f"{exp} holds no artifacts"
        click.echo(f"Nothing to prune: {why}.")
        return
    total = 0
    for path, what in chosen:
        size_of = size_bytes(path)
        total += size_of
        click.echo(f"{size_of / 1e6:9.1f} MB  {path}{what}")
    click.echo(f"{len(chosen)} artifacts, {total / 1e6:.1f} MB")
    if yes or click.confirm("Delete them?"):
        for path, _ in chosen:
            if not delete(path):
                click.echo(f"{path} stays: a run is at work in it")
        click.echo("deleted")


def _load(path: Path, changes: tuple[str, ...]) -> Recipe:
    from pipeline.recipe_file import load

    return load(path, changes)


def _fetch(recipe: Recipe) -> None:
    from stages.prepare.sources import fetch

    fetch(recipe)


def _plan(recipe: Recipe, exp: Path, mode: str) -> list[Step]:
    from stages.plan import plan
    from stages.prepare.sources import FileHashes

    return plan(recipe, FileHashes(exp / "store" / "files.json", mode))


def _stage_number(text: str) -> int:
    from stages import STAGES

    if text.isdecimal() and int(text) < len(STAGES):
        return int(text)
    if text in STAGES:
        return STAGES.index(text)
    raise UserError(f"There is no stage '{text}'; {nearest(text, STAGES)}, or 0 to 7")


def _on_signal(number: int, _frame: object) -> None:
    """Raise KeyboardInterrupt; a training at work is asked first to save what it has."""
    name = signal.Signals(number).name
    if number != signal.SIGALRM and not interrupt.requested() and interrupt.ask(name):
        signal.setitimer(signal.ITIMER_REAL, DEFERRED_SECONDS, INSIST_SECONDS)
        return
    if number != signal.SIGALRM and interrupt.requested():
        return  # it has been asked, and the timer runs
    # An exception that falls into a C callback or a destructor is lost: ask again until heard.
    signal.setitimer(signal.ITIMER_REAL, INSIST_SECONDS, INSIST_SECONDS)
    raise KeyboardInterrupt(name)


def main() -> NoReturn:
    """Run the program and exit: 0 done, 1 a run failed, 2 wrong input, 130 interrupted."""
    # Python's hashes and fairseq's tokenizers may not decide anything, and need no warning.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, _on_signal)
    try:
        result = cli(standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except VqasrError as error:
        click.echo(f"vqasr: {error.text()}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:  # who read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, say: nothing that a traceback would explain
        refused = refusal(error, Path(error.filename or "."))
        where = f": {error.filename}" if error.filename else ""
        told = refused.text() if refused else f"{error.strerror or error}{where}"
        click.echo(f"vqasr: {told}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        signal.setitimer(signal.ITIMER_REAL, 0)
        click.echo("vqasr: interrupted; the same command goes on", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        click.echo(f"vqasr: this should not happen: {brief(error)}", err=True)
        with suppress(OSError):
            click.echo(f"  log: {_traceback_file()}", err=True)
        sys.exit(1)


def _traceback_file() -> str:
    """Writes what went wrong, for whoever mends it; of a step the step's own log tells."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="vqasr-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"{shlex.join(sys.argv)}\n{traceback.format_exc()}")
    return file.name


if __name__ == "__main__":
    main()
