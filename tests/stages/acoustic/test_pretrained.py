"""Features of a pretrained model: fairseq's on the same weights, lengths, batches, precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline import audio
from pipeline.batches import pad
from pipeline.errors import RunError
from pipeline.manifest import Manifest, Utterance
from pipeline.plugins import find
from pipeline.recipe import FRONT_ENDS, BertSettings
from stages.acoustic.features import normalised
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.quantizer.model import QuantizerModel
from stages.quantizer.published import quantizer_config

import_fairseq()

from fairseq.models.wav2vec.wav2vec import Wav2VecConfig, Wav2VecModel  # noqa: E402

LENGTHS = {"a": 1600, "b": 2503, "c": 6000, "short": 100}  # receptive field 105, hop 40
SMALL: dict[str, Any] = {
    "conv_feature_layers": "[(16, 10, 5), (16, 8, 4), (16, 4, 2)]",
    "conv_aggregator_layers": "[(24, 2, 1), (24, 3, 1)]",
    "vq_vars": 8,
    "activation": "gelu",
}
# Of each front-end fairseq's model, and the size of its features.
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "wav2vec": ("wav2vec", {"vq_type": "none"}, 24),
    "cpc": ("cpc", {"vq_type": "none", "aggregator": "gru", "gru_dim": 12}, 12),
    "vq_wav2vec, k-means": ("vq_wav2vec", {"vq_type": "kmeans"}, 16),
    "vq_wav2vec, Gumbel": ("vq_wav2vec", {"vq_type": "gumbel", "combine_groups": True}, 16),
}
BERT = BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=256, dropout=0.0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    folder = tmp_path / "manifest"
    folder.mkdir()
    rows = []
    for number, (name, samples) in enumerate(LENGTHS.items()):
        noise = 0.1 * np.random.RandomState(number).standard_normal(samples)
        audio.write(folder / f"{name}.flac", noise.astype(np.float32))
        rows.append(Utterance(name, "s", f"{name}.flac", True, samples, 0.1, "go"))
    Manifest(rows, folder).write()
    return Manifest.load(folder)


def theirs(settings: dict[str, Any]) -> Any:
    """fairseq's model, trained as it were; its GRU told to run over time."""
    torch.manual_seed(0)
    made = Wav2VecModel(Wav2VecConfig(**SMALL, **settings)).eval()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    if settings["vq_type"] == "kmeans":
        made.vector_quantizer.embedding.data.normal_()
    if "aggregator" in settings:
        made.feature_aggregator[1].batch_first = True
    return made


def by_fairseq(model: Any, samples: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        z_BDF = model.feature_extractor(torch.from_numpy(samples)[None])
        if model.vector_quantizer is not None:
            found = model.vector_quantizer(z_BDF, produce_targets=False)["x"]
        else:
            found = model.feature_aggregator(z_BDF)
    return np.asarray(found[0].T.numpy())


Opened = tuple[Any, Any, dict[str, Path], int]


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, manifest: Manifest, tmp_path: Path) -> Opened:
    """fairseq's model, the front-end's file, the folders it reads, and D."""
    name, settings, channels = KINDS[request.param]
    model = theirs(settings)
    cfg = Wav2VecConfig(**SMALL, **settings)
    config = quantizer_config(cfg)
    config.gru_over_time = "aggregator" in settings
    exported = QuantizerModel(config)
    weights = model.state_dict()
    exported.load_state_dict({key: weights[key] for key in exported.state_dict()})
    folders = {"manifest": manifest.folder, "quantizer": tmp_path / "quantizer"}
    exported.save_pretrained(folders["quantizer"])
    return model, find(FRONT_ENDS, name, "front-end"), folders, channels


def test_features_are_those_of_fairseq(opened: Opened, manifest: Manifest) -> None:
    model, frontend, folders, channels = opened
    plain = frontend.open_split(frontend.Settings(normalise=False), folders)
    scaled = frontend.open_split(frontend.Settings(), folders)
    for name in ("a", "b", "c"):
        expected = by_fairseq(model, manifest.samples(manifest[name]))
        assert plain(name).dtype == scaled(name).dtype == np.float32
        assert expected.shape[1] == channels
        np.testing.assert_allclose(plain(name), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(scaled(name), normalised(plain(name)))


def test_frames_are_counted_without_reading_audio(opened: Opened, manifest: Manifest) -> None:
    _, frontend, folders, channels = opened
    features = frontend.open_split(frontend.Settings(), folders)
    expected = {n: max((samples - 105) // 40 + 1, 0) for n, samples in LENGTHS.items()}
    assert {n: features(n).shape for n in LENGTHS} == {
        n: (frames, channels) for n, frames in expected.items()
    }
    for path in manifest.folder.glob("*.flac"):
        path.unlink()
    fresh = frontend.open_split(frontend.Settings(), folders)
    assert {n: fresh.frames(n) for n in LENGTHS} == expected


def test_neither_threads_nor_a_training_in_bf16_change_a_bit(opened: Opened) -> None:
    _, frontend, folders, _ = opened
    alone = frontend.open_split(frontend.Settings(), folders)("c")
    torch.set_num_threads(2)
    with torch.autocast("cpu", torch.bfloat16):
        found = frontend.open_split(frontend.Settings(), folders)("c")
    np.testing.assert_array_equal(found, alone)


def test_log_probabilities_alone_in_a_batch_and_from_disk(opened: Opened, tmp_path: Path) -> None:
    _, frontend, folders, channels = opened
    settings = frontend.Settings(stride=2)
    torch.manual_seed(0)
    encoder = frontend.new_encoder(settings, BERT, folders)
    assert (encoder.mask_channels, encoder.dim, encoder.stride) == (channels, 16, 2)
    assert not list(encoder.pretrained_parameters())
    config = AcousticConfig(settings.model_dump(mode="json"), encoder.config, targets=5)
    made = AcousticModel(config, encoder).eval()
    made.save_pretrained(tmp_path / "model")
    back = AcousticModel.from_pretrained(tmp_path / "model").eval()
    features = frontend.open_split(settings, folders)
    names = list(LENGTHS)
    feats, lengths_B = pad([features(n) for n in names])
    with torch.inference_mode():
        together: Tensor = made(feats, lengths_B)
        assert torch.equal(back(feats, lengths_B), together)
        for row, name in zip(together, names, strict=True):
            if name == "short":
                continue  # no frames
            alone = made(
                torch.from_numpy(features(name))[None], torch.tensor([features.frames(name)])
            )
            torch.testing.assert_close(row[: alone.shape[1]], alone[0], atol=1e-5, rtol=0)
    assert torch.isfinite(together).all()


def test_a_collapsed_codebook_is_refused_where_its_vectors_are_used(opened: Opened) -> None:
    _, frontend, folders, _ = opened
    report = {"collapsed": [0], "codes": 8, "groups": [], "pairs_in_use": 1}
    refuses: Callable[..., Any] = frontend.open_split
    (folders["quantizer"] / "codebook.json").write_text(json.dumps(report))
    if frontend.__name__.endswith("vq_wav2vec"):
        with pytest.raises(RunError, match="collapsed"):
            refuses(frontend.Settings(), folders)
    else:
        refuses(frontend.Settings(), folders)
