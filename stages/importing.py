"""`vqasr import-fairseq`: checkpoints of fairseq as folders that a recipe takes.

wav2vec and vq-wav2vec become what stage 1 writes (`quantizer: {from: DIR}`), a RoBERTa on units
what stage 3 writes (`bert: {from: DIR}`). Beside the model lies import.json: what it was made
of, by content.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.audio import file_sha256
from pipeline.checkpoint_file import Checkpoint, read_fairseq
from pipeline.disk import refused
from pipeline.errors import UserError
from pipeline.store import hash_outputs, sync
from stages.units.imported import IMPORT
from stages.units.published import EMBEDDING, bert_of, read_dictionary, units_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DICTIONARY = "dict.txt"
WAV2VEC = "feature_extractor.conv_layers.0.0.weight"
NOT_WAV2VEC = ("mask_emb", "encoder.", "w2v_encoder.", "quantizer.")  # wav2vec 2.0, HuBERT, ...
KINDS = {"none": "wav2vec 1.0", "gumbel": "vq-wav2vec (Gumbel)", "kmeans": "vq-wav2vec (k-means)"}


def import_fairseq(
    checkpoint: Path, folder: Path, dictionary: Path | None, say: Callable[[str], None]
) -> None:
    """Convert `checkpoint` into `folder`; `say` is told what was found and where it is.

    Args:
        dictionary: of a RoBERTa; None for the dict.txt beside the checkpoint.

    Raises:
        UserError: `folder` holds something else, or the checkpoint cannot be converted.
        RunError: the disk is full.
    """
    _refuse_unwritable(folder)
    found = read_fairseq(checkpoint)
    if any(name.endswith(EMBEDDING) for name in found.weights):
        make = _roberta(found, dictionary or checkpoint.parent / DICTIONARY)
    elif WAV2VEC in found.weights and not any(n.startswith(NOT_WAV2VEC) for n in found.weights):
        if dictionary is not None:
            raise UserError(f"--dict belongs to a RoBERTa; {checkpoint} is a wav2vec.")
        make = _wav2vec(found)
    else:
        raise UserError(
            f"{checkpoint} holds a model that is not supported.",
            constraint="wav2vec 1.0, vq-wav2vec, or a RoBERTa on units",
            found=f"architecture {found.architecture}",
        )
    place = folder.absolute()
    with (
        refused(place),
        tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as beside,
    ):
        made = Path(beside) / "made"
        made.mkdir()
        say(f"{checkpoint}: {make(made)}")
        say(_put(made, folder))


def _wav2vec(found: Checkpoint) -> Callable[[Path], str]:
    from stages.quantizer.published import quantizer_of

    def make(folder: Path) -> str:
        model = quantizer_of(found.settings, found.weights)
        config = model.config
        facts: dict[str, Any] = {"kind": "quantizer", "type": config.quantizer_type}
        sizes = f"{config.dim} features every {1000 * config.hop / config.sample_rate_hz:g} ms"
        if config.quantizer_type != "none":
            facts |= {"groups": config.groups, "codes": config.codes}
            sizes = f"{config.groups} groups of {config.codes} codes, {sizes}"
        _save(model, folder, found, facts)
        return f"{KINDS[config.quantizer_type]}, {sizes}, {_size(model)}"

    return make


def _roberta(found: Checkpoint, dictionary: Path) -> Callable[[Path], str]:
    from stages.units.vocabulary import save_units

    def make(folder: Path) -> str:
        symbols = read_dictionary(dictionary)
        units_TG = units_of(symbols)
        model = bert_of(found.settings, found.weights, symbols)
        facts = {
            "kind": "bert",
            "groups": units_TG.shape[1],
            "codes": int(units_TG.max()) + 1,
            "dictionary_sha256": file_sha256(dictionary),
        }
        _save(model, folder, found, facts)
        save_units(units_TG, folder)
        config = model.config
        return (
            f"RoBERTa on {len(units_TG):,} units of {units_TG.shape[1]} groups, "
            f"{config.num_hidden_layers} layers of {config.hidden_size}, at most "
            f"{config.max_position_embeddings} frames, {_size(model)}"
        )

    return make


def _size(model: PreTrainedModel) -> str:
    return f"{sum(p.numel() for p in model.parameters()):,} parameters"


def _save(model: PreTrainedModel, folder: Path, found: Checkpoint, facts: dict[str, Any]) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    told = {
        **facts,
        "architecture": found.architecture,
        "checkpoint_sha256": file_sha256(found.path),
    }
    (folder / IMPORT).write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def _refuse_unwritable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file.", remedy="name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{folder.parent} cannot be made: {error.strerror}.", remedy="name another folder"
        ) from error
    if not os.access(folder.absolute().parent, os.W_OK):
        raise UserError(f"{folder.parent} may not be written.", remedy="name another folder")


def _put(made: Path, folder: Path) -> str:
    """Give the finished folder its name; the same import again changes nothing."""
    kind = json.loads((made / IMPORT).read_text("utf-8"))["kind"]
    usage = f"in a recipe: {kind}: {{from: {folder}}}"
    if folder.exists() and any(folder.iterdir()):
        if hash_outputs(made) == hash_outputs(folder):
            return f"{folder} holds it already; {usage}"
        raise UserError(
            f"{folder} is not empty, and holds something else.",
            remedy="name a new folder, or remove this one",
        )
    made.rename(folder.absolute())
    sync(folder.absolute().parent)
    return f"written to {folder}; {usage}"
