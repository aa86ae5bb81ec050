"""Strings of digits by voices that no model has heard: a test set for the digits' recipes.

    python -m tests.benchmarks.new_voices DIR

Writes DIR/new.tsv and its audio, sixty strings of five digits by six voices of espeak-ng, each
digit spoken alone, as the corpus was recorded. They are no people: what they show is whether a
recipe takes a test set of other speakers without training, and how far its models go beyond the
speech that they were made for. Then:

    vqasr run recipes/digits.yaml --set corpus.root=... --set 'corpus.test={new: DIR/new.tsv}'
"""

from __future__ import annotations

import random
from pathlib import Path

import click
import numpy as np

WORDS = "zero one two three four five six seven eight nine".split()
VOICES = ("en-us+m3@45", "en-us+f2@55", "en-gb@50", "en-gb+f4@60", "en-us+m7@40", "en-gb+m1@52")
STRINGS, DIGITS = 10, 5  # strings of each voice, digits of a string
WORDS_PER_MINUTE = 150
PAUSE_SECONDS = (0.05, 0.25)


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """See the module."""
    from pipeline import audio
    from stages.prepare import espeak

    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rng, noise = random.Random(1), np.random.RandomState(1)
    rows = ["utt_id\tspeaker\tpath\ttranscript"]
    for number, name in enumerate(VOICES):
        voice = espeak.Voice.parse(name)
        for n in range(STRINGS):
            words, pieces = rng.choices(WORDS, k=DIGITS), []
            for word in words:
                pieces.append(espeak.synthesize(word, voice, WORDS_PER_MINUTE, rng.getrandbits(31)))
                pieces.append(np.zeros(round(rng.uniform(*PAUSE_SECONDS) * espeak.RATE_HZ)))
            samples = np.concatenate(pieces)
            samples += 1e-3 * noise.standard_normal(len(samples))  # a recording is never silent
            path = f"audio/{number}-{n}.flac"
            audio.write(folder / path, samples.astype(np.float32), espeak.RATE_HZ)
            rows.append(f"v{number}-{n}\tvoice{number}\t{path}\t{' '.join(words)}")
    (folder / "new.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    print(f"{len(rows) - 1} strings in {folder / 'new.tsv'}")


if __name__ == "__main__":
    main()
