"""Codes as recognition gets them: those of fairseq and of the modules, alone or in any batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import cuts
from stages.quantizer import fast_encoder
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.fairseq.model import VqasrWav2VecConfig
from stages.quantizer.fast_encoder import FastEncoder
from stages.quantizer.inference import Inference
from stages.quantizer.model import QuantizerConfig, QuantizerModel

import_fairseq()

from fairseq.models.wav2vec.wav2vec import Wav2VecModel  # noqa: E402

SMALL: dict[str, Any] = {
    "encoder_layers": [(16, 10, 5), (16, 8, 4), (16, 4, 2), (16, 1, 1)],
    "aggregator_layers": [(16, 2, 1)],
    "codes": 8,
    "codebook_init": "normal",
    "projection_init": "normal",
}
KINDS: dict[str, dict[str, Any]] = {
    "gumbel": {"input_norm": True},
    "gumbel two layers": {"projection_depth": 2, "combine_groups": True},
    "kmeans": {"quantizer_type": "kmeans", "input_norm": True},
    "kmeans shared": {"quantizer_type": "kmeans", "combine_groups": True},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as the paper": {},
    "relu": {"activation": "relu"},
    "skips": {"skip_connections_encoder": True},
    "no log": {"log_compression": False},
    "no affine": {"affine_norm": False},
    "one layer": {"encoder_layers": [(16, 10, 5)]},
    "odd kernels": {"encoder_layers": [(12, 7, 3), (20, 5, 2), (8, 7, 3), (16, 3, 1)]},
    "kernel below stride": {"encoder_layers": [(12, 3, 4), (16, 2, 3), (16, 2, 1)]},
    "channels grow": {"encoder_layers": [(4, 10, 5), (8, 8, 4), (16, 4, 4)]},
}
LENGTHS = st.lists(st.integers(0, 2500), min_size=1, max_size=6)


def model(**changes: Any) -> QuantizerModel:
    torch.manual_seed(0)
    made = QuantizerModel(QuantizerConfig(**(SMALL | changes)))
    for name, parameter in made.named_parameters():  # a norm that scales and shifts
        if "feature_extractor" in name and parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def speech(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [0.1 + 0.3 * torch.randn(length, generator=rng) for length in lengths]


def by_modules(quantizer: QuantizerModel, samples_S: torch.Tensor) -> torch.Tensor:
    """Features of one utterance, (F, D), by the modules that training uses."""
    with torch.no_grad():
        return quantizer.features(samples_S[None])[0].T


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_those_of_the_modules(variant: str) -> None:
    quantizer = model(**VARIANTS[variant])
    ours = Inference(quantizer)
    utterances = speech([4000, 1500, 2603])
    for samples_S in utterances:
        expected = by_modules(quantizer, samples_S)
        torch.testing.assert_close(ours.features(samples_S), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        {"quantizer_type": "none"},
        {"quantizer_type": "kmeans", "input_norm": True},
        {"aggregator": "gru", "gru_dim": 6, "gru_over_time": True},
    ],
)
def test_contexts_and_quantized_vectors_are_those_of_the_modules(kind: dict[str, Any]) -> None:
    quantizer = model(**kind)
    ours = Inference(quantizer)
    for samples_S in speech([4000, 1500, 2603]):
        with torch.no_grad():
            expected = quantizer.context(samples_S[None])[0].T
        torch.testing.assert_close(ours.context(samples_S), expected, rtol=1e-4, atol=1e-5)
        if quantizer.vector_quantizer is not None:
            expected = quantizer.quantized(samples_S[None])[0].T
            torch.testing.assert_close(ours.quantized(samples_S), expected)


def test_a_training_in_bf16_around_it_rounds_nothing() -> None:
    ours, (samples_S,) = Inference(model(quantizer_type="kmeans")), speech([4000])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ours.context(samples_S), ours.quantized(samples_S)
    assert torch.equal(rounded[0], ours.context(samples_S))
    assert torch.equal(rounded[1], ours.quantized(samples_S))


def test_without_a_quantizer_there_is_nothing_to_quantize_with() -> None:
    ours, utterances = Inference(model(quantizer_type="none")), speech([4000])
    for call in (lambda: ours.codes(utterances), lambda: ours.quantized(utterances[0])):
        with pytest.raises(ValueError, match="no quantizer"):
            call()


@pytest.mark.parametrize("kind", ["gumbel", "kmeans"])
def test_features_and_codes_are_those_of_fairseq(kind: str) -> None:
    cfg = VqasrWav2VecConfig(
        conv_feature_layers="[(16, 10, 5), (16, 8, 4), (16, 4, 2), (16, 1, 1)]",
        conv_aggregator_layers="[(16, 2, 1)]",
        vq_type=kind,
        vq_vars=8,
        combine_groups=True,
        activation="gelu",
        vq_temp=(2.0, 0.5, 0.99),
    )
    torch.manual_seed(1)
    theirs = Wav2VecModel(cfg).eval()
    quantizer = model(quantizer_type=kind, combine_groups=True)
    names = quantizer.state_dict()
    weights = {name: value for name, value in theirs.state_dict().items() if name in names}
    assert set(names) - set(weights) == {n for n in names if "aggregator" in n} - set(weights)
    quantizer.load_state_dict(weights, strict=False)
    utterances = speech([4000, 1500, 2603])
    ours = Inference(quantizer)
    for samples_S, units_FG in zip(utterances, quantizer.units_batch(utterances), strict=True):
        with torch.no_grad():
            z_BDF = theirs.feature_extractor(samples_S[None])
            _, codes_BFG = theirs.vector_quantizer.forward_idx(z_BDF)
        torch.testing.assert_close(ours.features(samples_S), z_BDF[0].T, rtol=1e-5, atol=1e-5)
        assert torch.equal(units_FG, codes_BFG[0])


@settings(max_examples=25)
@given(lengths=LENGTHS, kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 1000))
def test_codes_in_any_batch_are_those_alone(lengths: list[int], kind: str, seed: int) -> None:
    quantizer = model(**KINDS[kind])
    utterances = speech(lengths, seed)
    together = Inference(quantizer).codes(utterances)
    for samples_S, found in zip(utterances, together, strict=True):
        alone = Inference(quantizer).codes([samples_S])[0]
        assert torch.equal(found.units_FG, alone.units_FG)
        assert found.near_ties == alone.near_ties
        if quantizer.frames(len(samples_S)) and not found.near_ties:
            expected = quantizer.codes(quantizer.features(samples_S[None]))[0]
            assert torch.equal(found.units_FG, expected)


@settings(max_examples=25)
@given(
    lengths=LENGTHS,
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 1000),
    batch_seconds=st.sampled_from([0.1, 0.3, 300.0]),
)
def test_packed_as_on_a_gpu_only_near_ties_may_differ(
    lengths: list[int], kind: str, seed: int, batch_seconds: float
) -> None:
    quantizer = model(**KINDS[kind])
    utterances = speech(lengths, seed)
    packed = Inference(quantizer, batch_seconds=batch_seconds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_on_cores", packed._packed)
        together = packed.codes(utterances)
    for samples_S, found in zip(utterances, together, strict=True):
        alone_FG = Inference(quantizer).codes([samples_S])[0].units_FG
        assert found.units_FG.shape == alone_FG.shape
        assert (found.units_FG != alone_FG).any(1).sum() <= found.near_ties


@pytest.mark.parametrize("variant", ["as the paper", "skips"])
def test_fp32_products_keep_all_digits_whatever_the_process_allows(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allowed() -> tuple[bool, str, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.allow_tf32, torch.get_float32_matmul_precision(), cudnn.enabled

    def watched(*arguments: Any) -> Any:
        seen.append(allowed())
        return features(*arguments)

    ready, seen = Inference(model(quantizer_type="kmeans", **VARIANTS[variant])), []
    features = ready._features
    monkeypatch.setattr(ready, "_features", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        (samples_S,) = speech([4000])
        ready.codes([samples_S])
        ready.features(samples_S)
        assert allowed() == (True, "medium", True)
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [(False, "highest", True)] * 2


@settings(max_examples=25)
@given(lengths=LENGTHS, kind=st.sampled_from(sorted(KINDS)), padding=st.integers(0, 900))
def test_padding_changes_no_code(lengths: list[int], kind: str, padding: int) -> None:
    quantizer = model(**KINDS[kind])
    utterances = speech(lengths)
    padded_BS = torch.full((len(lengths), max(lengths) + padding), 7.0)
    for row, samples_S in zip(padded_BS, utterances, strict=True):
        row[: len(samples_S)] = samples_S
    found = quantizer.units_batch(padded_BS, lengths)
    for units_FG, samples_S in zip(found, utterances, strict=True):
        assert torch.equal(units_FG, quantizer.units(samples_S))
        assert units_FG.shape == (quantizer.frames(len(samples_S)), 2)


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(250, 3000), min_size=1, max_size=6))
def test_packed_utterances_know_nothing_of_each_other(lengths: list[int]) -> None:
    """What a GPU does with a batch: all utterances in the same matrix products."""
    quantizer = model()
    fast = FastEncoder(quantizer.feature_extractor, quantizer.config.layers, False, torch.float32)
    utterances = [(1 + 30 * n) * u for n, u in enumerate(speech(lengths))]
    for made, samples_S in zip(fast(utterances), utterances, strict=True):
        expected = by_modules(quantizer, samples_S)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_threads_changes_no_bit(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_encoder, "ROWS_ON_CPU", 30)  # many pieces
    quantizer = model(encoder_layers=[(64, 10, 5), (64, 8, 4), (64, 4, 2)])
    ready, utterances = Inference(quantizer, precision), speech([9000, 20_011, 300, 12_345])
    features, codes = [], []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        features.append([ready.features(samples_S) for samples_S in utterances])
        codes.append([found.units_FG for found in ready.codes(utterances)])
        codes.append([ready.codes([samples_S])[0].units_FG for samples_S in utterances])
        assert torch.get_num_threads() == threads
    for found in (features, codes):
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_copy_of_a_model_that_gave_codes_gives_the_same() -> None:
    quantizer, (samples_S,) = model(), speech([4000])
    units_FG = quantizer.units(samples_S)
    assert torch.equal(copy.deepcopy(quantizer).units(samples_S), units_FG)


def test_long_audio_is_made_in_pieces_that_end_at_the_cuts(monkeypatch: Any) -> None:
    monkeypatch.setattr(cuts, "LONGEST_SECONDS", 0.5)
    quantizer = model()
    samples_S = speech([30_000])[0]
    spans = cuts.pieces(samples_S.numpy(), 8000, 16_000)
    assert len(spans) > 3
    expected = torch.cat([quantizer.units(samples_S[start:end]) for start, end in spans])
    assert torch.equal(quantizer.units(samples_S), expected)


def test_changed_weights_show() -> None:
    quantizer, (samples_S,) = model(), speech([4000])
    before = quantizer.units(samples_S)
    with torch.no_grad():
        quantizer.vector_quantizer.weight_proj.weight.neg_()
    after = quantizer.units(samples_S)
    assert not torch.equal(before, after)
    with torch.no_grad():
        assert torch.equal(after, quantizer.codes(quantizer.features(samples_S[None]))[0])


def test_frames_between_two_equal_codes_are_counted() -> None:
    quantizer, (samples_S,) = model(combine_groups=True), speech([4000])
    assert Inference(quantizer).codes([samples_S])[0].near_ties == 0
    with torch.no_grad():
        for parameter in quantizer.vector_quantizer.weight_proj.parameters():
            parameter[1:8] = parameter[0]  # all codes of the first group get equal logits
    found = Inference(quantizer).codes([samples_S])[0]
    assert found.near_ties == len(found.units_FG)


def test_bf16_changes_few_codes_of_clear_speech() -> None:
    quantizer = model(encoder_layers=[(64, 10, 5), (64, 8, 4), (64, 4, 2)])
    utterances = speech([20_000, 9000])
    exact, rounded = (Inference(quantizer, p).codes(utterances) for p in ("fp32", "bf16"))
    same = [(a.units_FG == b.units_FG).float().mean() for a, b in zip(exact, rounded, strict=True)]
    assert min(same) > 0.9
    assert Inference(quantizer, "bf16").features(utterances[0]).dtype == torch.float32
