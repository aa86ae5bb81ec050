"""Speech to codes at the paper's size: ours against fairseq's published way.

The published way (vq-wav2vec_featurize.py): one utterance at a time, the encoder with autograd on,
then `forward_idx`. That script runs on GPUs only; here its two calls run on the CPU, with the same
weights and audio, and on a GPU too where there is one (rows `..._gpu`; never tried yet, as there
was none). There fairseq's convolutions go through TF32, cuDNN's default, and ours do not.

`python -m tests.benchmarks.bench_discretize profile` shows what takes the time on one core;
`... changed QUANTIZER AUDIO...` the share of codes that bf16 changes on a trained quantizer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.quantizer.inference import NEAR_TIE, Codes, Inference, _scores
from stages.quantizer.model import PAPER_ENCODER, QuantizerConfig, QuantizerModel
from tests.benchmarks.rows import (
    Row,
    devices,
    higher_is_better,
    machine,
    named,
    seconds_in_turn,
    until_done,
)

RATE_HZ = 16_000
UTTERANCES = 10
SPEECH = Path(__file__).parents[3] / "shared/speech/librispeech251"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PEER = "fairseq"


def measure() -> Iterator[Row]:
    """`discretize_fp32`, `discretize_bf16`, and k-means in fp32; the same with `_gpu`."""
    utterances = speech()
    for device in devices():
        precisions = ["fp32", "bf16"] if bf16_is_fast(device) else ["fp32"]
        yield from _rows("gumbel", precisions, utterances, device)
        yield from _rows("kmeans", ["fp32"], utterances, device)


def speech() -> list[Tensor]:
    """Utterances of 3 to 20 s: real ones where they are at hand, else noise of such lengths."""
    if SPEECH.is_dir():
        from pipeline import audio

        found = []
        for path in sorted(p for p in SPEECH.rglob("*") if p.suffix in (".ogg", ".opus", ".flac")):
            samples, rate_hz = audio.read(path)
            if 3 * RATE_HZ <= len(samples) <= 20 * RATE_HZ and rate_hz == RATE_HZ:
                found.append(torch.from_numpy(samples))
        step = max(1, len(found) // UTTERANCES)
        return found[::step][:UTTERANCES]
    rng = torch.Generator().manual_seed(0)
    lengths = torch.linspace(3, 20, UTTERANCES).mul(RATE_HZ).long().tolist()
    return [0.1 * torch.randn(length, generator=rng) for length in lengths]


def bf16_is_fast(device: str) -> bool:
    from pipeline.precision import chosen_precision

    return chosen_precision("auto", device) == "bf16"


def _rows(
    kind: str, precisions: Sequence[str], utterances: Sequence[Tensor], device: str
) -> Iterator[Row]:
    theirs, ours = models(kind)
    theirs.to(device)
    torch.nn.Module.to(ours, device)
    seconds = sum(map(len, utterances)) / RATE_HZ
    utterances = [samples_S.to(device) for samples_S in utterances]
    ready = {p: Inference(ours, p) for p in precisions}
    found: dict[str, list[Codes]] = {}
    peers: list[Tensor] = []

    def published() -> None:
        peers[:] = [_published(theirs, samples_S) for samples_S in utterances]

    def fast(precision: str) -> Callable[[], None]:
        def call() -> None:
            found[precision] = ready[precision].codes(utterances)

        return call

    sides: dict[str, Callable[[], object]] = {p: fast(p) for p in precisions}
    sides = {name: until_done(side, device) for name, side in (sides | {PEER: published}).items()}
    taken = seconds_in_turn(sides, ROUNDS)
    nominal, done = gflop_per_second(ours), gflop_per_second(ours, by_threes=device == "cpu")
    for precision in precisions:
        rate = matrix_rate(torch.float32 if precision == "fp32" else torch.bfloat16, device)
        reached = done * seconds / taken[precision]
        conditions = (
            f"{kind}, {len(utterances)} utterances, {seconds:.0f} s of audio; "
            f"{compared(ready[precision], utterances, found[precision], peers)}; "
            f"products per second of audio: nominal {nominal:.2f} GFLOP, done by ours {done:.2f} "
            f"(kernels of two strides by F(3, 2), four for six); {reached:.0f} GFLOP/s done, "
            f"{reached / rate:.0%} of the matrix rate {rate:.0f} (fairseq, nominal: "
            f"{nominal * seconds / taken[PEER]:.0f}); {machine(device)}"
        )
        name = f"discretize_{precision}" + ("" if kind == "gumbel" else f"_{kind}")
        yield higher_is_better(
            named(name, device),
            seconds / taken[precision],
            seconds / taken[PEER],
            "seconds of audio per second",
            conditions,
        )


@torch.inference_mode()
def compared(
    ready: Inference,
    utterances: Sequence[Tensor],
    found: Sequence[Codes],
    peers: Sequence[Tensor],
) -> str:
    """The share of equal codes in words, and whether those that differ are near ties.

    How near: what our features score for our code above the peer's, over the frame's largest.
    """
    gaps, codes, ties = [], 0, sum(codes.near_ties for codes in found)
    for samples_S, ours, peer_FG in zip(utterances, found, peers, strict=True):
        codes += peer_FG.numel()
        scores_FGV = _scores(ready._book(), ready.features(samples_S))
        ours_FG, theirs_FG = (
            scores_FGV.gather(-1, units_FG[..., None])[..., 0]
            for units_FG in (ours.units_FG, peer_FG)
        )
        gaps_FG = (ours_FG - theirs_FG) / scores_FGV.abs().amax(-1)
        gaps += gaps_FG[ours.units_FG != peer_FG].tolist()
    words = f"{1 - len(gaps) / codes:.3%} of codes equal to fairseq's fp32"
    if gaps:
        near = sum(gap <= NEAR_TIE for gap in gaps)
        words += (
            f" ({near} of the {len(gaps)} others are ties to {NEAR_TIE:g} of the score, the "
            f"farthest to {max(gaps):.1g})"
        )
    return f"{words}, near ties in {ties} frames"


def models(kind: str) -> tuple[Any, QuantizerModel]:
    """fairseq's class and ours with the same random weights."""
    from stages.quantizer.fairseq.bridge import import_fairseq
    from stages.quantizer.fairseq.model import VqasrWav2VecConfig

    import_fairseq()
    from fairseq.models.wav2vec.wav2vec import Wav2VecModel

    torch.manual_seed(0)
    cfg = VqasrWav2VecConfig(
        conv_feature_layers=str(PAPER_ENCODER),
        conv_aggregator_layers="[(512, 2, 1)]",
        vq_type=kind,
        vq_vars=320,
        vq_groups=2,
        vq_depth=2,
        combine_groups=True,
        activation="gelu",
        vq_temp=(2.0, 0.5, 0.999995),
    )
    theirs = Wav2VecModel(cfg).eval()
    config = QuantizerConfig(
        aggregator_layers=[(512, 2, 1)],
        quantizer_type=kind,
        combine_groups=True,
        projection_depth=2,
    )
    ours = QuantizerModel(config)
    names = ours.state_dict()
    weights = {name: value for name, value in theirs.state_dict().items() if name in names}
    ours.load_state_dict(weights, strict=False)
    return theirs, ours


def _published(model: Any, samples_S: Tensor) -> Tensor:
    x = model.feature_extractor(samples_S[None])
    with torch.no_grad():
        _, codes_BFG = model.vector_quantizer.forward_idx(x)
    return codes_BFG[0]  # type: ignore[no-any-return]


def gflop_per_second(model: QuantizerModel, by_threes: bool = False) -> float:
    """Of matrix products, for one second of audio: encoder, projection and codebook.

    Args:
        by_threes: count four products for six where the CPU makes frames by threes, see
            stages/quantizer/row_convolution.py; not in the first layer, which is made otherwise.
    """
    config, total, inputs, rate = model.config, 0.0, 1, float(RATE_HZ)
    for number, (channels, kernel, stride) in enumerate(config.layers):
        rate /= stride
        saved = by_threes and number > 0 and kernel == 2 * stride
        total += 2 * rate * channels * kernel * inputs * (2 / 3 if saved else 1)
        inputs = channels
    dim, outputs = config.dim, config.groups * config.codes
    if config.quantizer_type == "kmeans":
        total += 2 * rate * dim * (dim // config.groups + config.codes)
    else:
        hidden = 2 * dim if config.projection_depth == 2 else 0
        total += 2 * rate * (dim * hidden + (hidden or dim) * outputs)
    return total / 1e9


def matrix_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """GFLOP/s of a large product in this process, the best of several."""
    rows, inner, columns = 4096, 2048, 2048
    a, b = torch.randn(rows, inner), torch.randn(columns, inner)
    a, b = a.to(device, dtype), b.to(device, dtype).T
    out, best = torch.empty(rows, columns, dtype=dtype, device=device), float("inf")
    multiply = until_done(lambda: torch.mm(a, b, out=out), device)
    for _ in range(8):
        start = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - start)
    return 2e-9 * rows * inner * columns / best


KINDS_OF_WORK = {
    "matrix products": (
        "mm",
        "addmm",
        "bmm",
        "matmul",
        "mkldnn_convolution",
        "_slow_conv2d_forward",
    ),
    "activation": ("gelu", "gelu_", "relu_", "log1p_", "log"),
    "norm": ("addcmul", "linalg_vector_norm", "native_group_norm", "pow_"),
    "additions of F(3, 2)": ("add", "sub", "add_"),
    "copies": ("copy_", "clone"),
    "sums, codebook's choice": (
        "sum",
        "max",
        "amax",
        "scatter_",
        "abs",
        "mul",
        "argmax",
        "scatter",
    ),
}


def profile() -> None:
    """Share of the CPU time by kind of work, ours and fairseq's, on one core."""
    torch.set_num_threads(1)
    utterances = speech()[:6]
    theirs, ours = models("gumbel")

    def published() -> None:
        for samples_S in utterances:
            _published(theirs, samples_S)

    sides: dict[str, Callable[[], object]] = {"fairseq": published}
    for precision in ("fp32", "bf16"):
        ready = Inference(ours, precision)
        sides[precision] = lambda ready=ready: ready.codes(utterances)
    for name, side in sides.items():
        side()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            side()
        times = {e.key.removeprefix("aten::"): e.self_cpu_time_total for e in seen.key_averages()}
        total = sum(times.values())
        shares = {k: sum(times.get(op, 0) for op in ops) for k, ops in KINDS_OF_WORK.items()}
        shares["other"] = total - sum(shares.values())
        print(name, ", ".join(f"{kind} {part / total:.1%}" for kind, part in shares.items()))


def changed(quantizer: Path, audio_files: Sequence[Path]) -> None:
    """The share of codes and of frames that bf16 changes, on a trained quantizer's own speech."""
    from pipeline import audio

    model = QuantizerModel.from_pretrained(quantizer)
    utterances = []
    for path in audio_files:
        samples, rate_hz = audio.read(path)
        utterances.append(torch.from_numpy(audio.resample(samples, rate_hz)))
    found = {p: Inference(model, p).codes(utterances) for p in ("fp32", "bf16")}
    exact, rounded = (torch.cat([c.units_FG for c in found[p]]) for p in ("fp32", "bf16"))
    modules = torch.cat([model.codes(model.features(u[None]))[0] for u in utterances])
    print(
        f"{len(utterances)} utterances, {len(exact)} frames: bf16 changes "
        f"{(exact != rounded).float().mean():.3%} of codes, "
        f"{(exact != rounded).any(1).float().mean():.3%} of frames; fp32 changes "
        f"{int((exact != modules).sum())} codes of the modules; near ties in fp32: "
        f"{sum(c.near_ties for c in found['fp32'])} frames"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["profile"]:
        profile()
    elif sys.argv[1:2] == ["changed"]:
        with torch.no_grad():
            changed(Path(sys.argv[2]), [Path(p) for p in sys.argv[3:]])
    else:
        for row in measure():
            print(row)
