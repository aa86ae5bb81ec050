"""Stage 2: speech to units, split by split, and the vocabulary of units.

The artifact of a split:
    units-NNNNN.parquet   the units of some utterances each, see stages/units/corpus.py
    units.json            what is in them, in which precision they were computed, and in how many
                          frames rounding decided the code
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import RunError
from pipeline.recipe import DiscretizeSettings
from pipeline.stage import StepContext
from pipeline.store import write_atomically

if TYPE_CHECKING:
    from pipeline.manifest import Manifest, Utterance
    from stages.quantizer.inference import Codes, Inference

VERSION = 2
ALL_PAIRS_UP_TO = 8192  # beyond, the vocabulary is the combinations seen in pretraining


def discretize(ctx: StepContext, settings: DiscretizeSettings | None = None) -> None:
    """Write the units of one split in shards; reads the roles `manifest` and `quantizer`.

    A killed run keeps the shards that it has. Several processes may run this in one folder: each
    makes the shards that no other holds, and all return when the last one is there.

    Raises:
        RunError: the quantizer has collapsed, or others share this in another precision.
    """
    import torch

    from pipeline.manifest import Manifest
    from stages.quantizer import health
    from stages.quantizer.inference import Inference
    from stages.quantizer.model import QuantizerModel
    from stages.units import corpus, shards

    health.refuse_collapsed(ctx.inputs["quantizer"])
    settings = settings or DiscretizeSettings()
    manifest = Manifest.load(ctx.inputs["manifest"])
    model = QuantizerModel.from_pretrained(ctx.inputs["quantizer"]).eval()
    torch.nn.Module.to(model, ctx.device)
    inference = Inference(model, settings.precision, settings.batch_seconds)
    shards.agree_on_precision(ctx.scratch, inference.precision)
    planned = shards.plan(manifest)
    with ctx.progress(len(manifest), "to units", "utterances") as progress:
        for number in shards.to_make(ctx.folder, ctx.scratch, len(planned)):
            utterances = manifest.utterances[planned[number]]
            made = planned[number].start - progress.done  # earlier, or by others
            progress.update(max(made, 0))
            units, near_ties = [], 0
            for found in _codes(inference, manifest, utterances, settings):
                units.append(found.units_FG.cpu().numpy().astype("int16"))
                near_ties += found.near_ties
                progress.update()
            names = [utterance.id for utterance in utterances]
            corpus.write_shard(corpus.shard_path(ctx.folder, number), names, units, near_ties)
    facts = {
        "utterances": len(manifest),
        "groups": model.config.groups,
        "codes": model.config.codes,
        "hop_samples": model.hop,
        "precision": inference.precision,
        "near_ties": corpus.count_near_ties(ctx.folder),
    }
    write_atomically(ctx.folder / corpus.FACTS, corpus.facts_text(facts))
    if facts["near_ties"]:
        ctx.say(f"in {facts['near_ties']} frames two codes are equal to 1e-5: rounding chose")


def _codes(
    inference: Inference,
    manifest: Manifest,
    utterances: Sequence[Utterance],
    settings: DiscretizeSettings,
) -> Iterator[Codes]:
    """The codes of the utterances, in order; the next audio is read while these are computed.

    Half of `batch_seconds` is for the audio being computed, half for what is read meanwhile; a
    larger utterance fills its half alone.
    """
    import torch

    from pipeline.audio import SAMPLE_RATE_HZ
    from pipeline.readers import in_groups, read_ahead

    limit = round(settings.batch_seconds / 2 * SAMPLE_RATE_HZ)
    reader = read_ahead(
        utterances,
        manifest.samples,
        size=lambda u: u.samples,
        limit=limit,
        readers=settings.readers,
    )
    batches = in_groups(utterances, size=lambda u: u.samples, limit=limit, most=len(utterances))
    for batch in batches:
        yield from inference.codes([torch.from_numpy(next(reader)) for _ in batch])


def build_vocabulary(ctx: StepContext) -> None:
    """Make the unit vocabulary from the pretraining units alone.

    Reads `quantizer` and one role `units/<split>` for each pretraining split. All combinations
    of codes where there are at most 8,192, else those seen. Unseen ones become the nearest.
    """
    import numpy as np

    from stages.quantizer.vectors import codebook_of
    from stages.units.corpus import each_shard
    from stages.units.vocabulary import Vocabulary, combinations

    codebook_GVD = codebook_of(ctx.inputs["quantizer"])
    groups, codes, _ = codebook_GVD.shape
    seen: set[tuple[int, ...]] = set()
    for role in sorted(ctx.inputs):
        if role.startswith("units/"):
            for shard in each_shard(ctx.inputs[role]):
                units_FG = np.concatenate(list(shard.values()))
                seen.update(map(tuple, np.unique(units_FG, axis=0).tolist()))
    if len(seen) < 2:
        raise RunError(
            "The quantizer gives the same unit for all speech: its codebook has collapsed.",
            found=f"{len(seen)} unit in use",
            remedy="train it again with a larger quantizer.diversity_weight",
        )
    everything = codes**groups <= ALL_PAIRS_UP_TO
    kept = list(combinations(groups, codes)) if everything else sorted(seen)
    Vocabulary.create(kept, codebook_GVD).save(ctx.folder)
    ctx.say(f"vocabulary of {len(kept)} units, {len(seen)} of them heard in pretraining")
