"""Libri-light's limited supervision: ten hours of LibriSpeech that label budgets are made of.

`train` is what `librispeech_finetuning` holds, and the sets of LibriSpeech that `corpus.train`
names, none by default. So a model that was pretrained elsewhere is fine-tuned with a download of
2 GB instead of 62. With `train: [train-clean-100]` there is the budget 100h too, and what is
pretrained hears 105 hours: half of the ten are of train-other-500, which train-clean-100 has not.

`_librispeech.py` tells the layout and the budgets; dev and test are those of `librispeech.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipeline.recipe import LmSettings
from stages.prepare.corpora import _librispeech, _remarks
from stages.prepare.corpora._librispeech import LibriSettings, TrainSet
from stages.prepare.corpus import Remark, Source

BUDGETS_OF_FOLDS = _librispeech.BUDGETS_OF_FOLDS
budget_ids = _librispeech.budget_ids
budget_remarks = _remarks.without_audio_in_budget
folds = _librispeech.folds
lm_text = _librispeech.lm_text
LM_TEXT = _librispeech.LM_TEXT


class Settings(LibriSettings):
    """Libri-light's ten hours, and more of LibriSpeech if wanted."""

    kind: Literal["librilight"] = "librilight"
    train: list[TrainSet] = Field([], description="training sets of LibriSpeech beside the ten")


def splits(settings: Settings) -> dict[str, list[Source]]:
    """`train`, `dev` and `test/<set>`; an utterance of both folders is taken from LibriSpeech.

    Raises:
        UserError: a folder is not there or not as published, or two splits share speakers.
    """
    train = [s for name in settings.train for s in _librispeech.read_set(settings, name)]
    there = {s.id for s in train}
    parts = _librispeech.limited(settings)
    train += [s for part in parts.values() for s in part.sources if s.id not in there]
    made = {"train": train} | _librispeech.evaluation_splits(settings)
    _librispeech.refuse_shared_speakers(settings, made)
    return made


def split_remarks(settings: Settings, split: str, sources: Sequence[Source]) -> list[Remark]:
    """What the folders lack of a split."""
    found = _remarks.incomplete_sets(settings, split, sources)
    return found + (_remarks.without_audio_in_all(settings) if split == "train" else [])


def fetch(settings: Settings, budgets: Sequence[str], lm: LmSettings) -> None:
    """Download what the recipe needs and `root` lacks.

    Raises:
        UserError, RunError: see `_official.bring`.
    """
    sets = [*settings.train, *settings.dev, *settings.test_sets]
    _librispeech.bring(settings, sets, lm, with_limited=True)
