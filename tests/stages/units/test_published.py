"""fairseq's RoBERTa on units as our BERT: the same hidden vectors and guesses from its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from pipeline.checkpoint_file import read_fairseq
from pipeline.errors import UserError
from stages.units.published import bert_of, read_dictionary, units_of
from stages.units.vocabulary import MASK, PAD, SPECIAL, UNK

FORMS = ("published, legacy file", "published", "today's")
PADDING = 1  # fairseq's row


def convert(path: Path) -> BertForMaskedLM:
    found = read_fairseq(path)
    return bert_of(found.settings, found.weights, read_dictionary(path.parent / "dict.txt"))


def rows(theirs: Any, tokens_BT: torch.Tensor, path: Path) -> torch.Tensor:
    """fairseq's numbers of our tokens."""
    dictionary = theirs.encoder.dictionary
    units_TG = units_of(read_dictionary(path.parent / "dict.txt"))
    names = ["<pad>", "<unk>", "<mask>", *("-".join(map(str, u)) for u in units_TG.tolist())]
    return torch.tensor([dictionary.index(name) for name in names])[tokens_BT]


def behind_s(theirs: Any) -> Any:
    """The model with each unit at the position that it has behind <s>, without <s>."""
    table = theirs.encoder.sentence_encoder.embed_positions.weight
    with torch.no_grad():
        table[PADDING + 1 : -1] = table[PADDING + 2 :].clone()
    return theirs


@pytest.mark.parametrize("settings", [{}, {"untie_weights_roberta": True, "activation_fn": "relu"}])
@pytest.mark.parametrize("form", FORMS)
def test_it_computes_what_fairseq_computes(
    make_roberta: Callable[..., Any], tmp_path: Path, form: str, settings: dict[str, Any]
) -> None:
    path = tmp_path / "c.pt"
    theirs = make_roberta(path, form, **settings)
    ours = convert(path)
    lengths_B = torch.tensor([30, 17, 1])
    tokens_BT = torch.randint(UNK, 16 + len(SPECIAL), (3, 30))  # units, and some [UNK], [MASK]
    attended_BT = torch.arange(30)[None] < lengths_B[:, None]
    tokens_BT[~attended_BT] = PAD
    theirs = behind_s(theirs)
    with torch.no_grad():
        fairseq_BT = rows(theirs, tokens_BT, path)
        _, extra = theirs(fairseq_BT, features_only=True, return_all_hiddens=True)
        logits_BTV, _ = theirs(fairseq_BT)
        told = ours(tokens_BT, attention_mask=attended_BT.long(), output_hidden_states=True)
    assert len(extra["inner_states"]) == len(told.hidden_states) == 3
    for states_TBD, states_BTD in zip(extra["inner_states"], told.hidden_states, strict=True):
        expected_BTD = states_TBD.transpose(0, 1)
        torch.testing.assert_close(
            states_BTD[attended_BT], expected_BTD[attended_BT], rtol=0, atol=1e-5
        )
    order = rows(theirs, torch.arange(16 + len(SPECIAL)), path)
    torch.testing.assert_close(
        told.logits[attended_BT], logits_BTV[..., order][attended_BT], rtol=0, atol=1e-4
    )


def test_the_longest_utterance_fills_all_positions(
    make_roberta: Callable[..., Any], tmp_path: Path
) -> None:
    theirs = behind_s(make_roberta(tmp_path / "c.pt"))
    ours = convert(tmp_path / "c.pt")
    longest = ours.config.max_position_embeddings
    assert longest == 64 - 1  # one position was for <s>
    tokens_BT = torch.randint(3, 19, (1, longest))
    with torch.no_grad():
        expected, _ = theirs(rows(theirs, tokens_BT, tmp_path / "c.pt"), features_only=True)
        found = ours.bert(tokens_BT).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_acoustic_model_s_encoder_gives_the_same(
    make_roberta: Callable[..., Any], tmp_path: Path
) -> None:
    from stages.acoustic.encoders import UnitEncoder

    make_roberta(tmp_path / "c.pt")
    ours = convert(tmp_path / "c.pt")
    ours.save_pretrained(tmp_path / "bert")
    encoder = UnitEncoder.pretrained(tmp_path / "bert").eval()
    tokens_BT = torch.randint(3, 19, (2, 20))
    with torch.no_grad():
        expected = ours.bert(tokens_BT).last_hidden_state
        found = encoder(tokens_BT, torch.ones(2, 20, dtype=torch.bool))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_units_stand_in_the_dictionary_s_order(
    make_roberta: Callable[..., Any], tmp_path: Path
) -> None:
    theirs = make_roberta(tmp_path / "c.pt", keep=11)
    symbols = read_dictionary(tmp_path / "dict.txt")
    assert symbols == theirs.encoder.dictionary.symbols
    units_TG = units_of(symbols)
    listed = (tmp_path / "dict.txt").read_text().split("\n")[:11]
    assert ["-".join(map(str, u)) for u in units_TG.tolist()] == [ln.split()[0] for ln in listed]
    assert units_TG.dtype == np.int64
    embedding = convert(tmp_path / "c.pt").bert.embeddings.word_embeddings.weight
    table = theirs.encoder.sentence_encoder.embed_tokens.weight
    names = {PAD: "<pad>", UNK: "<unk>", MASK: "<mask>", 3: listed[0].split()[0]}
    for token, name in names.items():
        assert torch.equal(embedding[token], table[theirs.encoder.dictionary.index(name)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0-1 5\n0-1 4\n", "has a unit twice"),
        ("0-1 5\nhello 4\n", "line 2"),
        ("0-1\n", "line 1"),
        ("0-1 5\n3 4\n", "not those of one quantizer"),
        ("0-99999 5\n", "not those of one quantizer"),
        ("madeupword0000 0\n", "not those of one quantizer"),
        ("", "not those of one quantizer"),
    ],
)
def test_a_dictionary_of_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "dict.txt").write_text(text)
    with pytest.raises(UserError, match=told):
        units_of(read_dictionary(tmp_path / "dict.txt"))


def test_a_dictionary_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dict FILE"):
        read_dictionary(tmp_path / "dict.txt")
    (tmp_path / "dict.txt").write_bytes(b"\xff\xfe 3\n")
    with pytest.raises(UserError, match="line 1"):
        read_dictionary(tmp_path / "dict.txt")


def test_another_dictionary_is_refused(make_roberta: Callable[..., Any], tmp_path: Path) -> None:
    make_roberta(tmp_path / "c.pt")
    lines = (tmp_path / "dict.txt").read_text().splitlines(keepends=True)
    (tmp_path / "dict.txt").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"(?s)not that of the checkpoint.*24 symbols.*23"):
        convert(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"encoder_normalize_before": True}, "encoder_normalize_before is not supported"),
        ({"no_scale_embedding": False}, "no_scale_embedding is not supported"),
        ({"activation_fn": "tanh"}, "activation_fn is not supported"),
        ({"layernorm_embedding": False}, "LayerNorm.weight is missing"),
        ({"encoder_learned_pos": False}, "no learned positions"),
    ],
)
def test_another_architecture_is_named(
    make_roberta: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    make_roberta(tmp_path / "c.pt", "today's", **settings)
    with pytest.raises(UserError, match=told):
        convert(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encoder_attention_heads": None}, "encoder_attention_heads is not supported"),
        ({"encoder_attention_heads": 5}, "encoder_attention_heads is not supported"),
        ({"dropout": "0.1"}, "dropout is not supported"),
    ],
)
def test_settings_that_no_weight_shows_must_be_there(
    make_roberta: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    make_roberta(tmp_path / "c.pt")
    found = read_fairseq(tmp_path / "c.pt")
    symbols = read_dictionary(tmp_path / "dict.txt")
    with pytest.raises(UserError, match=told):
        bert_of({**found.settings, **changes}, found.weights, symbols)


def test_weights_that_have_no_place_are_named(
    make_roberta: Callable[..., Any], tmp_path: Path
) -> None:
    make_roberta(tmp_path / "c.pt")
    found = read_fairseq(tmp_path / "c.pt")
    symbols = read_dictionary(tmp_path / "dict.txt")
    for name in ("decoder.sentence_encoder.segment_embeddings.weight", "w2v.mask_emb"):
        with pytest.raises(UserError, match=name.split(".")[-2 if "segment" in name else 0]):
            bert_of(found.settings, {**found.weights, name: torch.zeros(2, 16)}, symbols)
