"""A small corpus of digits, and checkpoints made with fairseq's own classes in the forms it has."""

from __future__ import annotations

import argparse
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.recipe import Recipe
from pipeline.recipe_file import load

WORDS = ["zero", "one", "two", "three", "four", "five", "six"]
SPEAKERS = ["anna", "bert", "carl", "dora"]
HEADER = "utt_id\tspeaker\tpath\ttranscript\n"

SMALL: dict[str, Any] = {
    "conv_feature_layers": "[(8, 10, 5), (8, 8, 4)] + [(8, 4, 4)] + [(8, 4, 2)] * 1",
    "conv_aggregator_layers": "[(8, 2, 1), (12, 3, 1)]",
    "vq_vars": 4,
    "prediction_steps": 2,
    "infonce": False,
}
# What the published files of 2019 and 2020 do not name: it was not there yet.
NEWER = ("activation", "offset", "vq_depth", "infonce", "_name")
FORMS = ("published, legacy file", "published", "today's")


def save(path: Path, settings: dict[str, Any], weights: dict[str, Any], form: str) -> None:
    """Write a checkpoint: `args` as a Namespace, or `cfg` as a dictionary."""
    import torch
    from fairseq.meters import AverageMeter, StopwatchMeter

    state: dict[str, Any] = {"model": OrderedDict(weights)}
    if form == "today's":
        state |= {"args": None, "cfg": {"common": {"seed": 1}, "model": settings}}
        state["extra_state"] = {"metrics": [], "previous_training_time": 1.5}
    else:
        old = {k: v for k, v in settings.items() if k not in NEWER}
        state |= {"args": argparse.Namespace(**old), "cfg": None}
        meters = OrderedDict(train_loss=AverageMeter(), train_wall=StopwatchMeter())
        state["extra_state"] = {"epoch": 3, "train_meters": meters}
    torch.save(state, path, _use_new_zipfile_serialization="legacy" not in form)


@pytest.fixture
def make_wav2vec() -> Callable[..., Any]:
    """`make_wav2vec(path, form, vq_type="kmeans", ...)`: writes a file, returns fairseq's model."""

    def make(path: Path, form: str = FORMS[1], **settings: Any) -> Any:
        import torch

        from stages.quantizer.fairseq.bridge import import_fairseq

        fairseq = import_fairseq("fairseq.models.wav2vec.wav2vec")
        cfg = fairseq.Wav2VecConfig(**(SMALL | settings))
        torch.manual_seed(0)
        model = fairseq.Wav2VecModel(cfg).eval()
        with torch.no_grad():  # norms and biases of a trained model are not 1 and 0
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            if cfg.vq_type == "kmeans":  # nor do its codes all lie at 0, far from the features
                model.vector_quantizer.embedding.normal_()
        told = {name: str(v) if name == "vq_temp" else v for name, v in vars(cfg).items()}
        save(path, told | {"arch": "wav2vec"}, model.state_dict(), form)
        return model

    return make


@pytest.fixture
def make_roberta() -> Callable[..., Any]:
    """`make_roberta(path, form, ...)`: writes a file and dict.txt, returns fairseq's model."""

    def make(
        path: Path,
        form: str = FORMS[1],
        codes: int = 4,
        keep: int | None = None,
        filler: int = 3,
        **settings: Any,
    ) -> Any:
        import torch

        from stages.quantizer.fairseq.bridge import import_fairseq

        import_fairseq()
        from fairseq.data import Dictionary
        from fairseq.models.roberta.model import RobertaModel

        pairs = list(itertools.product(range(codes), repeat=2))
        random.Random(0).shuffle(pairs)
        lines = [f"{a}-{b} {900 - n}" for n, (a, b) in enumerate(pairs[:keep])]
        lines += [f"madeupword{n:04d} 0" for n in range(filler)]
        dictionary_path = path.parent / "dict.txt"
        dictionary_path.write_text("".join(f"{line}\n" for line in lines))
        dictionary = Dictionary.load(str(dictionary_path))
        dictionary.add_symbol("<mask>")
        sizes: dict[str, Any] = {
            "encoder_layers": 2,
            "encoder_embed_dim": 16,
            "encoder_ffn_embed_dim": 24,
            "encoder_attention_heads": 4,
            "max_positions": 64,
        }
        args = argparse.Namespace(arch="roberta_base", **(sizes | settings))
        torch.manual_seed(1)
        model = RobertaModel.build_model(args, SimpleNamespace(source_dictionary=dictionary))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        weights = model.state_dict()
        if form != "today's":
            weights = as_in_2019(weights)
        save(path, vars(args), weights, form)
        return model.eval()

    return make


def as_in_2019(weights: dict[str, Any]) -> dict[str, Any]:
    """The names that the weights of a RoBERTa had: `decoder`, one tensor for q, k and v."""
    import torch

    old: dict[str, Any] = {}
    for name, value in weights.items():
        short = name.replace("encoder.", "decoder.", 1)
        if short.endswith("version") or short.split(".")[-1].startswith(
            ("in_proj_", "out_proj_", "fc1_", "fc2_")
        ):
            continue  # not there yet
        if ".q_proj." in short:
            parts = [weights[name.replace(".q_proj.", f".{p}_proj.")] for p in "qkv"]
            short, value = short.replace("q_proj.", "in_proj_"), torch.cat(parts)
        if ".k_proj." not in short and ".v_proj." not in short:
            old[short.replace("layernorm_embedding", "emb_layer_norm")] = value
    return old


@pytest.fixture
def digits_corpus(tmp_path: Path, write_noise: Callable[..., Path]) -> Path:
    """Seven recordings each of four speakers, and a list of speech without transcripts."""
    rows: dict[str, list[str]] = {"utts": [], "more": []}
    for number, speaker in enumerate([*SPEAKERS, "eve"]):
        for n in range(7):
            name = f"{n}_{speaker}"
            write_noise(tmp_path / f"digits/audio/{name}.wav", 0.3, 10 * number + n, 8000)
            listed = rows["utts" if speaker in SPEAKERS else "more"]
            listed.append(f"{name}\t{speaker}\taudio/{name}.wav\t{WORDS[n]}\n")
    for name, lines in rows.items():
        (tmp_path / f"digits/{name}.tsv").write_text(HEADER + "".join(lines))
    return tmp_path / "digits"


@pytest.fixture
def digits_recipe(
    digits_corpus: Path, write_recipe: Callable[..., Path], values: dict[str, Any]
) -> Callable[..., Recipe]:
    """`digits_recipe("section.key=value", ...)`: all folds of digits, others to pretrain on."""
    corpus = {"kind": "digits", "root": str(digits_corpus), "unlabelled": ["more.tsv"]}
    corpus |= {"pretrain_on": ["unlabelled"]}
    path = write_recipe(values | {"corpus": corpus, "folds": "all"})
    return lambda *changes: load(path, changes)
