"""A BERT made elsewhere: its vocabulary, and whether it fits the quantizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from pipeline.errors import UserError
from pipeline.recipe import BertSettings, QuantizerSettings
from pipeline.stage import StepContext
from stages.quantizer.model import QuantizerConfig, QuantizerModel
from stages.units import corpus, imported
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import VECTORS, Vocabulary, combinations, save_units

CODES = 4
Context = Callable[..., StepContext]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A quantizer of 2 x 4 codes, and units of speech in which 0-0 to 1-3 occur alike."""
    torch.manual_seed(0)
    config = QuantizerConfig(
        encoder_layers=[(8, 10, 5)], aggregator_layers=[(8, 2, 1)], codes=CODES, groups=2
    )
    QuantizerModel(config).save_pretrained(tmp_path / "quantizer")
    (tmp_path / "units").mkdir()
    units_FG = np.array(list(combinations(2, CODES))[:8] * 5, np.int16)
    write_shard(shard_path(tmp_path / "units", 0), ["u"], [units_FG])
    facts = {"utterances": 1, "groups": 2, "codes": CODES}
    (tmp_path / "units" / FACTS).write_text(facts_text(facts))
    return {"quantizer": tmp_path / "quantizer", "units/train": tmp_path / "units"}


def make_bert(folder: Path, units: list[tuple[int, ...]]) -> Path:
    folder.mkdir()
    save_units(np.array(units), folder)
    save_weights(folder, len(units) + 3)
    (folder / "stamp.json").write_text("{}")
    return folder


def save_weights(folder: Path, tokens: int) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "max_position_embeddings": 8}
    config = BertConfig(vocab_size=tokens, num_hidden_layers=1, num_attention_heads=1, **sizes)
    BertForMaskedLM(config).save_pretrained(folder)


def test_its_units_become_the_vocabulary_with_the_quantizer_s_vectors(
    context: Context, inputs: dict[str, Path], tmp_path: Path
) -> None:
    units = [(1, 3), (0, 0), (3, 1), (0, 2), (0, 1), (1, 1), (1, 0)]
    source = make_bert(tmp_path / "bert", units)
    ctx = context("vocabulary", inputs)
    imported.vocabulary(ctx, source=source)
    made = Vocabulary.load(ctx.folder)
    assert made.units_TG.tolist() == [list(u) for u in units]
    quantizer = QuantizerModel.from_pretrained(inputs["quantizer"])
    expected = quantizer.vectors(torch.tensor(units)).detach().numpy()
    np.testing.assert_allclose(made.vectors_TD, expected)
    taken = context("taken", {"vocabulary": ctx.folder})
    imported.bert(taken, source=source)
    weights = "model.safetensors"
    assert (taken.folder / weights).read_bytes() == (source / weights).read_bytes()
    assert (taken.folder / VECTORS).read_bytes() == (ctx.folder / VECTORS).read_bytes()
    assert not (taken.folder / "stamp.json").exists()


def test_the_units_it_must_know_are_read_shard_by_shard(
    context: Context, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = inputs["units/train"]
    write_shard(shard_path(folder, 1), ["v"], [np.full((40, 2), 3, np.int16)])
    (folder / FACTS).write_text(facts_text({"utterances": 2, "groups": 2, "codes": CODES}))
    read, known, order = corpus.pq.read_table, Vocabulary.known, []

    def reading(*args: Any, **kwargs: Any) -> Any:
        order.append("read")
        return read(*args, **kwargs)

    def asking(vocabulary: Vocabulary, units_FG: Any) -> Any:
        order.append("asked")
        return known(vocabulary, units_FG)

    monkeypatch.setattr(corpus.pq, "read_table", reading)
    monkeypatch.setattr(Vocabulary, "known", asking)
    source = make_bert(tmp_path / "bert", list(combinations(2, CODES))[:8])
    imported.vocabulary(context("vocabulary", inputs), source=source)
    assert order == ["read", "asked"] * 2


@pytest.mark.parametrize(
    ("units", "told"),
    [
        ([(0, 0, 0), (1, 2, 3)], r"(?s)other units.*2 groups, codes below 4.*3 groups"),
        ([(0, 0), (1, 4)], r"(?s)other units.*2 groups, codes below 4.*largest code 4"),
        ([(3, 3), (2, 2), (0, 0)], r"(?s)does not know.*at least 50%.*12.5%"),
    ],
)
def test_units_of_another_quantizer_are_refused(
    context: Context, inputs: dict[str, Path], tmp_path: Path, units: Any, told: str
) -> None:
    source = make_bert(tmp_path / "bert", units)
    with pytest.raises(UserError, match=told):
        imported.vocabulary(context("vocabulary", inputs), source=source)


@pytest.mark.parametrize("same", [True, False])
def test_a_bert_that_knows_its_codebook_wants_that_one(
    context: Context, inputs: dict[str, Path], tmp_path: Path, same: bool
) -> None:
    quantizer = QuantizerModel.from_pretrained(inputs["quantizer"])
    codebook_GVD = quantizer.vector_quantizer.codebook().detach().numpy() + (0 if same else 1)
    source = tmp_path / "bert"
    source.mkdir()
    Vocabulary.create(list(combinations(2, CODES)), codebook_GVD).save(source)
    ctx = context("vocabulary", inputs)
    if same:
        imported.vocabulary(ctx, source=source)
        assert len(Vocabulary.load(ctx.folder)) == 16 + 3
    else:
        with pytest.raises(UserError, match="another codebook"):
            imported.vocabulary(ctx, source=source)


@pytest.mark.parametrize("step", ["vocabulary", "bert"])
def test_a_bert_without_units_is_refused(
    context: Context, inputs: dict[str, Path], tmp_path: Path, step: str
) -> None:
    with pytest.raises(UserError, match=r"bert\.from"):
        getattr(imported, step)(context("c", inputs), source=tmp_path)


@pytest.mark.parametrize("theirs", ["same", "other units", "other size", "none"])
def test_a_bert_is_taken_over_only_with_its_own_units(
    context: Context, tmp_path: Path, theirs: str
) -> None:
    codebook_GVD = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    ours, source = tmp_path / "vocabulary", tmp_path / "bert"
    ours.mkdir()
    source.mkdir()
    Vocabulary.create(list(combinations(2, 4)), codebook_GVD).save(ours)
    if theirs != "none":
        units = list(combinations(2, 4))[:: -1 if theirs == "other units" else 1]
        Vocabulary.create(units, codebook_GVD).save(source)
    size = 20 if theirs == "other size" else 19
    save_weights(source, size)
    ctx = context("taken", {"vocabulary": ours})
    if theirs == "same":
        imported.bert(ctx, source=source)
        assert (ctx.folder / "config.json").exists()
    else:
        with pytest.raises(UserError, match=r"bert\.from"):
            imported.bert(ctx, source=source)


def told(folder: Path, name: str, **facts: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(facts))
    return folder


def test_what_cannot_fit_is_refused_before_anything_runs(tmp_path: Path) -> None:
    bert = BertSettings(**{"from": told(tmp_path / "b", imported.IMPORT, groups=2, codes=320)})
    imported.refuse_misfit(QuantizerSettings(codes=320), bert)
    imported.refuse_misfit(QuantizerSettings(codes=64), None)
    with pytest.raises(UserError, match=r"(?s)bert\.from.*codes below 64.*2 x 320"):
        imported.refuse_misfit(QuantizerSettings(codes=64), bert)
    with pytest.raises(UserError, match=r"(?s)bert\.from.*4 groups"):
        imported.refuse_misfit(QuantizerSettings(codes=320, groups=4), bert)
    given = QuantizerSettings(
        **{"from": told(tmp_path / "q", "config.json", groups=2, codes=300)}, codes=320
    )
    with pytest.raises(UserError, match="codes below 300"):
        imported.refuse_misfit(given, bert)
    plain = told(tmp_path / "p", "config.json", quantizer_type="none")
    with pytest.raises(UserError, match="no codebook"):
        imported.refuse_misfit(QuantizerSettings(**{"from": plain}), None)
