"""A training step of vq-wav2vec at the paper's size: our class against fairseq's own.

Both under fairseq's trainer and criterion, from the same weights, on the same crops: Gumbel with 2
groups of 320 codes, 12 steps, 10 negatives, binary cross-entropy, as in fairseq's README, and as
much speech as the paper gives a GPU: 300,000 samples in crops of 150,000.
Memory is the peak above what is resident before the step (weights, gradients, Adam's moments), in
a process for each side.
"""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row, lower_is_better, machine, seconds_in_turn

PEER, OURS, OURS_BF16 = "fairseq", "ours fp32", "ours bf16"
CROPS, CROP_SAMPLES = 2, 150_000
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))


def measure() -> Iterator[Row]:
    """Three rows: time in fp32, time in bf16, and memory in fp32."""
    steps = {name: make_step(name) for name in (PEER, OURS, OURS_BF16)}
    seconds = seconds_in_turn(steps, ROUNDS)
    what = f"512-dim model, {CROPS} crops of {CROP_SAMPLES / 16_000:.1f} s, {machine()}"
    yield lower_is_better("quantizer_step_fp32", seconds[OURS], seconds[PEER], "s", what)
    bf16 = f"{what}; the peer in fp32, matrix products {bf16_over_fp32():.2f} times as fast in bf16"
    yield lower_is_better("quantizer_step_bf16", seconds[OURS_BF16], seconds[PEER], "s", bf16)
    memory = {name: _in_a_process(name) for name in steps}
    above = f"{what}; peak resident memory above that before the step"
    yield lower_is_better("quantizer_memory", memory[OURS], memory[PEER], "MB", above)
    yield lower_is_better(
        "quantizer_memory_bf16", memory[OURS_BF16], memory[PEER], "MB", f"{above}; peer in fp32"
    )


def make_step(side: str) -> Callable[[], object]:
    """A function that makes one update of the model of `side`."""
    import torch

    from pipeline.recipe import QuantizerSettings
    from stages.quantizer.fairseq.bridge import import_fairseq
    from stages.quantizer.fairseq.config import fairseq_config
    from stages.quantizer.model import PAPER_AGGREGATOR, PAPER_ENCODER

    import_fairseq("fairseq_cli.train")
    from fairseq import tasks
    from fairseq.models.wav2vec.wav2vec import Wav2VecConfig
    from fairseq.trainer import Trainer

    settings = QuantizerSettings(
        type="gumbel",
        encoder_layers=PAPER_ENCODER,
        aggregator_layers=PAPER_AGGREGATOR,
        codes=320,
        projection_depth=2,
        infonce=False,
        input_norm=False,
        projection_init="fairseq",
        codebook_init="fairseq",
        diversity_weight=0.1,
        precision="bf16" if side == OURS_BF16 else "fp32",
        crop_samples=CROP_SAMPLES,
        batch_samples=CROPS * CROP_SAMPLES,
        learning_rate=1e-5,
        final_learning_rate=1e-6,
        updates=400_000,
    )
    folder = Path(tempfile.mkdtemp())
    cfg = fairseq_config(settings, 1, folder, "cpu", None)
    cfg.task = {"_name": "audio_pretraining", "data": "."}
    if side == PEER:
        known = {field.name for field in dataclasses.fields(Wav2VecConfig)}
        kept = {k: v for k, v in cfg.model.items() if k in known}
        cfg.model = {**kept, "_name": "wav2vec"}
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    trainer = Trainer(cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion))
    trainer.lr_step_begin_epoch(1)
    draws = torch.Generator().manual_seed(0)
    source = 0.1 * torch.randn(CROPS, CROP_SAMPLES, generator=draws)
    sample = {"id": torch.arange(CROPS), "net_input": {"source": source}}
    trainer._dummy_batch = sample
    return lambda: trainer.train_step([sample])


def bf16_over_fp32() -> float:
    """How many times as fast this process multiplies matrices in bf16."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    a16, b16 = a.bfloat16(), b.bfloat16()
    took = seconds_in_turn({"fp32": lambda: a @ b, "bf16": lambda: a16 @ b16}, 7, warm_up=2)
    return took["fp32"] / took["bf16"]


def _in_a_process(side: str) -> float:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(peak_megabytes, (side,))


def peak_megabytes(side: str) -> float:
    """The peak resident memory of a step above what is resident before it, in MB."""
    import ctypes

    step = make_step(side)
    for _ in range(2):
        step()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # resets the peak
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1000


def _status(name: str) -> int:
    """A figure of /proc/self/status, in kB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {name}")
    return int(found[1])


def profile(side: str) -> Any:
    """A table of the operations of a step, for people: the verdict belongs in a commit message."""
    import torch

    step = make_step(side)
    step()
    with torch.profiler.profile() as found:
        step()
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)


if __name__ == "__main__":
    print(profile(sys.argv[1] if len(sys.argv) > 1 else OURS))
