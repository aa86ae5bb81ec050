"""fairseq's RoBERTa on units, such as those of vq-wav2vec, as our BERT. No fairseq needed.

Both are Transformers with the norm after each sum: the same weights give the same hidden
vectors, to rounding. What differs is around the utterance. fairseq's RoBERTa saw
`<s> units </s>`; our BERT sees the units alone. So the rows of `<s>` and `</s>` fall away, and
the table of positions begins with the position of the first unit behind `<s>`: each
unit keeps the position that it was trained at, and `<s>` and `</s>` are not attended to.
The tokens are [PAD], [UNK] and [MASK] (fairseq's <pad>, <unk> and <mask>) and then the units
in the order of `dict.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from pipeline.checkpoint_file import check_shapes, unsupported
from pipeline.errors import UserError
from pipeline.quantizer_settings import MOST_CODES

EMBEDDING = "sentence_encoder.embed_tokens.weight"
BEFORE = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's rows before those of dict.txt
KEPT = ("<pad>", "<unk>", "<mask>")  # as our [PAD], [UNK], [MASK], in this order
FILLER = re.compile(r"madeupword\d+")  # fairseq fills its dictionary to a multiple of 8
UNIT = re.compile(r"\d{1,5}(-\d{1,5})*")
PAD_ROW = 1  # fairseq counts positions from the row behind that of <pad>
LAYER_NORM_EPS = 1e-5
ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "gelu_fast": "gelu_pytorch_tanh",
    "gelu_accurate": "gelu_pytorch_tanh",
}
PARTS = {  # of a layer: fairseq's name, transformers' name
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}
# Copies for a fast path, version numbers, and heads for classifying whole sentences.
LEFT_OUT = re.compile(
    r"(layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)|version|classification_heads\..*)$"
)
LAYER = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")


def read_dictionary(path: Path) -> list[str]:
    """fairseq's symbols by row: its own four, those of `dict.txt`, and `<mask>`.

    Raises:
        UserError: it is not there, or a line is not of a unit such as `12-305` and its count.
    """
    if not path.is_file():
        raise UserError(
            f"No such dictionary: {path}",
            constraint="the dict.txt that was published with the checkpoint",
            remedy="give it with --dict FILE",
        )
    symbols = list(BEFORE)
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _no_line(path, 1, "bytes that are no UTF-8") from error
    for number, line in enumerate(lines, 1):
        symbol, _, count = line.strip().rpartition(" ")
        if not count.isdigit() or not (
            UNIT.fullmatch(symbol) or FILLER.fullmatch(symbol) or symbol == "<mask>"
        ):
            raise _no_line(path, number, repr(line[:60]))
        symbols.append(symbol)
    if "<mask>" not in symbols:
        symbols.append("<mask>")
    if len(set(symbols)) != len(symbols):
        raise UserError(f"{path} has a unit twice.")
    return symbols


def _no_line(path: Path, number: int, found: str) -> UserError:
    return UserError(
        f"{path} is not the dictionary of a RoBERTa on units: line {number}.",
        constraint="a unit and its count, such as `12-305 4711`",
        found=found,
    )


def units_of(symbols: list[str]) -> NDArray[np.int64]:
    """The codes of each unit (T, G), in the dictionary's order.

    Raises:
        UserError: there are none, they differ in the number of groups, or a code is too large.
    """
    rows = [[int(c) for c in s.split("-")] for s in symbols if UNIT.fullmatch(s)]
    groups = {len(row) for row in rows}
    if len(groups) != 1 or max(map(max, rows)) >= MOST_CODES:
        raise UserError(
            "The dictionary's units are not those of one quantizer.",
            constraint=f"codes below {MOST_CODES}, as many in each unit",
            found=f"{len(rows)} units of {sorted(groups)} codes",
        )
    return np.array(rows, dtype=np.int64)


def bert_of(
    settings: Mapping[str, Any], weights: Mapping[str, Tensor], symbols: list[str]
) -> BertForMaskedLM:
    """A BERT with the weights of a checkpoint of fairseq's RoBERTa, its rows in our order.

    Args:
        settings: of the model, as fairseq names them.
        weights: the checkpoint's state dict, in fp32.
        symbols: as `read_dictionary` gives them.

    Raises:
        UserError: a setting or a weight that nothing here stands for, or another dictionary.
    """
    body, head = _parts(weights)
    table = body.get("embed_tokens.weight")
    if table is None or table.dim() != 2 or len(table) != len(symbols):
        raise UserError(
            "The dictionary is not that of the checkpoint.",
            constraint=f"{0 if table is None else len(table)} symbols",
            found=f"{len(symbols)}, with fairseq's own {len(BEFORE)} and <mask>",
            remedy="give the dict.txt that was published with the checkpoint, with --dict",
        )
    at = {symbol: row for row, symbol in enumerate(symbols)}
    order = [*(at[s] for s in KEPT), *(at[s] for s in symbols if UNIT.fullmatch(s))]
    renamed = _renamed(body, head, torch.tensor(order))
    output = renamed["cls.predictions.decoder.weight"]
    tied = torch.equal(output, renamed["bert.embeddings.word_embeddings.weight"])
    config = _config(settings, renamed, tied)
    with torch.device("meta"):
        expected = BertForMaskedLM(config).state_dict()
    check_shapes({name: tuple(w.shape) for name, w in expected.items()}, renamed)
    model: BertForMaskedLM = BertForMaskedLM(config)
    model.load_state_dict(renamed)
    model.eval()
    return model


def _parts(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the Transformer and of the output layer, without what stands before."""
    root = next(n for n in weights if n.endswith(EMBEDDING)).removesuffix(EMBEDDING)
    parts: dict[str, dict[str, Tensor]] = {"sentence_encoder.": {}, "lm_head.": {}}
    for name, value in weights.items():
        rest = name.removeprefix(root)
        part = next((p for p in parts if rest.startswith(p)), None)
        short = rest.removeprefix(part or "")
        if LEFT_OUT.match(short):
            continue
        if part is None:
            raise UserError(f"The checkpoint's weight {name[:80]} is not one of a RoBERTa.")
        parts[part][short] = value
    return parts["sentence_encoder."], parts["lm_head."]


def _renamed(
    body: Mapping[str, Tensor], head: Mapping[str, Tensor], order: Tensor
) -> dict[str, Tensor]:
    """The weights under transformers' names, rows of tokens in `order`.

    What has no such name keeps its own, for the check of names and shapes to tell.
    """
    embedding = body["embed_tokens.weight"][order]
    renamed = {
        "bert.embeddings.word_embeddings.weight": embedding,
        "bert.embeddings.token_type_embeddings.weight": torch.zeros(1, embedding.shape[1]),
    }
    for name, value in _unfused(body).items():
        layer = LAYER.fullmatch(name)
        if name == "embed_positions.weight":  # from the row behind <s>
            renamed["bert.embeddings.position_embeddings.weight"] = value[PAD_ROW + 2 :]
        elif name.startswith(("emb_layer_norm.", "layernorm_embedding.")):
            renamed[f"bert.embeddings.LayerNorm.{name.rpartition('.')[2]}"] = value
        elif layer and layer[2] in PARTS:
            renamed[f"bert.encoder.layer.{layer[1]}.{PARTS[layer[2]]}.{layer[3]}"] = value
        elif name != "embed_tokens.weight":
            renamed[name] = value
    for name, value in head.items():
        part, _, kind = name.rpartition(".")
        if name == "weight":
            renamed["cls.predictions.decoder.weight"] = value[order]
        elif name == "bias":
            renamed["cls.predictions.bias"] = renamed["cls.predictions.decoder.bias"] = value[order]
        else:
            ours = {"dense": "dense", "layer_norm": "LayerNorm"}.get(part, f"{part} (unknown)")
            renamed[f"cls.predictions.transform.{ours}.{kind}"] = value
    renamed.setdefault("cls.predictions.decoder.weight", embedding)
    return renamed


def _unfused(body: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values apart, which fairseq before 2019's end kept in one tensor."""
    apart: dict[str, Tensor] = {}
    for name, value in body.items():
        if ".self_attn.in_proj_" in name:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                apart[name.replace("in_proj_", f"{part}_proj.")] = third
        else:
            apart[name] = value
    return apart


def _config(settings: Mapping[str, Any], renamed: Mapping[str, Tensor], tied: bool) -> BertConfig:
    activation = settings.get("activation_fn", "gelu")
    if activation not in ACTIVATIONS:
        raise unsupported("activation_fn", ", ".join(ACTIVATIONS), activation)
    if settings.get("no_scale_embedding", True) is not True:
        raise unsupported("no_scale_embedding", "True", settings["no_scale_embedding"])
    if any(name.startswith("layer_norm.") for name in renamed):
        told = settings.get("encoder_normalize_before", "a norm before each sum")
        raise unsupported("encoder_normalize_before", "False: a norm after each sum", told)
    embedding = renamed["bert.embeddings.word_embeddings.weight"]
    positions = renamed.get("bert.embeddings.position_embeddings.weight")
    inner = renamed.get("bert.encoder.layer.0.intermediate.dense.bias")
    if positions is None or inner is None or not len(positions):
        raise UserError(
            "The checkpoint's RoBERTa has no learned positions or no layers.",
            constraint="embed_positions.weight and layers.0.fc1.bias among the weights",
        )
    heads = settings.get("encoder_attention_heads")
    if not isinstance(heads, int) or heads < 1 or embedding.shape[1] % heads:
        raise unsupported("encoder_attention_heads", f"a divisor of {embedding.shape[1]}", heads)
    layers = [int(m[1]) for n in renamed if (m := re.match(r"bert\.encoder\.layer\.(\d+)", n))]
    return BertConfig(
        vocab_size=len(embedding),
        hidden_size=embedding.shape[1],
        num_hidden_layers=len(set(layers)),
        num_attention_heads=heads,
        intermediate_size=len(inner),
        hidden_act=ACTIVATIONS[activation],
        hidden_dropout_prob=_share(settings, "dropout"),
        attention_probs_dropout_prob=_share(settings, "attention_dropout"),
        max_position_embeddings=len(positions),
        type_vocab_size=1,
        pad_token_id=0,
        layer_norm_eps=LAYER_NORM_EPS,
        tie_word_embeddings=tied,
    )


def _share(settings: Mapping[str, Any], name: str) -> float:
    value = settings.get(name, 0.1)
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise unsupported(name, "a number from 0 to 1", value)
    return float(value)
