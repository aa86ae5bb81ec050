"""Does the program stay as small and as quick on a large corpus? Memory and time over its size.

    python -m tests.benchmarks.corpus_size --out recipes/results/size/corpus_size.json

Every figure is of `vqasr` itself, run as users run it, each command in a process of its own:
stages 0, 2 and 4, then `status`, and `run` where there is nothing to do. 281,241 utterances are
LibriSpeech's 960 hours.

The audio is faked, its reading is not: the files are hard links to a few recordings of noise, an
eighth of a second long. So what is measured is what grows with the number of utterances: lists,
manifests, hashes, shards. Ids, speakers and transcripts are as long as LibriSpeech's; the words
are of one vocabulary at every size. The quantizer has random weights and is tiny.

MiB are the most that a process had resident: of vqasr, and of the largest program it calls (lmplz
takes what `-S` allows). Seconds are of the wall and, in brackets, of the processor.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

SIZES = "1000,10000,100000,281241"
SECONDS, RATE_HZ = 0.125, 16_000
LINKS_PER_FILE = 1_000  # file systems bound how many names a file may have
UTTERANCES_PER_SPEAKER = 120
WORDS, WORDS_PER_UTTERANCE = 5_000, 34
HELD_OUT = 20  # utterances of dev, and of test
COMMANDS: dict[str, list[str]] = {
    "0 prepare": ["run", "--stop-stage", "0"],
    "1 quantizer (imported)": ["run", "--stage", "1", "--stop-stage", "1"],
    "2 discretize": ["run", "--stage", "2", "--stop-stage", "2"],
    "4 lm": ["run", "--stage", "4", "--stop-stage", "4"],
    "status": ["status"],
    "run, nothing to do": ["run", "--stop-stage", "2"],
}
Row = dict[str, Any]


@click.command(help=__doc__)
@click.option("--sizes", default=SIZES, show_default=True, help="utterances of train")
@click.option("--out", type=click.Path(path_type=Path), default=Path("exp/corpus_size.json"))
@click.option("--work", type=click.Path(path_type=Path), help="where the corpora go; else a temp")
@click.option("--child", type=click.Path(path_type=Path), hidden=True)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def main(
    sizes: str, out: Path, work: Path | None, child: Path | None, words: tuple[str, ...]
) -> None:
    """See the module."""
    if child is not None:
        _vqasr(child, words)
    rows: list[Row] = []
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory(dir=work) as name:
            rows += measure(Path(name), size)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        click.echo(f"{size} utterances done")
    click.echo(table(rows))


def measure(folder: Path, utterances: int) -> list[Row]:
    """What each command takes on a corpus of so many utterances, made in `folder`.

    Raises:
        RuntimeError: a command failed; what it said.
    """
    recipe = make_corpus(folder, utterances)
    rows = []
    for name, words in COMMANDS.items():
        command = [words[0], str(recipe), *words[1:], "--exp", str(folder / "exp")]
        rows.append({"utterances": utterances, "command": name, **_measured(folder, command)})
    return rows


def make_corpus(folder: Path, utterances: int) -> Path:
    """A TSV corpus, a quantizer and the recipe that reads both; returns the recipe."""
    draw = random.Random(0)
    letters = "aeioubdfgklmnprst"
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(2, 8))) for _ in range(WORDS)]
    corpus = folder / "corpus"
    names = [("train", utterances), ("dev", HELD_OUT), ("test", HELD_OUT)]
    for split, count in names:
        lines = ["utt_id\tspeaker\tpath\ttranscript\n"]
        for number in range(count):
            speaker = f"{split}{number // UTTERANCES_PER_SPEAKER:05d}"
            name = f"{speaker}-{number // 40:06d}-{number % 40:04d}"
            path = f"audio/{split}/{number // LINKS_PER_FILE:04d}/{name}.flac"
            text = " ".join(draw.choices(vocabulary, k=WORDS_PER_UTTERANCE))
            lines.append(f"{name}\t{speaker}\t{path}\t{text}\n")
            _link(corpus, path, number)
        (corpus / f"{split}.tsv").write_text("".join(lines), "utf-8")
    _quantizer(folder / "quantizer")
    values = {
        "corpus": {
            "kind": "tsv",
            "root": str(corpus),
            "train": "train.tsv",
            "dev": "dev.tsv",
            "test": {"test": "test.tsv"},
        },
        "budgets": ["5s"],
        "quantizer": {"from": str(folder / "quantizer")},
        "frontend": "unit_bert",
        "lm": {"order": 3},
        "machine": {"device": "cpu", "threads": 1},
    }
    recipe = folder / "size.yaml"
    recipe.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return recipe


def _link(corpus: Path, path: str, number: int) -> None:
    """One more name for a recording; a new recording for every thousand."""
    import numpy as np

    from pipeline import audio

    made = corpus.parent / "recordings" / f"{number // LINKS_PER_FILE:04d}.flac"
    if not made.exists():
        noise = np.random.default_rng(number).standard_normal(round(SECONDS * RATE_HZ))
        audio.write(made, (0.1 * noise).astype(np.float32))
    if number % LINKS_PER_FILE == 0:
        (corpus / path).parent.mkdir(parents=True, exist_ok=True)
    os.link(made, corpus / path)


def _quantizer(folder: Path) -> None:
    import torch

    from stages.quantizer.model import QuantizerConfig, QuantizerModel

    torch.manual_seed(0)
    config = QuantizerConfig(
        encoder_layers=[(8, 10, 5), (8, 8, 4), (8, 4, 4), (8, 4, 4)],
        aggregator_layers=[(8, 2, 1)],
        codes=64,
        input_norm=True,
        projection_init="normal",
        codebook_init="normal",
    )
    QuantizerModel(config).save_pretrained(folder)


def _measured(folder: Path, words: Sequence[str]) -> Row:
    told = folder / "told.json"
    command = [sys.executable, "-m", "tests.benchmarks.corpus_size", "--child", str(told), "--"]
    start = time.perf_counter()
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"vqasr {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {"seconds": round(seconds, 2), **json.loads(told.read_text("utf-8"))}


def _vqasr(told: Path, words: Sequence[str]) -> None:
    """Be `vqasr`, and leave what it took in `told`."""
    from pipeline.cli import main as vqasr

    def tell() -> None:
        own, called = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        figures = {
            "processor_seconds": round(sum(u.ru_utime + u.ru_stime for u in (own, called)), 2),
            "mib": round(_peak_kib() / 1024, 1),
            "mib_of_programs": round(called.ru_maxrss / 1024, 1),  # in KiB on Linux
        }
        told.write_text(json.dumps(figures), "utf-8")

    atexit.register(tell)
    sys.argv = ["vqasr", *words]
    vqasr()


def _peak_kib() -> int:
    """The most that this program had resident. `ru_maxrss` would count who started it, too."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def table(rows: Sequence[Row]) -> str:
    """A line per size; of each command seconds, processor seconds and MiB."""
    from tabulate import tabulate

    lines: dict[int, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row["utterances"], {"utterances": f"{row['utterances']:,}"})
        line[row["command"]] = (
            f"{row['seconds']:.1f} s ({row['processor_seconds']:.1f}), {row['mib']:.0f} MiB"
            + (f" + {row['mib_of_programs']:.0f}" if row["command"] == "4 lm" else "")
        )
    return tabulate(list(lines.values()), headers="keys", tablefmt="github")


if __name__ == "__main__":
    main()
