"""Hostile files, each with what reads it: cases 30 to 32, and what the fuzz test mutates."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

Read = Callable[[], Any]
MARK = "ran"  # a file of this name tells that code of a file was run
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "demo.yaml"


class Calls:
    """Pickled as a call that leaves MARK."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder / MARK}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def save(path: Path, changes: dict[str, Any] | None = None, **how: Any) -> Path:
    """A checkpoint of fairseq's wav2vec: one layer, no codes."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    args = {"arch": "wav2vec", "conv_feature_layers": "[(8, 10, 5)]", "vq_type": "none"}
    args |= {"conv_aggregator_layers": "[(8, 2, 1)]", "vq_temp": "(2.0, 0.5, 0.9)"}
    state: dict[str, Any] = {"args": argparse.Namespace(**args), "model": wav2vec()}
    torch.save(state | (changes or {}), path, **how)
    return path


def wav2vec() -> dict[str, Any]:
    """The weights that the settings of `save` ask for."""
    import torch

    from stages.quantizer.model import QuantizerConfig, QuantizerModel

    torch.manual_seed(0)
    config = QuantizerConfig(
        [(8, 10, 5)], [(8, 2, 1)], activation="relu", quantizer_type="none", dropout=0.0
    )
    return dict(QuantizerModel(config).state_dict())


def imported(path: Path) -> Read:
    """What `vqasr import-fairseq` reads of a wav2vec."""

    def read() -> object:
        from pipeline.checkpoint_file import read_fairseq
        from stages.quantizer.published import quantizer_of

        found = read_fairseq(path)
        return quantizer_of(found.settings, found.weights)

    return read


def taken_over(folder: Path) -> Read:
    """What a recipe's `quantizer.from` reads."""

    def read() -> object:
        from stages.quantizer.stage import _given

        return _given(folder)

    return read


def quantizer(folder: Path) -> Path:
    """An exported quantizer."""
    from stages.quantizer.model import QuantizerConfig, QuantizerModel

    config = QuantizerConfig([(8, 10, 5)], [(8, 2, 1)], codes=4)
    QuantizerModel(config).save_pretrained(folder)
    return folder


def units(folder: Path) -> Path:
    """A folder of units, two utterances."""
    from stages.units.corpus import FACTS, facts_text, shard_path, write_shard

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    units_FG = [rng.integers(0, 4, (frames, 2)).astype(np.int16) for frames in (30, 50)]
    write_shard(shard_path(folder, 0), ["a", "b"], units_FG)
    facts = {"utterances": 2, "groups": 2, "codes": 4}
    (folder / FACTS).write_text(facts_text(facts))
    return shard_path(folder, 0)


def units_of(folder: Path) -> Read:
    def read() -> object:
        from stages.units.corpus import UnitCorpus

        return UnitCorpus(folder)

    return read


def put(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


# Checkpoints.


def calls(**how: Any) -> Callable[[Path], Read]:
    def make(folder: Path) -> Read:
        return imported(save(folder / "c.pt", {"extra_state": Calls(folder)}, **how))

    return make


def calls_in_plain_pickle(folder: Path) -> Read:
    folder.mkdir(parents=True)
    (folder / "c.pt").write_bytes(pickle.dumps({"args": Calls(folder)}, protocol=2))
    return imported(folder / "c.pt")


def code_as_layers(folder: Path) -> Read:
    told = f"__import__('os').system('touch {folder / MARK}')"
    args = argparse.Namespace(arch="wav2vec", conv_feature_layers=told, vq_type="none")
    return imported(save(folder / "c.pt", {"args": args}))


def target(folder: Path) -> Read:
    """hydra would call what `_target_` names."""
    model = {"_target_": "os.system", "command": f"touch {folder / MARK}", "_name": "wav2vec"}
    model |= {"conv_feature_layers": {"_target_": "os.getcwd"}}
    return imported(save(folder / "c.pt", {"args": None, "cfg": {"model": model}}))


def shown_many_times(folder: Path) -> Read:
    import torch

    huge = torch.zeros(1, dtype=torch.half).expand(2**36)
    return imported(save(folder / "c.pt", {"model": {"w": huge}}))


def named_many_times(folder: Path) -> Read:
    import torch

    one = torch.zeros(2**20, dtype=torch.half)
    return imported(save(folder / "c.pt", {"model": {f"w{n}": one for n in range(4000)}}))


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def compressed(folder: Path) -> Read:
    """A part of nothing but zeros, of which the file holds a thousandth."""
    path = save(folder / "c.pt")
    parts = parts_of(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, bytes(2**28) if name.endswith("data/0") else content)
    return imported(path)


def storage_that_lies(folder: Path) -> Read:
    """The pickle says that a storage has 2^29 elements; the file holds 2^10 of them."""
    import torch

    path = save(folder / "c.pt", {"model": {"w": torch.zeros(2**10)}})
    parts = parts_of(path)
    told = pickle.dumps(2**10, 2)[2:-1]
    large = pickle.dumps(2**29, 2)[2:-1]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            if name.endswith("data.pkl"):
                assert content.count(told) >= 2  # of the storage and of the tensor
                content = content.replace(told, large)
                pickletools.dis(content, io.StringIO())
            archive.writestr(name, content)
    return imported(path)


# Folders of models.


def header(size: int, content: bytes = b"{}") -> Callable[[Path], Read]:
    """A safetensors file whose header says this size of itself."""

    def make(folder: Path) -> Read:
        quantizer(folder)
        (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + content)
        return taken_over(folder)

    return make


def tensor(shape: list[int], end: int) -> Callable[[Path], Read]:
    """A safetensors file whose header says this of a tensor; 16 bytes of it are there."""
    told = {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
    content = json.dumps(told).encode()
    return header(len(content), content + bytes(16))


def config(**told: Any) -> Callable[[Path], Read]:
    """Settings of a model that nobody has."""

    def make(folder: Path) -> Read:
        quantizer(folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
        return taken_over(folder)

    return make


# Parquet.


def footer(size: int) -> Callable[[Path], Read]:
    """A shard whose last bytes say this size of its footer."""

    def make(folder: Path) -> Read:
        path = units(folder)
        put(path, lambda c: c[:-8] + size.to_bytes(4, "little") + c[-4:])
        return units_of(folder)

    return make


def other_units(**told: Any) -> Callable[[Path], Read]:
    """A shard that holds something else than its facts say."""

    def make(folder: Path) -> Read:
        units(folder)
        path = folder / "units.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
        return units_of(folder)

    return make


def many_rows(folder: Path) -> Read:
    """A small file that unfolds into 100 million rows of the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stages.units.corpus import SCHEMA

    path = units(folder)
    empty = pa.table({"utt_id": [""] * 10**6, "units": [[]] * 10**6}, schema=SCHEMA)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(empty)
    return units_of(folder)


NOT_RUN = "nothing of this one was run"
SHARD = "units-00000.parquet is damaged"

# What makes the file, and what its error must hold: a file may be refused for another reason too.
FILES: dict[str, tuple[Callable[[Path], Read], str]] = {
    "30: a call in a zip": (calls(), NOT_RUN),
    "30: a call in the old form": (calls(_use_new_zipfile_serialization=False), NOT_RUN),
    "30: a call in a plain pickle": (calls_in_plain_pickle, NOT_RUN),
    "30: a tensor that shows a storage many times": (shown_many_times, "w is larger than what"),
    "30: a storage under many names": (named_many_times, "is larger than what the file holds"),
    "30: a compressed part": (compressed, "parts of it are compressed"),
    "30: a storage that lies": (storage_that_lies, "a storage of 2147483648 bytes where 4096"),
    "31: code as conv_feature_layers": (code_as_layers, "network are not a literal"),
    "31: _target_": (target, "conv_feature_layers is not supported"),
    "32: a safetensors header of 2^62 bytes": (header(2**62), "SafetensorError"),
    "32: a safetensors header of 99 MB": (header(99_000_000), "SafetensorError"),
    "32: a safetensors header that ends early": (header(2, b"{"), "SafetensorError"),
    "32: a tensor of 2^60 elements": (tensor([2**30, 2**30], 2**62), "SafetensorError"),
    "32: a tensor beyond the file": (tensor([2**20], 2**22), "SafetensorError"),
    "32: a tensor of another size than its shape": (tensor([2**40], 16), "SafetensorError"),
    "32: a codebook of 2^40 codes": (config(codes=2**40), "codes must be 1 to 32767"),
    "32: a kernel of 2^30 samples": (
        config(encoder_layers=[[8, 2**30, 5]]),
        "where the settings ask for",
    ),
    "32: 10,000 layers": (config(encoder_layers=[[8, 10, 5]] * 10**4), "at most 100"),
    "32: 10^9 projections": (config(projection_depth=10**9), "projection_depth must be 1 to 100"),
    "32: a Parquet footer of 2 GB": (footer(2**31 - 1), SHARD),
    "32: a Parquet footer of 4 GB": (footer(2**32 - 1), SHARD),
    "32: 20 million rows of Parquet": (many_rows, "20000000 rows"),
    "32: units of another codebook": (other_units(codes=2), "none of 2 codes"),
    "32: units of another form": (other_units(groups=7), SHARD),
    "32: fewer units than said": (other_units(utterances=3), "units of 3 utterances"),
}


def warm_up(folder: Path) -> None:
    """Load the libraries, so that their memory is not taken for a file's."""
    imported(save(folder / "c.pt"))()
    taken_over(quantizer(folder / "q"))()
    units(folder / "u")
    units_of(folder / "u")()


# What the fuzz test mutates: a file that can be read, what reads it, and the class of its errors.

Reader = Callable[[Path], tuple[Path, Read, str]]


def tsv(folder: Path) -> tuple[Path, Read, str]:
    from stages.prepare.corpus import read_tsv
    from stages.prepare.text import normalise

    path = folder / "list.tsv"
    rows = "".join(f"u{n}\ts{n % 2}\taudio/{n}.wav\tturn left, Émile\n" for n in range(5))
    path.write_text(f"utt_id\tspeaker\tpath\ttranscript\n{rows}", "utf-8")
    letters = "abcdefghijklmnopqrstuvwxyz'"

    def read() -> object:
        return [normalise(s.transcript or "", letters) for s in read_tsv(path)]

    return path, read, "UserError"


def recipe(folder: Path) -> tuple[Path, Read, str]:
    from pipeline.recipe_file import load

    path = folder / "recipe.yaml"
    path.write_bytes(RECIPE.read_bytes())
    return path, lambda: load(path), "UserError"


def parquet(folder: Path) -> tuple[Path, Read, str]:
    return units(folder), units_of(folder), "RunError"


def checkpoint(folder: Path) -> tuple[Path, Read, str]:
    path = save(folder / "c.pt")
    return path, imported(path), "UserError"


def old_checkpoint(folder: Path) -> tuple[Path, Read, str]:
    path = save(folder / "c.pt", _use_new_zipfile_serialization=False)
    return path, imported(path), "UserError"


def model(folder: Path) -> tuple[Path, Read, str]:
    quantizer(folder)
    return folder / "model.safetensors", taken_over(folder), "UserError"


def model_config(folder: Path) -> tuple[Path, Read, str]:
    quantizer(folder)
    return folder / "config.json", taken_over(folder), "UserError"


def sound(name: str, rate_hz: int = 16_000, **how: str) -> Reader:
    def make(folder: Path) -> tuple[Path, Read, str]:
        from pipeline import audio

        path = folder / name
        noise = 0.1 * np.random.RandomState(0).standard_normal(4000)
        soundfile.write(path, noise, rate_hz, **how)
        return path, lambda: audio.resample(*audio.read(path)), "BadAudio"

    return make


READERS: dict[str, Reader] = {
    "tsv": tsv,
    "recipe": recipe,
    "parquet": parquet,
    "checkpoint": checkpoint,
    "old checkpoint": old_checkpoint,
    "model": model,
    "model config": model_config,
    "wav": sound("a.wav", subtype="PCM_16"),
    "flac": sound("a.flac"),
    "ogg": sound("a.ogg", format="OGG", subtype="VORBIS"),
    "opus": sound("a.opus", 48_000, format="OGG", subtype="OPUS"),
    "mp3": sound("a.mp3", format="MP3"),
}
