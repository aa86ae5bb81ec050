"""fairseq's state in checkpoints of ours (pipeline/checkpoints.py), in place of its own saving.

fairseq 0.12.2 writes beside and renames, without a sync: after a power cut the file may be torn
or empty. It then copies the file over `checkpoint_last.pt` in place: a kill in between leaves
half of one. A save at the end of an epoch writes `checkpoint_last.pt` alone and removes no older
file: there is nothing to fall back to, and a copy kept for that purpose would stay for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import checkpoints
from stages.quantizer.fairseq.bridge import import_fairseq

CRASHED = "crash.pt"  # fairseq writes it when a training fails; not a state to go on from


@contextmanager
def kept_by_us(folder: Path) -> Iterator[None]:
    """While it lasts, fairseq's trainer saves into `folder` by way of `checkpoints.save`."""
    utils: Any = import_fairseq("fairseq.checkpoint_utils")
    theirs = utils.save_checkpoint
    utils.save_checkpoint = _save
    try:
        yield
    finally:
        utils.save_checkpoint = theirs
        (folder / CRASHED).unlink(missing_ok=True)


def _save(cfg: Any, trainer: Any, epoch_itr: Any, _validation_loss: float | None) -> None:
    """What fairseq's function of this name puts into a checkpoint."""
    from fairseq.utils import move_to_cpu

    trainer.consolidate_optimizer()
    state = move_to_cpu(trainer.state_dict())
    state["extra_state"] |= {"train_iterator": epoch_itr.state_dict(), "val_loss": None}
    checkpoints.save(Path(cfg.save_dir), trainer.get_num_updates(), state)
