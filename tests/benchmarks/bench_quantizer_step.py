"""A training step of vq-wav2vec at the paper's size: our class against fairseq's own.

Both under fairseq's trainer and criterion, from the same weights, on the same crops: Gumbel with 2
groups of 320 codes, 12 steps, 10 negatives, binary cross-entropy, as in fairseq's README, and as
much speech as the paper gives a GPU: 300,000 samples in crops of 150,000.
Memory is the peak above what is resident before the step (weights, gradients, Adam's moments), in
a process for each side; on a GPU the peak of what torch allocates.

On the CPU, and on a GPU too where there is one (rows `..._gpu`; never tried yet, as there was
none). There fairseq's convolutions may go through TF32, cuDNN's default.
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

from tests.benchmarks.rows import (
    Row,
    devices,
    lower_is_better,
    machine,
    named,
    seconds_in_turn,
    until_done,
)

PEER, OURS, OURS_BF16 = "fairseq", "ours fp32", "ours bf16"
CROPS, CROP_SAMPLES = 2, 150_000
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))


def measure() -> Iterator[Row]:
    """Time and memory in fp32 and in bf16; the same with `_gpu`."""
    for device in devices():
        yield from _rows(device)


def _rows(device: str) -> Iterator[Row]:
    steps = {name: make_step(name, device) for name in (PEER, OURS, OURS_BF16)}
    seconds = seconds_in_turn(steps, ROUNDS)
    what = f"512-dim model, {CROPS} crops of {CROP_SAMPLES / 16_000:.1f} s, {machine(device)}"
    gain = bf16_over_fp32(device)
    bf16 = f"{what}; the peer in fp32, matrix products {gain:.2f} times as fast in bf16"
    for name, side, told in (("step_fp32", OURS, what), ("step_bf16", OURS_BF16, bf16)):
        name = named(f"quantizer_{name}", device)
        yield lower_is_better(name, seconds[side], seconds[PEER], "s", told)
    memory = {name: _in_a_process(name, device) for name in steps}
    kind = "resident" if device == "cpu" else "allocated"
    above = f"{what}; peak {kind} memory above that before the step"
    for name, side, told in (
        ("memory", OURS, above),
        ("memory_bf16", OURS_BF16, f"{above}; peer in fp32"),
    ):
        name = named(f"quantizer_{name}", device)
        yield lower_is_better(name, memory[side], memory[PEER], "MB", told)


def make_step(side: str, device: str = "cpu") -> Callable[[], object]:
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
    cfg = fairseq_config(settings, 1, folder, device, None)
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
    return until_done(lambda: trainer.train_step([sample]), device)


def bf16_over_fp32(device: str = "cpu") -> float:
    """How many times as fast this process multiplies matrices in bf16."""
    import torch

    a, b = torch.randn(2, 2048, 2048, device=device)
    a16, b16 = a.bfloat16(), b.bfloat16()
    fp32, bf16 = until_done(lambda: a @ b, device), until_done(lambda: a16 @ b16, device)
    took = seconds_in_turn({"fp32": fp32, "bf16": bf16}, 7, warm_up=2)
    return took["fp32"] / took["bf16"]


def _in_a_process(side: str, device: str) -> float:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(peak_megabytes, (side, device))


def peak_megabytes(side: str, device: str = "cpu") -> float:
    """The peak memory of a step above what is held before it, in MB."""
    import ctypes

    import torch

    step = make_step(side, device)
    for _ in range(2):
        step()
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
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
