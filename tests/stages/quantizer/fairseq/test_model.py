"""Our class against fairseq's own: same parameters, loss and gradients from the same draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.model import VqasrWav2Vec, VqasrWav2VecConfig
from stages.quantizer.fairseq.predictions import Diagonals

import_fairseq()

from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion  # noqa: E402
from fairseq.models.wav2vec.wav2vec import Wav2VecModel  # noqa: E402

SMALL: dict[str, Any] = {
    "conv_feature_layers": "[(16, 10, 5), (16, 8, 4)] + [(16, 4, 2)] * 2",
    "conv_aggregator_layers": "[(24, 2, 1), (24, 3, 1)]",
    "vq_vars": 8,
    "prediction_steps": 5,
    "num_negatives": 4,
    "activation": "gelu",
    "vq_temp": (2.0, 0.5, 0.99),
}
CASES: dict[str, dict[str, Any]] = {
    "gumbel": {"vq_type": "gumbel", "infonce": True, "combine_groups": True},
    "gumbel two layers, BCE": {"vq_type": "gumbel", "infonce": False, "vq_depth": 2},
    "gumbel own codebooks, relu": {"vq_type": "gumbel", "infonce": True, "activation": "relu"},
    "kmeans": {"vq_type": "kmeans", "infonce": True},
    "kmeans shared, BCE": {"vq_type": "kmeans", "infonce": False, "combine_groups": True},
    "none": {"vq_type": "none", "infonce": True},
    "none, BCE balanced": {"vq_type": "none", "infonce": False, "balanced_classes": True},
    "cross-sample": {"vq_type": "none", "infonce": True, "cross_sample_negatives": 3},
    "cross-sample only": {
        "vq_type": "none",
        "infonce": True,
        "cross_sample_negatives": 3,
        "num_negatives": 0,
    },
    "gru": {"vq_type": "gumbel", "infonce": True, "aggregator": "gru", "gru_dim": 12},
    "near negatives": {"vq_type": "none", "infonce": True, "sample_distance": 9},
    "variants": {
        "vq_type": "none",
        "infonce": True,
        "no_conv_bias": True,
        "agg_zero_pad": True,
        "skip_connections_feat": True,
        "log_compression": False,
        "non_affine_group_norm": True,
        "project_features": "new",
        "conv_aggregator_layers": "[(16, 2, 1), (16, 3, 1)]",
    },
    "no skips": {
        "vq_type": "none",
        "infonce": True,
        "skip_connections_agg": False,
        "project_features": "same",
        "conv_aggregator_layers": "[(16, 2, 1), (16, 3, 1)]",
    },
    "dropout": {"vq_type": "none", "infonce": True, "dropout": 0.3},
    "dropout of features": {"vq_type": "gumbel", "infonce": True, "dropout_features": 0.3},
    "dropout of features, kmeans": {"vq_type": "kmeans", "infonce": True, "dropout_features": 0.3},
    "dropout of context": {"vq_type": "none", "infonce": True, "dropout_agg": 0.3},
    "all dropouts, BCE": {
        "vq_type": "gumbel",
        "infonce": False,
        "dropout": 0.2,
        "dropout_features": 0.1,
        "dropout_agg": 0.3,
    },
    "more steps than frames": {"vq_type": "none", "infonce": True, "prediction_steps": 40},
}


def build(kind: Any, settings: dict[str, Any]) -> Any:
    cfg = VqasrWav2VecConfig(**(SMALL | settings))
    torch.manual_seed(1)
    return kind(cfg)


def loss_and_gradients(
    model: Any, settings: dict[str, Any], source: torch.Tensor
) -> tuple[float, dict[str, torch.Tensor], dict[str, Any]]:
    weights = None if settings["vq_type"] == "none" else [0.7]
    criterion = Wav2vecCriterion(
        None, settings["infonce"], weights, ["code_perplexity", "prob_perplexity", "temp"]
    )
    sample = {"id": torch.arange(len(source)), "net_input": {"source": source}}
    model.train()
    model.set_num_updates(3)
    torch.manual_seed(2)
    loss, sample_size, logged = criterion(model, sample)
    (loss / sample_size).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients, logged


@pytest.mark.parametrize("case", CASES)
def test_equals_fairseq(case: str) -> None:
    settings = CASES[case]
    theirs, ours = build(Wav2VecModel, settings), build(VqasrWav2Vec, settings)
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    assert all(torch.equal(state[name], value) for name, value in theirs.state_dict().items())
    source = torch.randn(3, 2400, generator=torch.Generator().manual_seed(0))
    their_loss, their_gradients, their_log = loss_and_gradients(theirs, settings, source)
    our_loss, our_gradients, our_log = loss_and_gradients(ours, settings, source)
    assert our_loss == pytest.approx(their_loss, rel=1e-5)
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        # relative to the tensor's largest gradient: sums that nearly cancel keep few digits
        apart = (our_gradients[name] - gradient).abs().max() / gradient.abs().max().clamp_min(1e-12)
        assert apart <= 1e-5, (name, apart)
    assert our_log.keys() == their_log.keys()
    for name, value in their_log.items():
        if name == "correct":
            continue  # a negative can equal the true frame: rounding decides
        assert our_log[name] == pytest.approx(value, rel=1e-5), name


def test_a_gru_over_time_equals_fairseqs_that_is_told_so() -> None:
    settings = CASES["none"] | {"aggregator": "gru", "gru_dim": 12}
    theirs = build(Wav2VecModel, settings)
    theirs.feature_aggregator[1].batch_first = True
    ours = build(VqasrWav2Vec, settings | {"gru_over_time": True})
    source = torch.randn(3, 2400, generator=torch.Generator().manual_seed(0))
    their_loss, their_gradients, _ = loss_and_gradients(theirs, settings, source)
    our_loss, our_gradients, _ = loss_and_gradients(ours, settings, source)
    assert our_loss == pytest.approx(their_loss, rel=1e-5)
    for name, gradient in their_gradients.items():
        apart = (our_gradients[name] - gradient).abs().max() / gradient.abs().max()
        assert apart <= 1e-5, (name, apart)


def test_logits_come_in_the_order_of_fairseq() -> None:
    settings = CASES["none"]
    theirs, ours = build(Wav2VecModel, settings), build(VqasrWav2Vec, settings)
    source = torch.randn(2, 2000)
    results = []
    for model in (theirs, ours):
        torch.manual_seed(5)
        results.append(model(source)["cpc_logits"])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_codes_equal_those_of_fairseq() -> None:
    for case in ("gumbel", "kmeans", "kmeans shared, BCE"):
        theirs, ours = build(Wav2VecModel, CASES[case]), build(VqasrWav2Vec, CASES[case])
        theirs.eval(), ours.eval()
        with torch.no_grad():
            z_BDF = ours.feature_extractor(torch.randn(2, 4000))
            _, codes = theirs.vector_quantizer.forward_idx(z_BDF)
            assert torch.equal(ours.vector_quantizer.code_indices(z_BDF), codes)


def test_normalised_diversity_lies_between_0_and_1() -> None:
    model = build(VqasrWav2Vec, CASES["gumbel"] | {"normalise_diversity": True})
    loss = model.get_extra_losses(model(torch.randn(2, 2400)))
    assert 0 <= float(loss) < 1


def test_additions_change_what_they_name() -> None:
    plain = build(VqasrWav2Vec, CASES["gumbel two layers, BCE"])
    added = build(
        VqasrWav2Vec,
        CASES["gumbel two layers, BCE"]
        | {"input_norm": True, "projection_init": "normal", "codebook_init": "normal"},
    )
    assert set(added.state_dict()) - set(plain.state_dict()) == {
        "vector_quantizer.input_norm.weight",
        "vector_quantizer.input_norm.bias",
    }
    assert plain.vector_quantizer.vars.min() >= 0 > added.vector_quantizer.vars.min()
    assert plain.vector_quantizer.weight_proj[-1].weight.std() < 0.2
    assert added.vector_quantizer.weight_proj[-1].weight.std() > 0.8


def test_gradient_of_the_diagonals_is_right() -> None:
    ahead = torch.randn(2, 5, 3, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Diagonals.apply(x, 4), (ahead,))
