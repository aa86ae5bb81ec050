"""A BERT made elsewhere, in place of stage 3: an earlier run's, or one that fairseq trained.

It brings the units that it knows. They are the vocabulary of stage 2 then, with the vectors of
the recipe's quantizer, if that has such units at all.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import model_files
from pipeline.errors import UserError
from pipeline.recipe import BertSettings, QuantizerSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.units.vocabulary import Vocabulary

VERSION = 2  # of `bert`; training another way makes no imported BERT another
IMPORT = "import.json"  # what `vqasr import-fairseq` says of what it wrote
REMEDY = "take bert.from and quantizer.from of the same run or the same publication"
LEAST_KNOWN = 0.5  # share of the frames whose unit the BERT must know


def refuse_misfit(quantizer: QuantizerSettings, bert: BertSettings | None) -> None:
    """Raise UserError where the models that a recipe names cannot work together.

    Reads JSON alone; what the weights decide is told when stage 2 has run.
    """
    groups, codes = quantizer.groups, quantizer.codes
    if quantizer.from_ is not None:
        told = _json(quantizer.from_ / "config.json")
        if told.get("quantizer_type") == "none":
            raise UserError(
                f"quantizer.from: {quantizer.from_} has no codebook (wav2vec 1.0), and so no units."
            )
        groups, codes = told.get("groups", groups), told.get("codes", codes)
    if bert is None or bert.from_ is None:
        return
    told = _json(bert.from_ / IMPORT)
    if told and (told.get("groups") != groups or told.get("codes", 0) > codes):
        raise _misfit(
            bert.from_, groups, codes, f"units of {told.get('groups')} x {told.get('codes')} codes"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _misfit(source: Path, groups: int, codes: int, found: str) -> UserError:
    return UserError(
        f"bert.from: the BERT in {source} was trained on other units than the quantizer's.",
        constraint=f"units of {groups} groups, codes below {codes}",
        found=found,
        remedy=REMEDY,
    )


def vocabulary(ctx: StepContext, *, source: Path) -> None:
    """Write the vocabulary of the BERT in `source`, with the quantizer's vectors.

    Reads `quantizer`, and `units/<split>` for each pretraining split, to see that its units are
    those that the BERT knows.

    Raises:
        UserError: they are not.
    """
    from stages.quantizer.model import QuantizerModel
    from stages.units.vocabulary import Vocabulary

    units_TG, theirs_GVD = _units(source)
    quantizer = QuantizerModel.from_pretrained(ctx.inputs["quantizer"])
    if quantizer.vector_quantizer is None:
        raise UserError("The quantizer has no codebook (wav2vec 1.0), and so no units.")
    codebook_GVD = quantizer.vector_quantizer.codebook().detach().cpu().numpy()
    groups, codes, _ = codebook_GVD.shape
    if units_TG.shape[1] != groups or not 0 <= units_TG.min() <= units_TG.max() < codes:
        found = f"{units_TG.shape[1]} groups, the largest code {units_TG.max()}"
        raise _misfit(source, groups, codes, found)
    _refuse_other_codebook(source, theirs_GVD, codebook_GVD)
    made = Vocabulary.create([tuple(row) for row in units_TG.tolist()], codebook_GVD)
    share = _share_known(ctx, made)
    if share < LEAST_KNOWN:
        raise UserError(
            f"bert.from: the BERT in {source} does not know this quantizer's units.",
            constraint=f"at least {LEAST_KNOWN:.0%} of the frames with a unit that it knows",
            found=f"{share:.1%}",
            remedy=REMEDY,
        )
    made.save(ctx.folder)
    ctx.say(f"vocabulary of {len(units_TG)} units; {share:.1%} of the frames have one of them")


def _refuse_other_codebook(
    source: Path, theirs_GVD: NDArray[np.float32] | None, ours_GVD: NDArray[np.float32]
) -> None:
    import numpy as np

    if theirs_GVD is not None and not np.array_equal(theirs_GVD, ours_GVD):
        groups, codes, _ = ours_GVD.shape
        raise _misfit(source, groups, codes, "such units of another codebook")


def _share_known(ctx: StepContext, vocabulary: Vocabulary) -> float:
    """Of the frames of the inputs `units/<split>`, those whose unit is in the vocabulary."""
    from stages.units.corpus import each_shard

    known = frames = 0
    for role in sorted(ctx.inputs):
        if role.startswith("units/"):
            for shard in each_shard(ctx.inputs[role]):
                for units_FG in shard.values():
                    known += int(vocabulary.known(units_FG).sum())
                    frames += len(units_FG)
    return known / max(frames, 1)


def bert(ctx: StepContext, *, source: Path) -> None:
    """Copy the BERT in `source`, beside the input `vocabulary`, whose tokens it must have.

    Raises:
        UserError: it has no unit vocabulary beside it, or another one.
    """
    import numpy as np

    from stages.units.vocabulary import Vocabulary

    theirs_TG, _ = _units(source)
    ours = Vocabulary.load(ctx.inputs["vocabulary"])
    size = _json(source / "config.json").get("vocab_size", len(theirs_TG))
    if not np.array_equal(theirs_TG, ours.units_TG) or size != len(ours):
        raise UserError(
            f"bert.from: the BERT in {source} was trained on other units.",
            constraint=f"the vocabulary of stage 2, {len(ours)} tokens",
            found=f"{size} tokens" + ("" if size != len(ours) else " of another one"),
            remedy=REMEDY,
        )
    model_files.reading("bert.from", source, lambda: _check_bert(source), REMEDY)
    for path in sorted(source.iterdir()):
        if path.suffix in (".json", ".safetensors") and path.name != "stamp.json":
            shutil.copyfile(path, ctx.folder / path.name)
    ours.save(ctx.folder)  # it knows the codebook too


def _units(source: Path) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """The units of the BERT in `source`, and its codebook if it knows one."""
    from stages.units.vocabulary import VECTORS, load_units

    path = source / VECTORS
    if not path.is_file():
        raise UserError(f"bert.from: {source} has no {VECTORS} beside its BERT.", remedy=REMEDY)

    def read() -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
        units_TG, codebook_GVD = load_units(source)
        if units_TG.ndim != 2 or not units_TG.size or units_TG.dtype.kind != "i":
            raise ValueError(f"units of shape {units_TG.shape}, {units_TG.dtype}")
        return units_TG, codebook_GVD

    return model_files.reading("bert.from", path, read, REMEDY)


def _check_bert(source: Path) -> None:
    """Raise ValueError unless the weights in `source` are those of its settings."""
    from transformers import BertConfig, BertForMaskedLM

    shapes = model_files.shapes_of(source / model_files.WEIGHTS)
    config = BertConfig.from_pretrained(source)
    if not isinstance(config.num_hidden_layers, int) or config.num_hidden_layers > len(shapes):
        raise ValueError(f"{config.num_hidden_layers} layers in {len(shapes)} tensors")
    model_files.check_fit(shapes, lambda: BertForMaskedLM(config), only="bert.")
