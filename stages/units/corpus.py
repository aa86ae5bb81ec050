"""Units on disk: Parquet shards of group indices per frame, by utterance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import RunError

Units = NDArray[np.int16]  # (F, G): one row a frame, the index of each group's code

FACTS = "units.json"
SCHEMA = pa.schema(
    [pa.field("utt_id", pa.string()), pa.field("units", pa.list_(pa.int16()))],
)


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` is, counted from 0."""
    return folder / f"units-{number:05d}.parquet"


def write_shard(path: Path, ids: Sequence[str], units_FG: Sequence[Units]) -> None:
    """Write one shard; it gets its name only when it is whole."""
    rows = [u.reshape(-1) for u in units_FG]
    table = pa.table({"utt_id": list(ids), "units": rows}, schema=SCHEMA)
    beside = path.with_suffix(".tmp")
    pq.write_table(table, beside, compression="zstd")
    beside.replace(path)


class UnitCorpus:
    """The units of one split, in memory, by utterance id.

    Raises:
        RunError: the folder's shards do not hold what its facts say.
    """

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        self.groups, self.codes = int(facts["groups"]), int(facts["codes"])
        self._units: dict[str, Units] = {}
        for path in sorted(folder.glob("units-*.parquet")):
            table = pq.read_table(path, schema=SCHEMA)
            for name, row in zip(table["utt_id"].to_pylist(), table["units"], strict=True):
                flat = row.values.to_numpy(zero_copy_only=False)
                self._units[name] = flat.reshape(-1, self.groups)
        if len(self._units) != facts["utterances"]:
            raise RunError(
                f"{folder} is damaged.",
                constraint=f"units of {facts['utterances']} utterances",
                found=str(len(self._units)),
                remedy="run stage 2 again with --force",
            )

    def __getitem__(self, utterance_id: str) -> Units:
        return self._units[utterance_id]

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._units

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)


def facts_text(facts: dict[str, Any]) -> str:
    """What stands in FACTS, the same for the same facts."""
    return json.dumps(facts, indent=1, sort_keys=True)
