"""Stage 2: speech to units, split by split, and the vocabulary of units."""

from __future__ import annotations

from collections import Counter

from pipeline.errors import RunError
from pipeline.stage import StepContext

VERSION = 1
UTTERANCES_PER_SHARD = 200
ALL_PAIRS_UP_TO = 8192  # beyond, the vocabulary is the combinations seen in pretraining


def discretize(ctx: StepContext) -> None:
    """Write the units of one split in shards; a killed run keeps the shards it has.

    Reads the roles `manifest` and `quantizer`.
    """
    import torch

    from pipeline.manifest import Manifest
    from stages.quantizer.model import QuantizerModel
    from stages.units.corpus import FACTS, facts_text, shard_path, write_shard

    manifest = Manifest.load(ctx.inputs["manifest"])
    model = QuantizerModel.from_pretrained(ctx.inputs["quantizer"]).eval()
    torch.nn.Module.to(model, ctx.device)
    utterances = manifest.utterances
    shards = [
        utterances[i : i + UTTERANCES_PER_SHARD]
        for i in range(0, len(utterances), UTTERANCES_PER_SHARD)
    ]
    with ctx.progress(len(utterances), "to units", "utterances") as progress:
        for number, shard in enumerate(shards):
            path = shard_path(ctx.folder, number)
            if not path.exists():
                units = []
                for utterance in shard:
                    samples = torch.from_numpy(manifest.samples(utterance)).to(ctx.device)
                    with torch.inference_mode():
                        units.append(model.units(samples).cpu().numpy().astype("int16"))
                    progress.update()
                write_shard(path, [u.id for u in shard], units)
            else:
                progress.update(len(shard))
    facts = {
        "utterances": len(utterances),
        "groups": model.config.groups,
        "codes": model.config.codes,
        "hop_samples": model.hop,
    }
    (ctx.folder / FACTS).write_text(facts_text(facts), "utf-8")


def build_vocabulary(ctx: StepContext) -> None:
    """Make the unit vocabulary from the pretraining units alone.

    Reads `quantizer` and one role `units/<split>` for each pretraining split. All combinations
    of codes where there are at most 8,192, else those seen. Unseen ones become the nearest.
    """
    from stages.quantizer.vectors import codebook_of
    from stages.units.corpus import UnitCorpus
    from stages.units.vocabulary import Vocabulary, combinations

    codebook_GVD = codebook_of(ctx.inputs["quantizer"])
    groups, codes, _ = codebook_GVD.shape
    counts: Counter[tuple[int, ...]] = Counter()
    for role in sorted(ctx.inputs):
        if role.startswith("units/"):
            corpus = UnitCorpus(ctx.inputs[role])
            for name in corpus:
                counts.update(map(tuple, corpus[name].tolist()))
    if len(counts) < 2:
        raise RunError(
            "The quantizer gives the same unit for all speech: its codebook has collapsed.",
            found=f"{len(counts)} unit in use",
            remedy="train it again with a larger quantizer.diversity_weight",
        )
    everything = codes**groups <= ALL_PAIRS_UP_TO
    kept = list(combinations(groups, codes)) if everything else sorted(counts)
    Vocabulary.create(kept, codebook_GVD).save(ctx.folder)
    ctx.say(f"vocabulary of {len(kept)} units, {len(counts)} of them heard in pretraining")
