"""BERT training: ours against transformers' BertForMaskedLM with its own loss.

The peer is what the class does as documented: utterances padded to a batch, an attention mask, and
`labels` of -100 where nothing is to be guessed, so the output layer and the loss run over all
positions. Its utterances come in random order (`bert_train`) and in groups of like length
(`bert_train_grouped`), in batches of as many frames, padding included, as ours have without. Size,
precision, masks, `sdpa` attention and training loop are the same. Counted are units of speech, no
padding.

Lengths are those of speechocean762's training speech, 20 ms a unit, where it is at hand, else
drawn from a log-normal distribution of their median and spread. The units themselves are
drawn at random: they cost the same. What gains is that there is no padding and that the output
layer sees hidden frames alone; the latter counts for less as the layers grow. `BENCH_BERT=small`
measures the papers' BERT small.

`python -m tests.benchmarks.bench_bert [SIDE]` shows what takes the time of an update.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batches import Batches, PackedBatches, generator
from pipeline.precision import chosen_precision
from pipeline.recipe import BertSettings
from pipeline.schedules import linear_schedule
from pipeline.training import Loss, Training
from stages.units.masked_units import MaskedUnits, losses
from stages.units.vocabulary import SPECIAL
from tests.benchmarks.rows import Row, devices, higher_is_better, machine, named, until_done

OURS, RANDOM, GROUPED = "ours", "transformers, random order", "transformers, grouped lengths"
UNITS = 64 * 64  # the recipes' 2 groups of 64 codes
SIZES: dict[str, dict[str, Any]] = {
    "4x256": {"layers": 4, "dim": 256, "ffn_dim": 1024, "heads": 4, "dropout": 0.1},
    "small": {"preset": "small"},
}
SIZE = os.environ.get("BENCH_BERT", "4x256")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "4"))
UPDATES = 3  # of each side in a round
WARM_UP = 1
SPEECH = Path(__file__).parents[3] / "shared/speech/speechocean762/train.tsv"
UNITS_PER_SECOND = 50
# Of speechocean762's training speech: 1,340 utterances, in units.
UTTERANCES, MEDIAN, SPREAD = 1340, 192, 0.42


class RandomBatches(Batches):
    """Padded batches of utterances in random order."""

    def _made(self, rng: np.random.Generator) -> list[list[str]]:
        ids = sorted(self._lengths)
        batches: list[list[str]] = [[]]
        longest = 0
        for index in rng.permutation(len(ids)):
            longest = max(longest, self._lengths[ids[index]])
            if batches[-1] and longest * (len(batches[-1]) + 1) > self._batch_frames:
                batches.append([])
                longest = self._lengths[ids[index]]
            batches[-1].append(ids[index])
        return batches


@dataclass
class Side:
    """One of the compared: what makes update number `n`, and the units that it learns from."""

    update: Callable[[int], object]
    batches: Batches
    lengths: Mapping[str, int]
    done: int = 0

    def rate(self, updates: int, device: str) -> float:
        """Units of speech per second over the next updates."""
        numbers = range(self.done, self.done + updates)
        units = sum(self.lengths[i] for n in numbers for i in self.batches.at(n)[1])
        steps = iter(numbers)
        step = until_done(lambda: self.update(next(steps)), device)
        start = time.perf_counter()
        for _ in numbers:
            step()
        self.done += updates
        return units / (time.perf_counter() - start)


def measure() -> Iterator[Row]:
    """`bert_train` and `bert_train_grouped`; the same with `_gpu`."""
    lengths, told = utterance_lengths()
    for device in devices():
        settings = settings_of(SIZE)
        sides = {
            name: make_side(name, settings, lengths, device) for name in (OURS, RANDOM, GROUPED)
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for round_number in range(ROUNDS + 1):
            for name, side in sides.items():
                rate = side.rate(UPDATES if round_number else WARM_UP, device)
                if round_number:
                    rates[name].append(rate)
        found = {name: statistics.median(values) for name, values in rates.items()}
        precision = chosen_precision(settings.precision, device)
        what = (
            f"{settings.layers} layers of {settings.dim}, {UNITS} units, {precision}, batches of "
            f"{settings.batch_frames} frames, {told}; {machine(device)}; peer: transformers"
        )
        for row, peer, order in (
            ("bert_train", RANDOM, "random order"),
            ("bert_train_grouped", GROUPED, "grouped lengths"),
        ):
            of_peer = f"{what} in {order}, {real_share(sides[peer]):.0%} of its frames speech"
            name = named(row, device)
            yield higher_is_better(name, found[OURS], found[peer], "units/s", of_peer)


def settings_of(size: str) -> BertSettings:
    """The BERT's settings; all else is the recipes' default."""
    return BertSettings(**SIZES[size], embedding_init="random")


def utterance_lengths() -> tuple[dict[str, int], str]:
    """Units by utterance, and where the lengths are from."""
    if SPEECH.is_file():
        import soundfile

        rows = [line.split("\t") for line in SPEECH.read_text("utf-8").splitlines()[1:]]
        seconds = {row[0]: soundfile.info(SPEECH.parent / row[2]).duration for row in rows}
        lengths = {name: round(s * UNITS_PER_SECOND) for name, s in seconds.items()}
        return lengths, f"lengths of {len(lengths)} utterances of speechocean762"
    drawn = MEDIAN * np.exp(SPREAD * generator("lengths").standard_normal(UTTERANCES))
    lengths = {f"u{n:04d}": int(length) for n, length in enumerate(np.clip(drawn, 50, 1500))}
    return lengths, f"log-normal lengths, median {MEDIAN}, deviation of logarithm {SPREAD}"


def real_share(side: Side) -> float:
    """The share of a padded batch's frames that is speech, over an epoch."""
    batches = side.batches.epoch(0)
    padded = sum(len(batch) * max(side.lengths[i] for i in batch) for batch in batches)
    return sum(side.lengths.values()) / padded


def make_side(name: str, settings: BertSettings, lengths: Mapping[str, int], device: str) -> Side:
    """The training of one side, from the same weights on the same units."""
    from transformers import BertConfig, BertForMaskedLM

    from stages.units.attention import NAME
    from stages.units.bert import bert_config

    size = UNITS + len(SPECIAL)
    rng = generator("units")
    tokens = {i: rng.integers(len(SPECIAL), size, count) for i, count in lengths.items()}
    torch.manual_seed(1)
    model = BertForMaskedLM(BertConfig(**bert_config(settings, size)))
    torch.nn.Module.to(model, device)
    masked = MaskedUnits(tokens, settings, size, 1, device)
    kinds = {OURS: PackedBatches, RANDOM: RandomBatches, GROUPED: Batches}
    batches = kinds[name](lengths, settings.batch_frames, 1)

    def ours(update: int, epoch: int, names: list[str]) -> Loss:
        losses_M, right_M = losses(model, masked.batch(names, epoch))
        return Loss(losses_M.mean(), {"accuracy": right_M.float().mean().item()}, len(losses_M))

    def theirs(update: int, epoch: int, names: list[str]) -> Loss:
        return Loss(model(**padded_batch(masked, names, epoch, device)).loss)

    if name == OURS:
        model.set_attn_implementation(NAME)
    training = Training(
        model=model,
        loss=ours if name == OURS else theirs,
        batches=batches,
        updates=settings.updates,
        learning_rate=settings.learning_rate,
        scale=linear_schedule(settings.updates, settings.warmup_updates),
        seed=1,
        checkpoint_every=settings.checkpoint_every,
        weight_decay=settings.weight_decay,
        precision=settings.precision,
    )
    optimizer = training.new_optimizer()
    return Side(lambda n: training.update(n, optimizer), batches, lengths)


def padded_batch(
    masked: MaskedUnits, names: list[str], epoch: int, device: str
) -> dict[str, Tensor]:
    """The arguments of BertForMaskedLM for these utterances, each padded to the longest."""
    shape = len(names), max(len(masked.tokens[name]) for name in names)
    seen_BF: NDArray[np.int64] = np.zeros(shape, np.int64)
    attended_BF, labels_BF = np.zeros_like(seen_BF), np.full(shape, -100)
    for row, name in enumerate(names):
        seen_F, hidden_F = masked.masked(name, epoch)
        length = len(seen_F)
        seen_BF[row, :length], attended_BF[row, :length] = seen_F, 1
        labels_BF[row, :length] = np.where(hidden_F, masked.tokens[name], -100)
    told = {"input_ids": seen_BF, "attention_mask": attended_BF, "labels": labels_BF}
    return {key: torch.from_numpy(value).to(device) for key, value in told.items()}


def profile(name: str) -> Any:
    """A table of the operations of two updates, for people: the verdict belongs in a commit."""
    lengths, _ = utterance_lengths()
    side = make_side(name, settings_of(SIZE), lengths, "cpu")
    side.update(0)
    with torch.profiler.profile() as found:
        for number in itertools.islice(itertools.count(1), 2):
            side.update(number)
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)


if __name__ == "__main__":
    print(profile(sys.argv[1] if len(sys.argv) > 1 else OURS))
