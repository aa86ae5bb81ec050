"""Stage 2 where the units are k-means on MFCC."""

from __future__ import annotations

from pipeline.stage import StepContext

UTTERANCES_PER_SHARD = 1000  # MFCC and the nearest centre take milliseconds


def discretize(ctx: StepContext) -> None:
    """Write the units of one split in shards; a killed run keeps the shards it has.

    Reads the roles `manifest` and `quantizer` (an artifact of stages/quantizer/kmeans_mfcc.py).

    Raises:
        RunError: the codebook has collapsed.
    """
    from pipeline.manifest import Manifest
    from stages.quantizer import health
    from stages.quantizer.kmeans_mfcc import MfccKmeans
    from stages.units.corpus import FACTS, facts_text, shard_path, write_shard

    health.refuse_collapsed(ctx.inputs["quantizer"], "fit k-means to more, or to other, speech")
    manifest = Manifest.load(ctx.inputs["manifest"])
    model = MfccKmeans.load(ctx.inputs["quantizer"])
    utterances = manifest.utterances
    starts = range(0, len(utterances), UTTERANCES_PER_SHARD)
    with ctx.progress(len(utterances), "to units", "utterances") as progress:
        for number, start in enumerate(starts):
            shard = utterances[start : start + UTTERANCES_PER_SHARD]
            path = shard_path(ctx.folder, number)
            if path.exists():
                progress.update(len(shard))
                continue
            units = []
            for utterance in shard:
                units.append(model.units(manifest.samples(utterance)))
                progress.update()
            write_shard(path, [u.id for u in shard], units)
    facts = {
        "utterances": len(utterances),
        "groups": model.groups,
        "codes": model.codes,
        "hop_samples": model.hop_samples,
    }
    (ctx.folder / FACTS).write_text(facts_text(facts), "utf-8")
