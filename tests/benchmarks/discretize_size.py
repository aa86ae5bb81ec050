"""Does stage 2 stay as small on a large corpus? Memory and time over the number of utterances.

    python -m tests.benchmarks.discretize_size --out recipes/results/stage1/size.json

The audio is faked: every utterance is the same second of noise. The quantizer is small, so that
the corpus, not the network, is what memory would grow with. Each size runs in its own process.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from tabulate import tabulate

MIB = 2**20


@click.command(help=__doc__)
@click.option("--sizes", default="1000,10000,100000", show_default=True, help="utterances")
@click.option("--out", type=click.Path(path_type=Path), default=Path("exp/size.json"))
@click.option("--one", type=int, hidden=True, help="measure this size in this process")
def main(sizes: str, out: Path, one: int | None) -> None:
    """See the module."""
    if one is not None:
        print(json.dumps(_measure(one)))
        return
    rows = []
    for size in sizes.split(","):
        command = [sys.executable, "-m", "tests.benchmarks.discretize_size", "--one", size]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{size} utterances done", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    print(tabulate(rows, headers="keys", floatfmt=".3f"))


def _measure(utterances: int) -> dict[str, float]:
    """Stage 2 over so many utterances: peak resident memory and time, and what the list takes."""
    import numpy as np
    import torch

    from pipeline import audio
    from pipeline.manifest import Manifest, Utterance
    from pipeline.stage import StepContext
    from stages.quantizer.model import QuantizerConfig, QuantizerModel
    from stages.units import discretize

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = 0.1 * np.random.default_rng(0).standard_normal(audio.SAMPLE_RATE_HZ)
        audio.write(folder / "manifest" / "one.flac", noise.astype(np.float32))
        rows = (
            Utterance(f"utterance-{n:07d}", "s", "one.flac", True, len(noise), 1.0, None)
            for n in range(utterances)
        )
        Manifest(rows, folder / "manifest").write()
        config = QuantizerConfig(
            encoder_layers=[(8, 10, 5), (8, 8, 4), (8, 4, 4), (8, 4, 4)],
            aggregator_layers=[(8, 2, 1)],
            codes=64,
            input_norm=True,
            projection_init="normal",
            codebook_init="normal",
        )
        QuantizerModel(config).save_pretrained(folder / "quantizer")
        (folder / "units").mkdir()
        inputs = {"manifest": folder / "manifest", "quantizer": folder / "quantizer"}
        manifest = Manifest.load(folder / "manifest")
        listed = _peak_mib()
        del manifest
        start = time.perf_counter()
        discretize.discretize(StepContext(folder / "units", inputs, "cpu", folder / "board"))
        seconds = time.perf_counter() - start
    return {
        "utterances": utterances,
        "peak_mib": round(_peak_mib(), 1),
        "peak_mib_of_the_list_alone": round(listed, 1),
        "seconds": round(seconds, 2),
        "ms_per_utterance": round(1000 * seconds / utterances, 3),
    }


def _peak_mib() -> float:
    """The most memory that this process has had resident; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    main()
