"""Word times of CTM files beside boundaries that are known, because the corpus joined the words.

Audio, features, encoder, CTC layer and decoder are the product's own. Only weights are made by
hand: an encoder without layers that tells loud from quiet, so that nothing is trained and what
comes out follows from where the sound is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from pipeline import audio
from pipeline.manifest import Manifest, Utterance
from stages.acoustic import windows, written
from stages.acoustic.decoders.greedy import Greedy
from stages.acoustic.encoders import FeatureEncoder
from stages.acoustic.frontends import log_mel
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.acoustic.recurrent import RecurrentEncoder
from stages.acoustic.search import decode_one
from stages.acoustic.targets import Targets
from stages.prepare.corpora import digits
from stages.prepare.corpus import Source

RATE_HZ = 8000
HIGHEST_HZ = 3000  # above it, resampling leaves the edges of a string alone
SUBSAMPLE = 2
MEL_BINS = 80
LOUD = 0.6  # of normalised log-mel, where loud is 0.7 and quiet -1.4: half a window in the sound
Spans = list[tuple[float, float]]  # start and end of each word, seconds


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Strings of noise bursts, each said to be the word `one`, by the corpus' own code."""
    root = tmp_path_factory.mktemp("digits")
    draw = np.random.default_rng(0)
    lines = ["utt_id\tspeaker\tpath\ttranscript"]
    for n in range(70):
        speaker = ("anna", "bert", "carl")[min(n // 5, 2)]
        samples = 0.1 * draw.standard_normal(int(draw.integers(2_000, 4_800)))
        samples[loud(len(samples)) :] *= 1e-3
        soundfile.write(root / f"{n}.wav", samples, RATE_HZ, "PCM_16")
        lines.append(f"u{n:02d}\t{speaker}\t{n}.wav\tone")
    (root / digits.LIST).write_text("\n".join(lines) + "\n", "utf-8")
    settings = digits.Settings(root=root, test_speakers=["carl"], pause_seconds=(0.15, 0.3))
    return digits.splits(settings)["test/test"]


def loud(samples: int) -> int:
    """Of so many samples of a recording; the rest is quiet, which is what pauses are made of."""
    return samples - samples // 6


def said(string: Source) -> Spans:
    """Where the sound of a string lies, by its recordings and the pauses that it tells."""
    spans, at = [], 0
    pauses = string.parameters["pauses_seconds"][:-1]
    for name, pause in zip(string.files, pauses, strict=True):
        start = at + round(pause * RATE_HZ)
        length = soundfile.info(string.root / name).frames
        spans.append((start / RATE_HZ, (start + loud(length)) / RATE_HZ))
        at = start + length
    return spans


def ear(kind: str, stride: int) -> AcousticModel:
    """A model that says `one` where it is loud: its encoder averages `stride` frames."""
    if kind == "lstm":
        config = {"layers": 0, "hidden": 2, "dim": 2, "dropout": 0.0}
        encoder: Any = RecurrentEncoder({"channels": MEL_BINS, "stride": stride} | config)
    else:
        sizes = {"hidden_size": 2, "num_attention_heads": 1, "num_hidden_layers": 0}
        bert = sizes | {"vocab_size": 2, "max_position_embeddings": 512}
        encoder = FeatureEncoder({"channels": MEL_BINS, "stride": stride, "bert": bert})
    config_of = AcousticConfig({"name": "log_mel"}, targets=2, subsample=SUBSAMPLE)
    model = AcousticModel(config_of, encoder).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    middle = FeatureEncoder.CONTEXT_FRAMES // 2
    encoder.project.weight.zero_()
    # A LayerNorm of two channels leaves the sign of their difference: loud or not.
    encoder.project.weight[0, :, middle : middle + stride] = 1 / (MEL_BINS * stride)
    encoder.project.bias[:] = torch.tensor([0.0, LOUD])
    if kind == "lstm":
        encoder.out.weight[:], encoder.out.bias[:] = torch.eye(2), 0.0
    else:
        for table in encoder.bert.embeddings.children():
            if isinstance(table, torch.nn.Embedding):
                table.weight.zero_()
    blank, one = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    model.ctc.weight[:] = torch.stack([blank, one]).repeat(1, SUBSAMPLE)
    model.ctc.bias[:] = torch.tensor([0.0, 1e-3])  # half a frame of sound is sound
    return model


def heard(strings: Sequence[Source], model: AcousticModel, folder: Path) -> dict[str, Spans]:
    """Start and end of the words of each string, from the CTM file."""
    decoder, found, utterances = Greedy(Targets("words", ["<blank>", "one"])), {}, []
    filled: dict[str, float] = {}
    for string in strings:
        loaded = digits.load(string)
        samples = audio.resample(loaded.samples, loaded.rate_hz)
        feats_FD = log_mel.log_mel(samples, log_mel.Settings(highest_hz=HIGHEST_HZ))
        log_probs_TV = windows.log_probs(model, feats_FD, "cpu")
        filled[string.id] = len(feats_FD) / model.step
        found[string.id] = decode_one(decoder, log_probs_TV, (0.0, 0.0), 1)
        about = len(samples), loaded.speech_seconds, string.transcript
        utterances.append(Utterance(string.id, string.speaker, "", True, *about))
    written.write(folder, "greedy", found, Manifest(utterances, folder), filled)
    spans: dict[str, Spans] = {}
    for line in (folder / "greedy.ctm").read_text("utf-8").splitlines():
        name, _, start, lasts, word, _ = line.split()
        assert word == "one"
        spans.setdefault(name, []).append((float(start), float(start) + float(lasts)))
    return spans


@pytest.mark.parametrize("kind, stride", [("lstm", 2), ("transformer", 2), ("lstm", 3)])
def test_words_lie_where_their_recordings_were_put(
    strings: list[Source], tmp_path: Path, kind: str, stride: int
) -> None:
    """Within a frame of the CTC layer, and on average within half of one."""
    frame = stride * SUBSAMPLE * log_mel.HOP_SAMPLES / audio.SAMPLE_RATE_HZ
    found = heard(strings, ear(kind, stride), tmp_path)
    errors: tuple[list[float], list[float]] = ([], [])  # of starts, of ends
    for string in strings:
        true = said(string)
        assert len(found[string.id]) == len(true)
        for span, real in zip(found[string.id], true, strict=True):
            for each, told, expected in zip(errors, span, real, strict=True):
                each.append(told - expected)
    for each in errors:
        assert len(each) == 60
        assert max(map(abs, each)) <= frame
        assert abs(fmean(each)) <= frame / 2
