from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.recipe import BertSettings
from stages.acoustic.frontends import unit_bert
from stages.units import bert
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import Vocabulary, combinations

SETTINGS = BertSettings(layers=2, dim=16, ffn_dim=16, heads=2, positions=32, dropout=0.2)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("vocabulary", "units", "bert")}
    for folder in made.values():
        folder.mkdir()
    codebook_GVD = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    vocabulary = Vocabulary.create(list(combinations(2, 3)), codebook_GVD)
    vocabulary.save(made["vocabulary"])
    units_FG = np.array([[0, 0], [2, 1], [2, 2]], np.int16)
    write_shard(shard_path(made["units"], 0), ["a", "b"], [units_FG, units_FG[:1]])
    (made["units"] / FACTS).write_text(facts_text({"utterances": 2, "groups": 2, "codes": 3}))
    torch.manual_seed(0)
    bert.build(SETTINGS, vocabulary, 1).save_pretrained(made["bert"])
    return made


def test_features_are_the_tokens_of_the_units(folders: dict[str, Path]) -> None:
    features = unit_bert.open_split(unit_bert.Settings(), folders)
    assert features("a").tolist() == [3, 10, 11]
    assert features("b").tolist() == [3]


def test_fine_tuning_starts_from_the_pretrained_weights(folders: dict[str, Path]) -> None:
    encoder = unit_bert.new_encoder(unit_bert.Settings(), SETTINGS, folders)
    from transformers import BertForMaskedLM

    pretrained = BertForMaskedLM.from_pretrained(folders["bert"]).bert.eval()
    found = encoder.bert.state_dict()
    for name, tensor in pretrained.state_dict().items():
        assert torch.equal(found[name], tensor), name
    tokens_BF = torch.tensor([[3, 10, 11]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    with torch.inference_mode():
        theirs = pretrained(tokens_BF).last_hidden_state
        torch.testing.assert_close(encoder.eval()(tokens_BF, everything), theirs)
    assert len(list(encoder.pretrained_parameters())) == len(list(encoder.parameters()))


def test_the_encoder_comes_back_from_its_config(folders: dict[str, Path]) -> None:
    made = unit_bert.new_encoder(unit_bert.Settings(), SETTINGS, folders)
    back = unit_bert.empty_encoder(made.config)
    back.load_state_dict(made.state_dict())
    assert back.bert.config.hidden_dropout_prob == 0.2
    assert (back.dim, back.stride, back.mask_channels) == (16, 1, 16)
    assert str(folders["bert"]) not in str(made.config)  # else every folder has another model
