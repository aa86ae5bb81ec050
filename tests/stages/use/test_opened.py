"""A folder is data, whoever made it: what is wrong in it is told, what is code in it is not run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from stages.acoustic.encoders import UnitEncoder
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.acoustic.windows import refuse_few_positions
from stages.use.opened import Opened
from stages.use.transcriber import Transcriber

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """An exported folder to spoil."""
    shutil.copytree(exported, tmp_path / "copy")
    return tmp_path / "copy"


def change(path: Path, how: Change) -> None:
    told = json.loads(path.read_text())
    how(told)
    path.write_text(json.dumps(told))


class Evil:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_no_code_of_a_folder_is_run(copy: Path, finished: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    auto_map = {
        name: f"modeling_vqasr.{name}"
        for name in ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoFeatureExtractor")
    }
    for folder in (copy, copy / "quantizer", copy / "units", copy / "lm"):
        for name in ("modeling_vqasr.py", "__init__.py", "sitecustomize.py", "stages.py"):
            (folder / name).write_text(evil)
        for name in ("pytorch_model.bin", "adapter_model.bin", "model.pt", "training_args.bin"):
            (folder / name).write_bytes(pickle.dumps(Evil(mark)))
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "."}')
        for path in folder.glob("*.json"):
            if "config" in path.name:
                change(path, lambda told: told.update(auto_map=auto_map))
    asks = {"_attn_implementation": "evil/kernel", "attn_implementation": "evil/kernel"}
    asks |= {"quantization_config": {"quant_method": "evil"}, "_target_": "os.system"}
    change(copy / "config.json", lambda told: told.update(asks))
    change(copy / "config.json", lambda told: told["encoder"]["bert"].update(asks))
    change(copy / "quantizer" / "config.json", lambda told: told.update(asks))
    expected = list(finished.hypotheses("lexicon_beam").values())
    transcriber = Transcriber.load(copy, device="cpu")
    assert [transcriber.transcribe(path).text for path in finished.audio().values()] == expected
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()  # the trap works


@pytest.mark.parametrize("place", [".", "quantizer"])
def test_pickled_weights_do_not_stand_in_for_safetensors(
    copy: Path, tmp_path: Path, place: str
) -> None:
    weights = copy / place / "model.safetensors"
    weights.unlink()
    (copy / place / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        Opened.read(copy, greedy=True, device="cpu")
    weights.write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        Opened.read(copy, greedy=True, device="cpu")
    assert not (tmp_path / "mark").exists()


def more_layers(told: dict[str, Any]) -> None:
    told["encoder"]["bert"]["num_hidden_layers"] = 10**9


def larger(told: dict[str, Any]) -> None:
    told["encoder"]["bert"]["intermediate_size"] = 10**12


@pytest.mark.parametrize(
    ("name", "how", "told"),
    [
        ("config.json", lambda t: t.update(model_type="bert"), "another kind of model"),
        ("config.json", lambda t: t["frontend"].update(name="os"), "Unknown front-end 'os'"),
        ("config.json", lambda t: t.update(frontend={}), "no model that can be made"),
        ("config.json", lambda t: t.update(targets=3), "not those that its settings ask for"),
        ("config.json", lambda t: t["encoder"].pop("bert"), "no model that can be made"),
        ("config.json", more_layers, "num_hidden_layers cannot be"),
        ("config.json", larger, "not those that its settings ask for"),
        ("quantizer/config.json", lambda t: t.update(codes=5), "not those that its settings ask"),
        ("quantizer/config.json", lambda t: t.update(encoder_layers=7), "no model that can be"),
        ("lm/targets.json", lambda t: t["symbols"].append("é"), "targets are not those"),
        ("lm/targets.json", lambda t: t.clear(), "is damaged"),
        ("preprocessor_config.json", lambda t: t.update(longest_samples=10**9), "longest_samples"),
        ("preprocessor_config.json", lambda t: t.update(sampling_rate=8000), "sampling_rate"),
        ("preprocessor_config.json", lambda t: t.update(unit_precision="int4"), "unit_precision"),
        ("decoder_config.json", lambda t: t.update(decoder="os"), "Unknown decoder 'os'"),
        ("decoder_config.json", lambda t: t.update(beam="many"), "beam cannot be"),
        ("decoder_config.json", lambda t: t.update(beam=0), "is damaged"),
        ("decoder_config.json", lambda t: t.update(lm_weight=None), "lm_weight cannot be"),
    ],
)
def test_a_setting_that_cannot_be_is_told(copy: Path, name: str, how: Change, told: str) -> None:
    change(copy / name, how)
    with pytest.raises(UserError) as caught:
        Opened.read(copy, greedy=False, device="cpu")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors", "quantizer/config.json", "lm/targets.json"),
        *("units/unit_vectors.safetensors", "preprocessor_config.json", "decoder_config.json"),
        *("lm/lexicon.txt", "lm/lm.bin"),
    ],
)
def test_a_file_that_is_missing_or_cut_is_told(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).unlink()
    with pytest.raises(UserError):
        Opened.read(copy, greedy=False, device="cpu")
    (copy / name).write_bytes(whole[: len(whole) // 2] if name != "lm/lexicon.txt" else b"\xff")
    with pytest.raises(UserError):
        Opened.read(copy, greedy=False, device="cpu")


def test_greedy_leaves_language_model_and_lexicon_alone(copy: Path, finished: Any) -> None:
    (copy / "lm" / "lm.bin").write_bytes(b"damaged")
    (copy / "lm" / "lexicon.txt").unlink()
    transcriber = Transcriber.load(copy, greedy=True, device="cpu")
    (name, path), *_ = finished.audio().items()
    assert transcriber.transcribe(path).text == finished.hypotheses("greedy")[name]


def test_another_folder_is_no_exported_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="no exported folder"):
            Opened.read(folder, greedy=True, device="cpu")


def test_models_come_back_in_eval_mode_with_transformers_own_attention(exported: Path) -> None:
    opened = Opened.read(exported, greedy=True, device="cpu")
    assert not any(module.training for module in opened.model.modules())
    attention = opened.model.encoder.bert.config._attn_implementation
    assert attention in ("sdpa", "eager")
    assert isinstance(opened.model, torch.nn.Module)


@pytest.mark.parametrize(("positions", "fits"), [(16, True), (15, False)])
def test_a_model_without_positions_for_windows_is_refused(positions: int, fits: bool) -> None:
    bert = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    encoder = UnitEncoder({"bert": bert | {"max_position_embeddings": positions}})
    model = AcousticModel(AcousticConfig({"name": "units"}, encoder.config, 5, 2), encoder)
    if fits:
        refuse_few_positions(model)
        return
    with pytest.raises(UserError, match="cannot be read in windows"):
        refuse_few_positions(model)
