"""A BERT that is frozen, whose layers are weighed, or that carries an acoustic encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import BertModel

from pipeline.finetune_settings import CtcSettings
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import BertSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import finetune, lm_stage
from stages.acoustic.encoders import UnitEncoder, attended
from stages.acoustic.frontends import unit_bert, units
from stages.acoustic.model import AcousticModel
from stages.acoustic.stacked import StackedEncoder
from stages.units import bert
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import Vocabulary, combinations

BERT = BertSettings(layers=2, dim=16, ffn_dim=16, heads=2, positions=64, dropout=0.2)
ACOUSTIC: dict[str, Any] = {"layers": 1, "dim": 12, "ffn_dim": 8, "heads": 2}
WAYS: dict[str, dict[str, Any]] = {
    "layer weights": {"layer_weights": True},
    "acoustic": {"acoustic": ACOUSTIC},
    "acoustic of stride 2": {"acoustic": ACOUSTIC | {"stride": 2}},
    "near": {"attention_frames": 3},
    "near, layer weights, LSTMs": {
        "attention_frames": 3,
        "layer_weights": True,
        "acoustic": ACOUSTIC | {"kind": "lstm"},
    },
    "frozen": {"freeze": True},
    "frozen, LSTMs": {"freeze": True, "acoustic": ACOUSTIC | {"kind": "lstm"}},
    "frozen, layer weights, acoustic": {
        "freeze": True,
        "layer_weights": True,
        "acoustic": ACOUSTIC,
    },
}
SEED = 1
FROZEN = [way for way in WAYS if "frozen" in way]
MakeContext = Callable[..., StepContext]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """What stage 5 reads of three utterances of 20 to 40 random units."""
    torch.set_num_threads(1)
    roles = ("vocabulary", "units", "bert", "manifest", "budget", "text", "targets")
    made = {name: tmp_path / name for name in roles}
    for folder in made.values():
        folder.mkdir()
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.create(
        list(combinations(2, 3)), rng.standard_normal((2, 3, 4)).astype(np.float32)
    )
    vocabulary.save(made["vocabulary"])
    texts = {"a": "go", "b": "see me", "c": "stop"}
    drawn = [rng.integers(0, 3, (20 + 10 * n, 2)).astype(np.int16) for n in range(len(texts))]
    write_shard(shard_path(made["units"], 0), list(texts), drawn)
    (made["units"] / FACTS).write_text(facts_text({"utterances": 3, "groups": 2, "codes": 3}))
    torch.manual_seed(0)
    bert.build(BERT, vocabulary, 1).save_pretrained(made["bert"])
    rows = [Utterance(i, "s", f"{i}.flac", True, 9, 1.0, text) for i, text in texts.items()]
    Manifest(rows, made["manifest"]).write()
    (made["budget"] / "ids.txt").write_text("".join(f"{i}\n" for i in texts))
    text = made.pop("text")
    (text / "lm_text.txt").write_text("".join(f"{t}\n" for t in texts.values()))
    (text / "lm_text.json").write_text('{"name": "toy"}')
    lm = StepContext(made["targets"], {"text": text}, "cpu", made["targets"])
    lm_stage.make_targets(lm, TextSettings())
    return made


def encoder(inputs: dict[str, Path], way: str) -> Any:
    torch.manual_seed(0)
    made = unit_bert.new_encoder(unit_bert.Settings(**WAYS[way]), BERT, inputs)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def speech(frames: int) -> torch.Tensor:
    return torch.randint(3, 12, (1, frames), generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("frames", [1, 7, 16])
def test_padding_changes_no_frame(inputs: dict[str, Path], way: str, frames: int) -> None:
    model, alone = encoder(inputs, way).eval(), speech(frames)
    together = torch.cat([torch.nn.functional.pad(alone, (0, 20 - frames), value=9), speech(20)])
    with torch.inference_mode():
        expected = model(alone, attended(torch.tensor([frames]), frames))
        found = model(together, attended(torch.tensor([frames, 20]), 20))
    kept = -(-frames // model.stride)
    assert found.shape == (2, -(-20 // model.stride), model.dim)
    torch.testing.assert_close(found[:1, :kept], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_weights_of_layers_choose_among_the_berts_own(inputs: dict[str, Path], layer: int) -> None:
    """Layer 0 are the embeddings; with equal weights, the start, all count alike."""
    own = BertModel.from_pretrained(inputs["bert"], add_pooling_layer=False).eval()
    under = UnitEncoder.pretrained(inputs["bert"], {"layer_weights": True}).eval()
    tokens_BF, everything = speech(9), torch.ones(1, 9, dtype=torch.bool)
    with torch.inference_mode():
        states = own(tokens_BF, output_hidden_states=True).hidden_states
        mean = torch.stack(states).mean(0)
        torch.testing.assert_close(under(tokens_BF, everything), mean)
        assert under.layer_logits is not None
        under.layer_logits[layer] = 100.0
        torch.testing.assert_close(under(tokens_BF, everything), states[layer])


@pytest.mark.parametrize("way", FROZEN)
def test_a_frozen_bert_has_no_dropout_and_no_gradient(inputs: dict[str, Path], way: str) -> None:
    model = encoder(inputs, way).train()
    under: UnitEncoder = getattr(model, "under", model)
    tokens_BF, everything = speech(9), torch.ones(1, 9, dtype=torch.bool)
    first, second = under(tokens_BF, everything), under(tokens_BF, everything)
    assert torch.equal(first, second)
    assert not any(p.requires_grad for p in under.bert.parameters())
    assert list(model.pretrained_parameters()) == []


@pytest.mark.parametrize("way", FROZEN)
def test_features_of_a_frozen_bert_are_the_same_in_a_training_in_bf16(
    inputs: dict[str, Path], way: str
) -> None:
    model = encoder(inputs, way).train()
    under: UnitEncoder = getattr(model, "under", model)
    tokens_BF, everything = speech(9), torch.ones(1, 9, dtype=torch.bool)
    plain_BFD = under(tokens_BF, everything)
    with torch.autocast("cpu", torch.bfloat16):
        trained_BFD = under(tokens_BF, everything)
    assert trained_BFD.dtype == torch.float32
    assert torch.equal(trained_BFD, plain_BFD)


def test_masks_of_a_frozen_bert_hide_its_vectors(inputs: dict[str, Path]) -> None:
    model = encoder(inputs, "frozen").eval()
    everything = torch.ones(1, 20, dtype=torch.bool)
    time_BF = torch.arange(20)[None] % 5 == 0
    channel_BD = torch.arange(16)[None] < 4
    plain_BFD = model(speech(20), everything)
    found_BFD = model(speech(20), everything, time_BF, channel_BD)
    hidden_BFD = time_BF[..., None] | channel_BD[:, None]
    assert torch.equal(found_BFD, plain_BFD.masked_fill(hidden_BFD, 0.0))


def train(ctx: StepContext, way: str, **named: Any) -> dict[str, torch.Tensor]:
    """The weights of a model trained for a few updates."""
    settings = CtcSettings(
        updates=4, learning_rate=0.1, subsample=1, batch_frames=100, precision="fp32", **named
    )
    frontend = unit_bert.Settings(**WAYS[way])
    finetune.finetune(ctx, frontend=frontend, bert=BERT, settings=settings, seed=SEED)
    weights: dict[str, torch.Tensor] = AcousticModel.from_pretrained(ctx.folder).state_dict()
    return weights


def changed(
    inputs: dict[str, Path], weights: dict[str, torch.Tensor], way: str
) -> tuple[bool, bool]:
    """Whether the BERT, and whether all that the labels teach, is not as it was."""
    before = BertModel.from_pretrained(inputs["bert"], add_pooling_layer=False).state_dict()
    own = {name.partition(".bert.")[2]: name for name in weights if ".over." not in name}
    moved = [not torch.equal(weights[own[name]], value) for name, value in before.items()]
    logits = weights.get("encoder.layer_logits", weights.get("encoder.under.layer_logits"))
    others = (logits is None or bool(logits.any())) and bool(weights["ctc.bias"].abs().max() > 0.3)
    return any(moved), others and all(over_moved(inputs, weights, way))


def over_moved(inputs: dict[str, Path], weights: dict[str, torch.Tensor], way: str) -> list[bool]:
    """Of each layer on the BERT, but for what no input reaches, whether it is not as it began."""
    torch.manual_seed(SEED)  # as a training starts
    start = unit_bert.new_encoder(unit_bert.Settings(**WAYS[way]), BERT, inputs).state_dict()
    unused = ("word_embeddings", "position_ids", "token_type_ids")
    return [
        not torch.equal(weights[f"encoder.{name}"], value)
        for name, value in start.items()
        if name.startswith("over.") and not any(part in name for part in unused)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_what_trains_is_what_is_not_frozen(
    context: MakeContext, inputs: dict[str, Path], way: str
) -> None:
    weights = train(context("model", inputs), way)
    assert changed(inputs, weights, way) == (way not in FROZEN, True)
    assert bool(over_moved(inputs, weights, way)) == ("acoustic" in WAYS[way])


def test_a_bert_that_rests_at_first_leaves_the_layers_on_it_to_learn(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    weights = train(context("resting", inputs), "acoustic", freeze_updates=4)
    assert changed(inputs, weights, "acoustic") == (False, True)
    weights = train(context("thawed", inputs), "acoustic", freeze_updates=3)
    assert changed(inputs, weights, "acoustic") == (True, True)


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_model_says_the_same(
    context: MakeContext, inputs: dict[str, Path], way: str
) -> None:
    ctx = context("model", inputs)
    train(ctx, way)
    one, two = (AcousticModel.from_pretrained(ctx.folder).eval() for _ in range(2))
    assert one.config.frontend == unit_bert.Settings(**WAYS[way]).signed()
    found = finetune.compute_log_probs(ctx, inputs | {"model": ctx.folder}).log_probs
    features = unit_bert.open_split(unit_bert.Settings(), inputs)
    for name, log_probs_TV in found.items():
        tokens_BF = torch.from_numpy(features(name))[None]
        with torch.inference_mode():
            alone = two(tokens_BF, torch.tensor([tokens_BF.shape[1]]))[0].numpy()
        np.testing.assert_allclose(log_probs_TV, alone, atol=1e-5)


def test_a_plain_bert_signs_by_its_name_and_each_way_by_its_own() -> None:
    assert unit_bert.Settings().signed() == {"name": "unit_bert"}
    signed = [str(unit_bert.Settings(**way).signed()) for way in WAYS.values()]
    assert len(set(signed)) == len(WAYS)


def test_models_on_a_frozen_bert_are_of_a_later_version_than_others() -> None:
    """Their features were bf16 in training once. Masks over channels make a version too."""
    for probability, later in ((0.0, 0), (0.1, 2)):
        settings = CtcSettings(channel_mask_probability=probability)
        versions = {w: finetune.version(unit_bert.Settings(**WAYS[w]), settings) for w in WAYS}
        assert versions == {w: finetune.VERSION + (w in FROZEN) + later for w in WAYS}


def test_near_attention_holds_in_a_transformer_on_the_bert(inputs: dict[str, Path]) -> None:
    settings = unit_bert.Settings(attention_frames=2, acoustic=ACOUSTIC)
    made = unit_bert.new_encoder(settings, BERT, inputs)
    assert isinstance(made, StackedEncoder)
    assert (made.under.attention_frames, made.over.config["attention_frames"]) == (2, 2)


@pytest.mark.parametrize("way", [way for way in WAYS if "frozen" not in way])
def test_units_take_the_same_encoder_without_pretraining(inputs: dict[str, Path], way: str) -> None:
    pretrained = unit_bert.new_encoder(unit_bert.Settings(**WAYS[way]), BERT, inputs)
    made = units.new_encoder(units.Settings(**WAYS[way]), BERT, inputs)
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (pretrained, made)]
    assert shapes[0] == shapes[1]
    assert list(made.pretrained_parameters()) == []
    back = units.empty_encoder(made.config)
    back.load_state_dict(made.state_dict())
    feats, attended_BF = speech(16), attended(torch.tensor([16]), 16)
    with torch.inference_mode():
        assert torch.equal(back.eval()(feats, attended_BF), made.eval()(feats, attended_BF))


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValidationError, match="dim 12 is not a multiple of heads 5"):
        unit_bert.Settings(acoustic=ACOUSTIC | {"heads": 5})


def test_lstms_have_no_heads_that_could_misfit() -> None:
    acoustic = {"kind": "lstm", "layers": 1, "dim": 130}
    assert unit_bert.Settings(acoustic=acoustic).acoustic.dim == 130  # type: ignore[union-attr]
