"""A corpus of noise, and recipes over it that run every stage and kind of writer in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

SENTENCES = ("turn left", "turn right", "go home now", "stop", "go left", "stop right now")
SPEAKERS = {"train": "abcd", "dev": "e", "test": "f"}
EACH = 3  # utterances a speaker
UPDATES = 6  # of each training; a checkpoint every 2


def write_corpus(root: Path) -> None:
    """Half of it at 8 kHz, so that stage 0 has audio to write."""
    seed = 0
    (root / "audio").mkdir(parents=True)
    for split, speakers in SPEAKERS.items():
        rows = ["utt_id\tspeaker\tpath\ttranscript\n"]
        for number in range(EACH * len(speakers)):
            seed += 1
            name = f"{split}-{number:02d}"
            rate_hz = 8_000 if number % 2 else 16_000
            samples = np.random.RandomState(seed).standard_normal(
                round((0.4 + 0.01 * (seed % 7)) * rate_hz)
            )
            soundfile.write(root / f"audio/{name}.wav", 0.1 * samples, rate_hz, "PCM_16")
            words = SENTENCES[seed % len(SENTENCES)]
            rows.append(f"{name}\t{speakers[number % len(speakers)]}\taudio/{name}.wav\t{words}\n")
        (root / f"{split}.tsv").write_text("".join(rows), "utf-8")


def values(root: Path, frontend: str = "unit_bert") -> dict[str, Any]:
    """The sections of a recipe; `quantizer.type: none` where the front-end is `wav2vec`."""
    training = {"updates": UPDATES, "checkpoint_every": 2}
    return {
        "corpus": {
            "kind": "tsv",
            "root": str(root),
            "train": "train.tsv",
            "dev": "dev.tsv",
            "test": {"test": "test.tsv"},
        },
        "budgets": ["all"],
        "quantizer": {
            "type": "gumbel",
            "encoder_layers": [[8, 10, 5], [8, 8, 4], [8, 4, 4], [8, 4, 2]],
            "aggregator_layers": [[8, 2, 1], [8, 3, 1]],
            "codes": 4,
            "prediction_steps": 2,
            "negatives": 2,
            "dropout": 0.1,
            "crop_samples": 4000,
            "batch_samples": 12_000,
            **training,
        },
        "bert": {
            "layers": 1,
            "dim": 16,
            "ffn_dim": 16,
            "heads": 2,
            "warmup_updates": 2,
            "batch_frames": 100,
            "validate_every": 3,
            **training,
        },
        # Of word pieces the search has equals, among which it chooses by where they lie in memory.
        "text": {"units": "letters"},
        "lm": {"order": 2},
        "frontend": frontend,
        "finetune": {"batch_frames": 100, "subsample": 1, "validate_every": 3, **training},
        "decode": {"lm_weights": [0.0, 1.0], "word_scores": [0.0], "beam": 5, "nbest": 2},
        "machine": {"device": "cpu", "threads": 1},
    }


def write_recipe(folder: Path, root: Path, frontend: str = "unit_bert") -> Path:
    path = folder / f"{frontend}.yaml"
    path.write_text(yaml.safe_dump(values(root, frontend), sort_keys=False), "utf-8")
    return path
