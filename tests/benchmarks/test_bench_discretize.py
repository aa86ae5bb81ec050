"""The work that the benchmark counts is the work that torch is given."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.quantizer.inference import Inference
from stages.quantizer.model import QuantizerConfig, QuantizerModel
from tests.benchmarks.bench_discretize import (
    RATE_HZ,
    compared,
    gflop_per_second,
    models,
)
from tests.benchmarks.rows import machine


def counted(side: object) -> float:
    with FlopCounterMode(display=False) as counter:
        side()  # type: ignore[operator]
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize("kind", ["gumbel", "kmeans"])
def test_ours_does_the_products_that_are_counted_and_fairseq_the_nominal_ones(kind: str) -> None:
    torch.set_num_threads(1)
    theirs, ours = models(kind)
    ready, second_S = Inference(ours), 0.1 * torch.randn(RATE_HZ)
    done = counted(lambda: ready.codes([second_S]))
    assert done == pytest.approx(gflop_per_second(ours, by_threes=True), rel=0.03)
    assert done < 0.8 * gflop_per_second(ours)
    nominal = counted(lambda: theirs.feature_extractor(second_S[None]))
    encoder = gflop_per_second(ours) - counted(
        lambda: ours.vector_quantizer.code_indices(torch.randn(1, 512, 100))
    )
    assert nominal == pytest.approx(encoder, rel=0.03)


def test_codes_that_differ_are_told_with_how_near_they_were() -> None:
    torch.manual_seed(0)
    ready = Inference(QuantizerModel(QuantizerConfig(encoder_layers=[(16, 10, 5)], codes=8)))
    utterances = [torch.randn(4000)]
    found = ready.codes(utterances)
    same = found[0].units_FG
    assert compared(ready, utterances, found, [same]).startswith("100.000% of codes equal")
    other = same.clone()
    other[7, 1] = (other[7, 1] + 1) % 8
    told = compared(ready, utterances, found, [other])
    assert "(0 of the 1 others are ties to 1e-05" in told


def test_a_benchmark_on_the_cpu_names_the_processor_though_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert "a GPU" not in machine() and "threads of" in machine("cpu")
    assert machine("cuda").startswith("a GPU, torch")
