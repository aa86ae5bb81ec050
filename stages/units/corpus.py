"""Units on disk: Parquet shards of group indices per frame, by utterance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import RunError, brief

Units = NDArray[np.int16]  # (F, G): one row a frame, the index of each group's code

FACTS = "units.json"
SHARDS = "units-*.parquet"
MOST_BYTES = 2**30  # of a shard, which holds an hour of speech: some MB
NEAR_TIES = b"near_ties"
SCHEMA = pa.schema(
    [pa.field("utt_id", pa.string()), pa.field("units", pa.list_(pa.int16()))],
)


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` is, counted from 0."""
    return folder / f"units-{number:05d}.parquet"


def write_shard(
    path: Path, ids: Sequence[str], units_FG: Sequence[Units], near_ties: int = 0
) -> None:
    """Write one shard; it gets its name only when it is whole.

    Args:
        near_ties: frames whose code rounding decided; kept beside the units.
    """
    rows = [u.reshape(-1) for u in units_FG]
    schema = SCHEMA.with_metadata({NEAR_TIES: str(near_ties)})
    table = pa.table({"utt_id": list(ids), "units": rows}, schema=schema)
    beside = path.with_suffix(".tmp")
    pq.write_table(table, beside, compression="zstd")
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def count_near_ties(folder: Path) -> int:
    """Frames of all shards whose code rounding decided. Reads no units."""
    told = [pq.read_metadata(path).metadata or {} for path in sorted(folder.glob(SHARDS))]
    return sum(int(metadata.get(NEAR_TIES, 0)) for metadata in told)


def read_facts(folder: Path) -> dict[str, Any]:
    """What stage 2 says of a folder of units."""
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text("utf-8"))
    return facts


def each_shard(folder: Path) -> Iterator[dict[str, Units]]:
    """The units by utterance id, shard by shard, so that few are in memory.

    Raises:
        RunError: a shard is damaged; or, after the last, they do not hold what the facts say.
    """
    facts, found = read_facts(folder), 0
    for path in sorted(folder.glob(SHARDS)):
        try:
            units = _read_shard(path, facts)
        except Exception as error:  # damaged bytes can end in an exception of any kind
            raise RunError(
                f"{path} is damaged.", found=brief(error), remedy="run stage 2 again with --force"
            ) from error
        yield units
        found += len(units)
    if found != facts["utterances"]:
        raise RunError(
            f"{folder} is damaged.",
            constraint=f"units of {facts['utterances']} utterances",
            found=str(found),
            remedy="run stage 2 again with --force",
        )


def _read_shard(path: Path, facts: dict[str, Any]) -> dict[str, Units]:
    """Any exception: it is no shard of such units."""
    with pq.ParquetFile(path) as file:
        told = file.metadata
        groups = [told.row_group(n) for n in range(told.num_row_groups)]
        if told.num_rows > facts["utterances"] or sum(map(_size, groups)) > MOST_BYTES:
            raise ValueError(f"{told.num_rows} rows, {sum(map(_size, groups))} bytes by its footer")
    table = pq.read_table(path, schema=SCHEMA)
    ids = table["utt_id"].to_pylist()
    flat = [row.values.to_numpy(zero_copy_only=False) for row in table["units"]]
    units = {name: u.reshape(-1, int(facts["groups"])) for name, u in zip(ids, flat, strict=True)}
    if len(units) != len(ids) or not all(isinstance(name, str) for name in units):
        raise ValueError("an utterance twice, or without an id")
    for name, units_FG in units.items():
        if units_FG.size and not 0 <= units_FG.min() <= units_FG.max() < facts["codes"]:
            raise ValueError(f"{name} has units that are none of {facts['codes']} codes")
    return units


def _size(row_group: Any) -> int:
    return int(row_group.total_byte_size)


class UnitCorpus:
    """The units of one split, in memory, by utterance id.

    Raises:
        RunError: the folder's shards do not hold what its facts say.
    """

    def __init__(self, folder: Path) -> None:
        facts = read_facts(folder)
        self.groups, self.codes = int(facts["groups"]), int(facts["codes"])
        self._units: dict[str, Units] = {}
        for shard in each_shard(folder):
            self._units |= shard

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
