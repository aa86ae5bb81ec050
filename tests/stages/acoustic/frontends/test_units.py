from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.recipe import BertSettings, Recipe
from pipeline.stage import Step
from stages.acoustic.frontends import units
from stages.units import bert
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import Vocabulary, combinations

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


@pytest.mark.parametrize("start", ["codebook", "random"])
def test_the_encoder_starts_where_the_berts_pretraining_starts(
    folders: dict[str, Path], start: str
) -> None:
    settings = BertSettings(**SIZES, embedding_init=start)
    torch.manual_seed(5)
    encoder = units.new_encoder(units.Settings(), settings, folders)
    torch.manual_seed(5)
    untrained = bert.build(settings, Vocabulary.load(folders["vocabulary"]), 5).bert
    found = encoder.bert.state_dict()
    for name, tensor in untrained.state_dict().items():
        assert torch.equal(found[name], tensor), name
    torch.manual_seed(6)
    other = units.new_encoder(units.Settings(), settings, folders).bert.state_dict()
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(found[name], other[name])


def test_nothing_counts_as_pretrained_so_nothing_is_frozen(folders: dict[str, Path]) -> None:
    encoder = units.new_encoder(units.Settings(), BertSettings(**SIZES), folders)
    assert list(encoder.pretrained_parameters()) == []


def test_the_encoder_comes_back_from_its_config(folders: dict[str, Path]) -> None:
    made = units.new_encoder(units.Settings(), BertSettings(**SIZES), folders)
    back = units.empty_encoder(made.config)
    back.load_state_dict(made.state_dict())
    assert back.bert.config.hidden_dropout_prob == 0.2
    assert (back.dim, back.longest_frames) == (16, 32)


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
