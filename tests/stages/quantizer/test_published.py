"""fairseq's wav2vec as our quantizer: the same features, codes and context from its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import checkpoints
from pipeline.checkpoint_file import read_fairseq
from pipeline.errors import RunError, UserError
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.published import DEFAULTS, layers, quantizer_of

FORMS = ("published, legacy file", "published", "today's")
KINDS: dict[str, dict[str, Any]] = {
    "gumbel": {"vq_type": "gumbel", "vq_temp": (1.5, 0.5, 0.9)},
    "gumbel, shared": {"vq_type": "gumbel", "combine_groups": True},
    "kmeans": {"vq_type": "kmeans", "vq_groups": 4},
    "kmeans, shared": {"vq_type": "kmeans", "combine_groups": True},
    "wav2vec 1.0": {"vq_type": "none", "skip_connections_agg": False, "log_compression": False},
    "gru": {"vq_type": "none", "aggregator": "gru", "gru_dim": 6},
    "variants": {
        "vq_type": "kmeans",
        "no_conv_bias": True,
        "agg_zero_pad": True,
        "skip_connections_feat": True,
        "residual_scale": 0.3,
        "non_affine_group_norm": True,
        "project_features": "new",
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_fairseq_computes(
    make_wav2vec: Callable[..., Any], tmp_path: Path, kind: str, form: str
) -> None:
    theirs = make_wav2vec(tmp_path / "c.pt", form, **KINDS[kind])
    found = read_fairseq(tmp_path / "c.pt")
    ours = quantizer_of(found.settings, found.weights)
    samples_BS = torch.randn(2, 4000, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        z_BDF = theirs.feature_extractor(samples_BS)
        torch.testing.assert_close(ours.features(samples_BS), z_BDF, rtol=1e-5, atol=1e-5)
        if theirs.vector_quantizer is not None:
            quantized_BDF, codes_BFG = theirs.vector_quantizer.forward_idx(z_BDF)
            assert len(codes_BFG.unique()) > 1
            assert torch.equal(ours.codes(ours.features(samples_BS)), codes_BFG)
            z_BDF = quantized_BDF
        context_BDF = theirs.feature_aggregator(z_BDF)
        torch.testing.assert_close(ours.context(samples_BS), context_BDF, rtol=1e-5, atol=1e-5)


def test_two_projection_layers_with_gelu(make_wav2vec: Callable[..., Any], tmp_path: Path) -> None:
    settings = {"vq_type": "gumbel", "vq_depth": 2, "activation": "gelu"}
    theirs = make_wav2vec(tmp_path / "c.pt", "today's", **settings)
    found = read_fairseq(tmp_path / "c.pt")
    ours = quantizer_of(found.settings, found.weights)
    samples_BS = torch.randn(2, 4000)
    with torch.no_grad():
        _, codes_BFG = theirs.vector_quantizer.forward_idx(theirs.feature_extractor(samples_BS))
    assert torch.equal(ours.codes(ours.features(samples_BS)), codes_BFG)


def test_defaults_are_those_of_fairseq() -> None:
    config = import_fairseq("fairseq.models.wav2vec.wav2vec").Wav2VecConfig
    theirs = {f.name: f.default for f in fields(config)}
    for name, default in DEFAULTS.items():
        if name.startswith("conv_"):
            assert layers(default) == layers(theirs[name])
        else:
            assert default == theirs[name], name
            assert type(default)(theirs[name]) == default


def test_the_trainer_s_own_file_is_read(tmp_path: Path, make_speech: Callable[..., Any]) -> None:
    """A file that fairseq's trainer wrote: our stage 1 trains with it."""
    from pipeline.recipe import QuantizerSettings
    from stages.quantizer.fairseq.train import train

    settings = QuantizerSettings(
        encoder_layers=[(8, 10, 5), (8, 8, 4)],
        aggregator_layers=[(8, 2, 1)],
        codes=4,
        prediction_steps=2,
        updates=2,
        crop_samples=4000,
        batch_samples=8000,
        precision="fp32",
    )
    trained = train(
        settings,
        [make_speech([5000] * 4)],
        seed=1,
        folder=tmp_path / "run",
        device="cpu",
        tensorboard=None,
    )
    kept = checkpoints.newest(tmp_path / "run", print)
    assert kept is not None
    found = read_fairseq(kept.path)
    assert found.architecture == "vqasr_wav2vec"
    model = quantizer_of(found.settings, found.weights)
    assert model.config.input_norm
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, trained.weights[name]), name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"activation": "swish"}, "activation is unknown"),
        ({"vq_type": "lloyd"}, "vq_type is unknown"),
        ({"aggregator": "lstm"}, "aggregator is unknown"),
        ({"vq_dim": 4}, "vq_dim must be the encoder's dimension"),
        ({"vq_groups": "2; import os"}, "setting vq_groups is not supported"),
        ({"vq_vars": 10**9}, "setting vq_vars is not supported"),
        ({"vq_temp": "__import__('os').getpid()"}, "setting vq_temp is not supported"),
        ({"conv_feature_layers": "__import__('os').getcwd()"}, "not a literal"),
        ({"conv_feature_layers": "[(10**9, 10, 5)]"}, "not a literal"),
        ({"conv_feature_layers": "[(1000000000, 10, 5)]"}, "not those that its settings"),
        ({"vq_groups": 3}, "not those that its settings|No network"),
        ({"residual_scale": -1.0}, "No network can be made"),
        ({"non_affine_group_norm": True}, "is not known"),
        ({"vq_depth": 2}, "is missing"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    make_wav2vec: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    make_wav2vec(tmp_path / "c.pt", vq_type="gumbel")
    found = read_fairseq(tmp_path / "c.pt")
    with pytest.raises(UserError, match=told):
        quantizer_of({**found.settings, **changes}, found.weights)


def test_weights_too_many_or_too_few_are_named(
    make_wav2vec: Callable[..., Any], tmp_path: Path
) -> None:
    make_wav2vec(tmp_path / "c.pt", vq_type="gumbel")
    found = read_fairseq(tmp_path / "c.pt")
    with pytest.raises(UserError, match="mask_emb is not known"):
        quantizer_of(found.settings, {**found.weights, "mask_emb": torch.zeros(2)})
    less = {n: w for n, w in found.weights.items() if n != "vector_quantizer.vars"}
    with pytest.raises(UserError, match=r"vector_quantizer\.vars is missing"):
        quantizer_of(found.settings, less)


@pytest.mark.case(31)
@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "[(1, 2)]",
        "[]",
        "[(0, 2, 1)]",
        "[(4, 2, 1)] * 10**9",
        "[(4, 2, 1)]" + " * 100" * 9,
        "(" * 5000 + ")" * 5000,
        "x",
    ],
)
def test_layers_that_are_no_literal_are_refused(text: str) -> None:
    with pytest.raises(RunError, match="not a literal"):
        layers(text)


def test_layers_may_repeat_and_add() -> None:
    assert layers("[(4, 2, 1)] + [(8, 3, 2)] * 2") == [(4, 2, 1), (8, 3, 2), (8, 3, 2)]
