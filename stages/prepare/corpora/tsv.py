"""A folder of audio with TSV files: one's own speech, without a line of code.

Each list has a header and a line an utterance, tab-separated, UTF-8; paths are relative to it:
    utt_id	speaker	path	transcript
    a-001	anna	audio/a-001.flac	turn on the lamp
Utterances of train without a transcript serve pretraining alone. Where dev or test are not
given, whole speakers are split off train.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

from pydantic import Field

from pipeline.errors import UserError
from pipeline.recipe import CorpusSettings
from stages.prepare.corpora import _shared
from stages.prepare.corpus import Source, held_out


class Settings(CorpusSettings):
    """The lists, relative to `root`, and how many speakers are split off where one is missing."""

    kind: Literal["tsv"] = "tsv"
    train: str = Field(description="the list of training utterances")
    dev: str | None = Field(None, description="without it, speakers are split off train")
    test: dict[str, str] = Field(
        {},
        description="lists by name, absolute or relative to root; without one, speakers are split "
        "off train as 'test'",
    )
    dev_fraction: float = Field(0.1, gt=0, lt=1, description="share of train's speakers")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share of train's speakers")
    dev_speakers: int | None = Field(None, ge=1, description="so many, instead of the share")
    test_speakers: int | None = Field(None, ge=1, description="so many, instead of the share")


def splits(settings: Settings) -> dict[str, list[Source]]:
    """`train` and `dev`, and `test/test` where no test list is given, which stage 0 reads.

    What is not given is split off train.

    Raises:
        UserError: a list is wrong, an utterance lacks its speaker or transcript, too few
            speakers to split off, or splits that share speakers or recordings.
    """
    made = {"train": _shared.read_list(settings, settings.train)}
    if settings.dev is not None:
        made["dev"] = _shared.read_list(settings, settings.dev)
        _shared.refuse_untranscribed("dev", made["dev"])
    if not any(s.transcript for s in made["train"]):
        raise UserError(
            f"{settings.train} has no utterance with a transcript.",
            remedy="put speech without transcripts into corpus.unlabelled",
        )
    made = _split_off(settings, made)
    for one, other in combinations(made, 2):
        _shared.refuse_overlap(settings, one, made[one], other, made[other])
    return made


def _split_off(settings: Settings, given: dict[str, list[Source]]) -> dict[str, list[Source]]:
    """Add the missing ones of dev and test, made of whole speakers of train."""
    train, rest = given["train"], {k: v for k, v in given.items() if k != "train"}
    everyone = {s.speaker for s in train if s.transcript}
    # A speaker with untranscribed speech stays: it could neither be scored nor pretrained on.
    candidates = everyone - {s.speaker for s in train if not s.transcript}
    wanted = {}
    if not settings.test:
        wanted["test/test"] = (settings.test_speakers, settings.test_fraction)
    if settings.dev is None:
        wanted["dev"] = (settings.dev_speakers, settings.dev_fraction)
    counts = {k: n or max(1, round(share * len(everyone))) for k, (n, share) in wanted.items()}
    total = sum(counts.values())
    if wanted and (total > len(candidates) or total >= len(everyone)):
        raise UserError(
            f"{settings.train} has too few speakers to split off {' and '.join(wanted)}.",
            constraint=f"{total} speakers with nothing untranscribed, and one more to train on",
            found=f"{len(everyone)} with transcripts ({_shared.listed(sorted(everyone))}), "
            f"{len(candidates)} of them without untranscribed utterances",
            remedy="give corpus.dev and corpus.test as lists, or record more speakers",
        )
    taken: dict[str, str] = {}
    for split, count in counts.items():
        remaining = sorted(candidates - taken.keys())
        taken |= dict.fromkeys(held_out(remaining, count, split.partition("/")[0]), split)
    made = {"train": [s for s in train if s.speaker not in taken]}
    for split in counts:
        made[split] = [s for s in train if taken.get(s.speaker) == split]
    return made | rest
