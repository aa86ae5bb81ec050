"""LibriSpeech: 960 hours of audio books in English, and its sets of dev and test.

`root` is a folder that holds LibriSpeech/, or that folder itself. See `_librispeech.py` for its
layout, the official label budgets (10min, 1h, 10h of Libri-light; 100h, which is train-clean-100)
and the download. Budgets of other sizes are our own choice of train, as with any corpus.

Weights are tuned on dev-other unless `dev` says otherwise; test-clean and test-other are two test
sets, `test_sets` may add the set of dev that nothing is tuned on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipeline.recipe import LmSettings
from stages.prepare.corpora import _librispeech, _remarks
from stages.prepare.corpora._librispeech import LIMITED, LibriSettings, TrainSet
from stages.prepare.corpus import Source

BUDGETS_OF_FOLDS = _librispeech.BUDGETS_OF_FOLDS
budget_ids = _librispeech.budget_ids
budget_remarks = _remarks.without_audio_in_budget
split_remarks = _remarks.incomplete_sets
folds = _librispeech.folds
lm_text = _librispeech.lm_text
LM_TEXT = _librispeech.LM_TEXT


class Settings(LibriSettings):
    """LibriSpeech's own training sets."""

    kind: Literal["librispeech"] = "librispeech"
    train: list[TrainSet] = Field(
        ["train-clean-100", "train-clean-360", "train-other-500"],
        min_length=1,
        description="training sets; 960 hours together",
    )


def splits(settings: Settings) -> dict[str, list[Source]]:
    """`train`, `dev` and `test/<set>`.

    Raises:
        UserError: a set is not there or not as published, or two splits share speakers.
    """
    train = [s for name in settings.train for s in _librispeech.read_set(settings, name)]
    made = {"train": train} | _librispeech.evaluation_splits(settings)
    _librispeech.refuse_shared_speakers(settings, made)
    return made


def fetch(settings: Settings, budgets: Sequence[str], lm: LmSettings) -> None:
    """Download what the recipe needs and `root` lacks.

    Raises:
        UserError, RunError: see `_official.bring`.
    """
    sets = [*settings.train, *settings.dev, *settings.test_sets]
    _librispeech.bring(settings, sets, lm, with_limited=any(b in LIMITED for b in budgets))
