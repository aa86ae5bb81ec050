"""The loss on other speech: against fairseq's criterion on the same weights, and its chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import RunError
from stages.quantizer.contrast import (
    PREDICTOR,
    contrastive_bits,
    load_predictor,
    save_predictor,
)
from stages.quantizer.fairseq.model import VqasrWav2Vec, VqasrWav2VecConfig, quantizer_config
from stages.quantizer.model import QuantizerModel

NEGATIVES = 5


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., tuple[VqasrWav2Vec, QuantizerModel, Path]]:
    def make(kind: str) -> tuple[VqasrWav2Vec, QuantizerModel, Path]:
        cfg = VqasrWav2VecConfig(
            conv_feature_layers="[(16, 10, 5), (16, 8, 4), (16, 4, 4)]",
            conv_aggregator_layers="[(16, 2, 1), (16, 3, 1)]",
            vq_type=kind,
            vq_groups=2,
            vq_vars=6,
            prediction_steps=3,
            num_negatives=NEGATIVES,
            infonce=True,
            offset="auto",
            vq_depth=1,
            dropout=0.1,
            codebook_init="normal",
        )
        torch.manual_seed(0)
        theirs = VqasrWav2Vec(cfg).eval()
        ours = QuantizerModel(quantizer_config(cfg))
        names = ours.state_dict().keys()
        ours.load_state_dict({name: theirs.state_dict()[name] for name in names})
        save_predictor(theirs.state_dict(), tmp_path)
        return theirs, ours, tmp_path

    return make


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples).astype(np.float32)


@pytest.mark.parametrize("kind", ["gumbel", "kmeans", "none"])
def test_the_loss_is_that_of_the_model_which_was_trained(
    make_model: Callable[..., tuple[VqasrWav2Vec, QuantizerModel, Path]], kind: str
) -> None:
    theirs, ours, folder = make_model(kind)
    speech = [noise(8000), noise(5000)]
    found = contrastive_bits(ours, load_predictor(folder, ours, NEGATIVES), speech, seed=4)
    torch.manual_seed(4)
    nats, count = 0.0, 0
    for samples in speech:
        with torch.inference_mode():
            net_output = theirs(torch.from_numpy(samples)[None])
        log_probs = theirs.get_logits(net_output).log_softmax(-1)
        nats -= float(log_probs[:, 0].sum())
        count += len(log_probs)
    assert found == pytest.approx(nats / count / math.log(2), rel=1e-5)


def test_it_is_the_same_every_time_and_leaves_the_random_state_alone(
    make_model: Callable[..., tuple[VqasrWav2Vec, QuantizerModel, Path]],
) -> None:
    _, ours, folder = make_model("gumbel")
    predictor = load_predictor(folder, ours, NEGATIVES)
    before = torch.get_rng_state()
    first = contrastive_bits(ours, predictor, [noise(8000)], seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert contrastive_bits(ours, predictor, [noise(8000)], seed=1) == first
    assert contrastive_bits(ours, predictor, [noise(8000)], seed=2) != first


def test_a_predictor_that_says_nothing_is_at_chance(
    make_model: Callable[..., tuple[VqasrWav2Vec, QuantizerModel, Path]],
) -> None:
    _, ours, folder = make_model("gumbel")
    predictor = load_predictor(folder, ours, NEGATIVES)
    torch.nn.init.zeros_(predictor.project_to_steps.weight)
    torch.nn.init.zeros_(predictor.project_to_steps.bias)
    found = contrastive_bits(ours, predictor, [noise(8000)], seed=1)
    assert found == pytest.approx(math.log2(NEGATIVES + 1), rel=1e-6)


def test_what_cannot_be_computed_is_told(
    make_model: Callable[..., tuple[VqasrWav2Vec, QuantizerModel, Path]],
) -> None:
    _, ours, folder = make_model("gumbel")
    predictor = load_predictor(folder, ours, NEGATIVES)
    with pytest.raises(RunError, match="long enough"):
        contrastive_bits(ours, predictor, [noise(100)], seed=1)
    (folder / PREDICTOR).unlink()
    with pytest.raises(RunError, match="not trained here"):
        load_predictor(folder, ours, NEGATIVES)
