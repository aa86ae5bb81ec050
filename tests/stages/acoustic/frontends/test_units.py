from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.recipe import BertSettings, Recipe
from pipeline.stage import Step
from stages.acoustic.embedded import EmbeddedUnits
from stages.acoustic.encoders import UnitEncoder
from stages.acoustic.frontends import units
from stages.units import bert
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import MASK, Vocabulary, combinations

SIZES = {"layers": 2, "dim": 16, "ffn_dim": 16, "heads": 2, "positions": 32, "dropout": 0.2}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("vocabulary", "units")}
    for folder in made.values():
        folder.mkdir()
    codebook_GVD = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    Vocabulary.create(list(combinations(2, 3)), codebook_GVD).save(made["vocabulary"])
    write_shard(shard_path(made["units"], 0), ["a"], [np.array([[0, 0], [2, 1]], np.int16)])
    (made["units"] / FACTS).write_text(facts_text({"utterances": 1, "groups": 2, "codes": 3}))
    return made


def test_features_are_the_tokens_of_the_units(folders: dict[str, Path]) -> None:
    features = units.open_split(units.Settings(), folders)
    assert features("a").tolist() == [3, 10]


def transformer(settings: BertSettings, folders: dict[str, Path]) -> UnitEncoder:
    made = units.new_encoder(units.Settings(), settings, folders)
    assert isinstance(made, UnitEncoder)
    return made


@pytest.mark.parametrize("start", ["codebook", "random"])
def test_the_encoder_starts_where_the_berts_pretraining_starts(
    folders: dict[str, Path], start: str
) -> None:
    settings = BertSettings(**SIZES, embedding_init=start)
    torch.manual_seed(5)
    encoder = transformer(settings, folders)
    torch.manual_seed(5)
    untrained = bert.build(settings, Vocabulary.load(folders["vocabulary"]), 5).bert
    found = encoder.bert.state_dict()
    for name, tensor in untrained.state_dict().items():
        assert torch.equal(found[name], tensor), name
    torch.manual_seed(6)
    other = transformer(settings, folders).bert.state_dict()
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(found[name], other[name])


def test_nothing_counts_as_pretrained_so_nothing_is_frozen(folders: dict[str, Path]) -> None:
    encoder = units.new_encoder(units.Settings(), BertSettings(**SIZES), folders)
    assert list(encoder.pretrained_parameters()) == []


def test_the_encoder_comes_back_from_its_config(folders: dict[str, Path]) -> None:
    made = units.new_encoder(units.Settings(), BertSettings(**SIZES), folders)
    back = units.empty_encoder(made.config)
    assert isinstance(back, UnitEncoder)
    back.load_state_dict(made.state_dict())
    assert back.bert.config.hidden_dropout_prob == 0.2
    assert (back.dim, back.longest_frames) == (16, 32)


def lstms(folders: dict[str, Path]) -> EmbeddedUnits:
    torch.manual_seed(5)
    made = units.new_encoder(units.Settings(encoder="lstm"), BertSettings(**SIZES), folders)
    assert isinstance(made, EmbeddedUnits)
    return made.eval()


def test_lstms_read_vectors_that_start_as_the_berts_do(folders: dict[str, Path]) -> None:
    vocabulary = Vocabulary.load(folders["vocabulary"])
    torch.manual_seed(5)
    untrained = bert.build(BertSettings(**SIZES), vocabulary, 5).bert
    expected = untrained.embeddings.word_embeddings.weight
    assert torch.equal(lstms(folders).vectors.weight, expected)
    assert list(lstms(folders).pretrained_parameters()) == []


def test_of_a_masked_frame_lstms_see_that_it_is_masked_and_no_more(
    folders: dict[str, Path],
) -> None:
    encoder, tokens_BF = lstms(folders), torch.randint(3, 12, (1, 20))
    attended_BF = torch.ones(1, 20, dtype=torch.bool)
    mask_BF = torch.arange(20)[None] == 7
    other_BF = tokens_BF.masked_fill(mask_BF, 5 if tokens_BF[0, 7] != 5 else 6)
    with torch.inference_mode():
        seen, unseen = (encoder(t, attended_BF) for t in (tokens_BF, other_BF))
        hidden, too = (encoder(t, attended_BF, mask_BF) for t in (tokens_BF, other_BF))
        told = encoder(tokens_BF.masked_fill(mask_BF, MASK), attended_BF)
    assert not torch.equal(seen, unseen)
    assert torch.equal(hidden, too)
    assert torch.equal(hidden, told)


@pytest.mark.parametrize("frames", [1, 9])
def test_padding_changes_no_frame_of_lstms(folders: dict[str, Path], frames: int) -> None:
    encoder, tokens_BF = lstms(folders), torch.randint(3, 12, (1, frames))
    padded_BF = torch.nn.functional.pad(tokens_BF, (0, 6))
    with torch.inference_mode():
        alone = encoder(tokens_BF, torch.ones_like(tokens_BF, dtype=torch.bool))
        beside = encoder(padded_BF, padded_BF > 0)[:, :frames]
    torch.testing.assert_close(alone, beside)


def test_lstms_come_back_from_their_config(folders: dict[str, Path]) -> None:
    made = lstms(folders)
    back = units.empty_encoder(made.config)
    assert isinstance(back, EmbeddedUnits)
    back.load_state_dict(made.state_dict())
    assert (back.dim, back.stride, back.mask_channels) == (made.dim, 1, 16)


@pytest.mark.parametrize("name", ["units", "kmeans_mfcc"])
def test_the_transformer_is_signed_as_before_there_was_a_choice(
    make_recipe: Callable[..., Recipe], name: str
) -> None:
    signed = make_recipe(f"frontend={name}").frontend.signed()
    assert "encoder" not in signed
    with_lstms = make_recipe(f"frontend={{name: {name}, encoder: lstm}}").frontend.signed()
    assert with_lstms == signed | {"encoder": "lstm"}


def test_few_or_all_frames_are_seen_as_a_recipe_says(folders: dict[str, Path]) -> None:
    made = units.new_encoder(units.Settings(attention_frames=4), BertSettings(**SIZES), folders)
    back = units.empty_encoder(made.config)
    assert isinstance(back, UnitEncoder)
    assert back.attention_frames == 4
    assert "attention_frames" not in transformer(BertSettings(**SIZES), folders).config
    assert units.Settings(attention_frames=4).signed() == {"name": "units", "attention_frames": 4}


@pytest.mark.parametrize("name", ["units", "kmeans_mfcc", "log_mel"])
def test_what_is_of_a_transformer_is_refused_under_lstms(
    make_recipe: Callable[..., Recipe], name: str
) -> None:
    with pytest.raises(UserError, match="attention_frames is of a Transformer"):
        make_recipe(f"frontend={{name: {name}, encoder: lstm, attention_frames: 5}}")


def test_units_and_bert_are_shared_up_to_stage_2(
    make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]]
) -> None:
    with_bert, without = (make_plan(make_recipe(f"frontend={f}")) for f in ("unit_bert", "units"))
    shared = {s.artifact_name for s in with_bert} & {s.artifact_name for s in without}
    assert shared == {s.artifact_name for s in without if s.number in (0, 1, 2, 4)}
    assert not any(s.number == 3 for s in without)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("bert.updates=9", True),
        ("bert.mask_span=3", True),
        ("bert.embedding_init=random", False),
        ("bert.layers=2", False),
        ("bert.position_init=sinusoidal", False),
    ],
)
def test_of_the_bert_only_size_and_start_count(
    make_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    change: str,
    same: bool,
) -> None:
    def signature(*changes: str) -> str:
        made = make_plan(make_recipe("frontend=units", *changes))
        return next(s.signature for s in made if s.number == 5)

    assert (signature() == signature(change)) is same
