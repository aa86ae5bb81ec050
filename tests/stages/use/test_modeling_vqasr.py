"""The modelling file for environments without vqasr: the same numbers, the same words."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from pipeline import audio, cuts
from pipeline.recipe import BertSettings, TextSettings
from stages.acoustic import targets
from stages.acoustic.embedded import EmbeddedUnits
from stages.acoustic.encoders import UnitEncoder
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.acoustic.stacked import StackedEncoder
from stages.acoustic.windows import log_probs
from stages.quantizer.inference import Inference
from stages.quantizer.model import QuantizerConfig, QuantizerModel
from stages.units.bert import bert_config
from stages.use import modeling_vqasr
from stages.use.modeling_vqasr import Parts, Quantizer, VqasrConfig, VqasrModel
from stages.use.opened import Opened
from stages.use.transcriber import Transcriber

KNOWN = {"json", "math", "sys", "collections", "itertools", "pathlib", "typing", "__future__"} | {
    "soundfile",
    "torch",
    "transformers",
    "safetensors",  # of transformers' own needs
}
LAYERS = [[12, 10, 5], [12, 8, 4], [12, 4, 2], [12, 1, 1]]
KINDS: list[dict[str, Any]] = [
    {"quantizer_type": "gumbel"},
    {"quantizer_type": "gumbel", "projection_depth": 2, "activation": "relu", "input_norm": True},
    {"quantizer_type": "gumbel", "combine_groups": True, "log_compression": False},
    {"quantizer_type": "kmeans", "codebook_init": "normal"},
    {"quantizer_type": "kmeans", "codebook_init": "normal", "combine_groups": True},
    {"quantizer_type": "kmeans", "codebook_init": "normal", "input_norm": True, "groups": 3},
    {"quantizer_type": "gumbel", "skip_connections_encoder": True, "affine_norm": False},
]


@pytest.fixture(scope="module")
def model(exported: Path) -> VqasrModel:
    return VqasrModel.from_pretrained(exported)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_codes_are_those_of_the_quantizer(
    kind: dict[str, Any], make_speech: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    config = QuantizerConfig(encoder_layers=LAYERS, aggregator_layers=[[12, 2, 1]], codes=5, **kind)
    ours = QuantizerModel(config)
    theirs = Quantizer(config.to_dict()).eval()
    weights = ours.state_dict()
    theirs.load_state_dict({name: weights[name] for name in theirs.state_dict()})
    for seconds in (0.05, 1.0):
        samples = torch.from_numpy(make_speech(seconds, 3))
        (expected,) = Inference(ours).codes([samples])
        with torch.no_grad():
            found = theirs(samples)
        differ = int((found != expected.units_FG).any(1).sum())
        assert (
            found.shape == expected.units_FG.shape == (theirs.frames(len(samples)), config.groups)
        )
        assert differ <= expected.near_ties
        assert len(found.unique()) > 1
    assert theirs.frames(10) == ours.frames(10) == 0


@pytest.mark.parametrize("subsample", [1, 3])
@pytest.mark.parametrize("frames", [64, 65, 131, 400])
@pytest.mark.parametrize("kind", ["bert", "near bert", "lstms", "lstms on layers of a bert"])
def test_windows_beyond_the_positions_are_those_of_stage_6(
    subsample: int, frames: int, kind: str
) -> None:
    torch.manual_seed(0)
    sizes = BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=64)
    bert: dict[str, Any] = {"bert": bert_config(sizes, 28)}
    lstms = {"channels": 16, "stride": 2, "layers": 2, "hidden": 12, "dim": 8, "dropout": 0.1}
    encoder: Any = {
        "bert": lambda: UnitEncoder(bert),
        "near bert": lambda: UnitEncoder(bert | {"attention_frames": 4}),
        "lstms": lambda: EmbeddedUnits({"tokens": 28, "over": lstms}),
        "lstms on layers of a bert": lambda: StackedEncoder(
            {"under": bert | {"layer_weights": True, "frozen": True}, "over": lstms}
        ),
    }[kind]()
    ours = AcousticModel(
        AcousticConfig({"name": "unit_bert"}, encoder.config, 9, subsample), encoder
    ).eval()
    theirs = VqasrModel(VqasrConfig({}, encoder.config, 9, subsample)).eval()
    theirs.load_state_dict(ours.state_dict())
    tokens_F = np.random.RandomState(frames).randint(3, 28, frames)
    with torch.no_grad():
        found_TV = theirs.log_probs(torch.from_numpy(tokens_F)).numpy()
    np.testing.assert_allclose(found_TV, log_probs(ours, tokens_F, "cpu"), atol=1e-5)


def test_log_probabilities_are_those_of_vqasr(
    model: VqasrModel, exported: Path, finished: Any
) -> None:
    opened = Opened.read(exported, greedy=True, device="cpu")
    for path in finished.audio().values():
        samples, _ = audio.read(path)
        (expected,) = opened.log_probs([samples])
        with torch.no_grad():
            found = model.log_probs(model.parts[0].tokens(torch.from_numpy(samples)))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_pieces_are_those_of_vqasr(often_cut: Path, make_speech: Callable[..., Any]) -> None:
    (parts,) = VqasrModel.from_pretrained(often_cut).parts
    for seconds in (1.0, 4.1, 4.5, 14.0):
        samples = make_speech(seconds, 9)
        found = [len(piece) for piece in parts.pieces(torch.from_numpy(samples))]
        spans = cuts.pieces(samples, parts.longest, 16_000)
        assert found == [end - start for start, end in spans]


def test_a_long_recording_is_that_of_the_greedy_transcriber(
    often_cut: Path, tmp_path: Path, make_speech: Callable[..., Any]
) -> None:
    model = VqasrModel.from_pretrained(often_cut)
    soundfile.write(tmp_path / "a.wav", make_speech(12.0, 4), 16_000)
    expected = Transcriber.load(often_cut, greedy=True, device="cpu").transcribe(tmp_path / "a.wav")
    assert model.transcribe(tmp_path / "a.wav") == expected.text != ""


LSTMS = {
    "units": "frontend={name: units, encoder: lstm}",
    "unit_bert": "frontend={name: unit_bert, attention_frames: 3, layer_weights: true, "
    "acoustic: {kind: lstm, layers: 1, dim: 12, stride: 2}}",
}


@pytest.mark.parametrize("frontend", LSTMS)
def test_units_under_lstms_run_to_a_folder_whose_words_are_those_of_stage_6(
    finish: Callable[..., Any], tmp_path: Path, frontend: str
) -> None:
    finished = finish(LSTMS[frontend], f"name=lstms_{frontend}")
    folder = finished.export(tmp_path / "model")
    alone, ours = VqasrModel.from_pretrained(folder), Transcriber.load(folder, greedy=True)
    audio_of, expected = finished.audio(), finished.hypotheses("greedy")
    assert any(expected.values())
    for found in (alone.transcribe, lambda path: ours.transcribe(path).text):
        assert {name: found(path) for name, path in audio_of.items()} == expected


def test_near_frames_are_near_under_each_attention_of_transformers() -> None:
    torch.manual_seed(0)
    sizes = BertSettings(layers=2, dim=16, ffn_dim=16, heads=2, positions=64)
    config = {"bert": bert_config(sizes, 28), "attention_frames": 2}
    model = VqasrModel(VqasrConfig({}, config, 9)).eval()
    tokens_F = torch.randint(3, 28, (30,))
    found = []
    for kind in ("sdpa", "eager"):
        model.encoder.bert.set_attn_implementation(kind)
        with torch.no_grad():
            found.append(model(tokens_F))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


def test_units_that_the_bert_does_not_know_become_the_nearest(model: VqasrModel) -> None:
    (parts,) = model.parts
    known = dict(parts.token_of)
    unit, token = next(iter(known.items()))
    assert parts._nearest(unit) == token


@pytest.mark.parametrize("units", ["letters", "words", "sentencepiece"])
def test_text_is_that_of_the_targets(tmp_path: Path, model: VqasrModel, units: str) -> None:
    settings = TextSettings(units=units, pieces=40)
    sentences = ["turn left", "turn right now", "go home", "stop", "left and right"] * 3
    made = targets.make(tmp_path, settings, sentences)
    told = json.loads((tmp_path / "targets.json").read_text())
    parts = object.__new__(Parts)
    parts.kind, parts.symbols = told["units"], told["symbols"]
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(1, len(made), rng.integers(0, 9)).tolist()
        assert parts.text(ids) == made.decode(ids)


def test_what_lies_above_the_bandwidth_is_removed(model: VqasrModel) -> None:
    parts = object.__new__(Parts)
    parts.rate_hz, parts.bandwidth_hz = 16_000, 4000
    seconds = torch.arange(16_001) / 16_000
    low, high = (torch.sin(2 * torch.pi * hz * seconds) for hz in (1000, 6000))
    found = parts.band_limited(low + high)
    assert (found - low)[1000:-1000].abs().max() < 0.02
    parts.bandwidth_hz = None
    assert parts.band_limited(high) is high


def test_another_sample_rate_is_refused(
    model: VqasrModel, tmp_path: Path, make_speech: Callable[..., Any]
) -> None:
    soundfile.write(tmp_path / "a.wav", make_speech(1.0, 1, 8000), 8000)
    with pytest.raises(ValueError, match="8000 Hz, and must have 16000"):
        model.transcribe(tmp_path / "a.wav")


def test_the_file_in_the_folder_is_the_reviewed_one_and_imports_nothing_else(
    exported: Path,
) -> None:
    source = Path(modeling_vqasr.__file__).read_bytes()
    assert (exported / "modeling_vqasr.py").read_bytes() == source
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= KNOWN


CODE = """
import json, sys

BLOCKED = {names}

class Without:
    # A finder that finds nothing of what is blocked: as if it were not installed.
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
from transformers import AutoModel
folder, *files = sys.argv[1:]
try:
    AutoModel.from_pretrained(folder, trust_remote_code=False)
    raise SystemExit("code was run unasked")
except (ValueError, KeyError) as error:
    refused = str(error)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
sys.path.insert(0, folder)
from modeling_vqasr import VqasrModel
direct = VqasrModel.from_pretrained(folder)
told = [[m.transcribe(file) for file in files] for m in (model, direct)]
print(json.dumps({{"refused": refused, "told": told, "modules": sorted(sys.modules)}}))
"""


def test_without_vqasr_the_words_are_those_of_stage_6(
    exported: Path, finished: Any, tmp_path: Path
) -> None:
    """In a process that cannot import vqasr and what only vqasr needs; on explicit opt-in."""
    names = {"pipeline", "stages", "fairseq", "kenlm", "jiwer", "flashlight", "sentencepiece"}
    names |= {"soxr", "pydantic", "click", "hydra", "omegaconf", "pyarrow", "espeakng_loader"}
    files = [str(path) for path in finished.audio().values()]
    code = CODE.format(names=names)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-B", "-c", code, str(exported), *files]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    expected = list(finished.hypotheses("greedy").values())
    assert found["told"] == [expected, expected]
    assert "trust_remote_code" in found["refused"]
    assert not names & {name.split(".")[0] for name in found["modules"]}
