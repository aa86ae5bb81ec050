"""LibriSpeech and Libri-light's limited supervision in small: made-up speech, the published layout.

Sets, speakers, folders, names and transcripts are laid out as published; there are fewer of them.
Each of Libri-light's seven parts (1h/0 to 1h/5, 9h) has one speaker of train-clean-100 and one of
train-other-500, with two of their three utterances.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import soundfile

SPEAKERS = {
    "train-clean-100": [101, 102, 103, 104, 105, 106, 107, 108],  # 108 is in no limited set
    "train-clean-360": [301],
    "train-other-500": [501, 502, 503, 504, 505, 506, 507],
    "dev-clean": [11],
    "dev-other": [12],
    "test-clean": [21],
    "test-other": [22],
}
PARTS = [*(f"1h/{n}" for n in range(6)), "9h"]
CHAPTER = 9000
UTTERANCES = 3  # of a speaker
LIMITED_UTTERANCES = 2  # of those, in Libri-light's folder
SENTENCES = ["TURN LEFT", "TURN RIGHT", "GO HOME NOW", "STOP", "GO LEFT", "STOP RIGHT NOW", "DON'T"]


def make(root: Path, seconds: float = 0.4) -> Path:
    """LibriSpeech/ and librispeech_finetuning/ in `root`, with a README.TXT as published."""
    number = 0
    for name, speakers in SPEAKERS.items():
        for speaker in speakers:
            folder = root / "LibriSpeech" / name / str(speaker) / str(CHAPTER + speaker)
            folder.mkdir(parents=True)
            lines = []
            for n in range(UTTERANCES):
                number += 1
                identity = f"{speaker}-{CHAPTER + speaker}-{n:04d}"
                count = round((seconds + 0.01 * (number % 7)) * 16_000)
                samples = 0.1 * np.random.RandomState(number).standard_normal(count)
                soundfile.write(folder / f"{identity}.flac", samples, 16_000, "PCM_16")
                lines.append(f"{identity} {SENTENCES[number % len(SENTENCES)]}\n")
            (folder / f"{speaker}-{CHAPTER + speaker}.trans.txt").write_text("".join(lines))
    (root / "LibriSpeech" / "README.TXT").write_text("made up\n")
    for number, part in enumerate(PARTS):
        for condition, name in (("clean", "train-clean-100"), ("other", "train-other-500")):
            _copy_limited(root, part, condition, name, SPEAKERS[name][number])
    return root


def _copy_limited(root: Path, part: str, condition: str, name: str, speaker: int) -> None:
    source = root / "LibriSpeech" / name / str(speaker) / str(CHAPTER + speaker)
    target = root / "librispeech_finetuning" / part / condition / str(speaker) / source.name
    target.mkdir(parents=True)
    listing = f"{speaker}-{source.name}.trans.txt"
    lines = (source / listing).read_text().splitlines(keepends=True)[:LIMITED_UTTERANCES]
    (target / listing).write_text("".join(lines))
    for line in lines:
        shutil.copy(source / f"{line.split()[0]}.flac", target)


def archive(root: Path, served: Path) -> None:
    """The archives of `root` as publishers name them: `12/<set>.tar.gz` and Libri-light's."""
    (served / "12").mkdir(parents=True, exist_ok=True)
    for name in SPEAKERS:
        with tarfile.open(served / "12" / f"{name}.tar.gz", "w:gz") as packed:
            packed.add(root / "LibriSpeech" / "README.TXT", "LibriSpeech/README.TXT")
            packed.add(root / "LibriSpeech" / name, f"LibriSpeech/{name}")
    with tarfile.open(served / "librispeech_finetuning.tgz", "w:gz") as packed:
        packed.add(root / "librispeech_finetuning", "librispeech_finetuning")


def ids(*parts: str) -> set[str]:
    """The utterances of parts of the limited supervision, such as `1h/0`."""
    return {
        f"{speaker}-{CHAPTER + speaker}-{n:04d}"
        for part in parts
        for name in ("train-clean-100", "train-other-500")
        for speaker in (SPEAKERS[name][PARTS.index(part)],)
        for n in range(LIMITED_UTTERANCES)
    }
