"""A BERT of a few weights, and units for it, for the tests of stage 3 and of what measures it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.recipe import BertSettings
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard

SETTINGS = BertSettings(
    layers=1,
    dim=16,
    ffn_dim=32,
    heads=2,
    positions=64,
    batch_frames=300,
    updates=2,
    warmup_updates=1,
    validate_every=1,
    precision="fp32",
)


def units(folder: Path, rows: dict[str, Any]) -> Path:
    folder.mkdir()
    write_shard(shard_path(folder, 0), list(rows), list(rows.values()))
    facts = {"utterances": len(rows), "groups": 2, "codes": 5}
    (folder / FACTS).write_text(facts_text(facts))
    return folder
