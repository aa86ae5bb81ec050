"""The small thing that each component must do for `vqasr check`.

A probe returns what it did, in a few words, and raises where that went wrong. What it tries is
imported inside of it, so that a broken component breaks one line of the report only.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import RunError
from pipeline.kenlm_tools import kenlm_tool

REMEDY = "run `make setup`"
THREE_LINES = "one two three\nthree one two\ntwo two one\n"
TOOL_SECONDS = 60.0


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise RunError(what)


def _python() -> str:
    version = sys.version_info[:2]
    if version not in ((3, 11), (3, 12)):
        raise RunError("must be 3.11 or 3.12", remedy="make setup PYTHON=python3.12")
    return f"in {sys.prefix}"


def _torch() -> str:
    import torch

    product = torch.arange(6.0).reshape(2, 3) @ torch.ones(3, 2)
    _expect(product.tolist() == [[3.0, 3.0], [12.0, 12.0]], f"a wrong product: {product.tolist()}")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"multiplies, {torch.get_num_threads()} threads, {device}"


def _fairseq() -> str:
    import torch

    from stages.quantizer.fairseq.bridge import import_fairseq

    models = import_fairseq("fairseq.models.wav2vec.wav2vec")
    layers = "[(8, 10, 5), (8, 8, 4)]"
    config = models.Wav2VecConfig(conv_feature_layers=layers, conv_aggregator_layers="[(8, 2, 1)]")
    model = models.Wav2VecModel.build_model(config, None)
    frames = model.feature_extractor(torch.zeros(1, 400)).shape[-1]
    _expect(frames == 18, f"wav2vec made {frames} frames of 400 samples, not 18")
    return "builds wav2vec"


def _transformers() -> str:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    states = BertModel(config)(input_ids=torch.zeros(1, 3, dtype=torch.long)).last_hidden_state
    _expect(tuple(states.shape) == (1, 3, 8), f"BERT made the shape {tuple(states.shape)}")
    return "runs a BERT"


def _kenlm() -> str:
    import kenlm

    with tempfile.TemporaryDirectory() as folder:
        model = kenlm.Model(str(_binary_of_three_lines(Path(folder))))
        seen, unseen = model.score("one two three"), model.score("four five six")
    _expect(seen > unseen, f"a seen sentence scores {seen}, an unseen one {unseen}")
    return "scores sentences"


def _lmplz() -> str:
    with tempfile.TemporaryDirectory() as folder:
        arpa = _arpa_of_three_lines(Path(folder))
        _expect("\\2-grams:" in arpa.read_text(), "no 2-grams in what it wrote")
    return str(kenlm_tool("lmplz"))


def _build_binary() -> str:
    with tempfile.TemporaryDirectory() as folder:
        _binary_of_three_lines(Path(folder))
    return str(kenlm_tool("build_binary"))


def _arpa_of_three_lines(folder: Path) -> Path:
    # Without -S it reserves most of the memory; a tiny text has no counts to discount by.
    arguments = ["-o", "2", "-S", "10%", "-T", str(folder), "--discount_fallback"]
    arpa = folder / "lm.arpa"
    arpa.write_text(_run_tool("lmplz", arguments, THREE_LINES))
    return arpa


def _binary_of_three_lines(folder: Path) -> Path:
    binary = folder / "lm.bin"
    _run_tool("build_binary", [str(_arpa_of_three_lines(folder)), str(binary)], "")
    return binary


def _run_tool(name: str, arguments: list[str], text: str) -> str:
    done = subprocess.run(
        [str(kenlm_tool(name)), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing said"]
        raise RunError(f"{name} ended with {done.returncode}: {said[-1]}")
    return done.stdout


def _flashlight() -> str:
    from flashlight.lib.text.decoder import ZeroLM
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    words = Dictionary()
    for word in ("one", "two", "three"):
        words.add_entry(word)
    ZeroLM()
    with tempfile.TemporaryDirectory() as folder:
        KenLM(str(_binary_of_three_lines(Path(folder))), words)
    return "decoder loads a KenLM model"


def _sentencepiece() -> str:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(THREE_LINES.splitlines()),
        model_writer=model,
        vocab_size=12,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    _expect(pieces.decode(pieces.encode("one two")) == "one two", "text does not come back")
    return "trains, encodes and decodes"


def _soundfile() -> str:
    import numpy as np
    import soundfile

    tone = np.sin(np.arange(16_000) * 0.1).astype(np.float32) / 2
    for kind, subtype, error in (("FLAC", "PCM_16", 1e-4), ("OGG", "OPUS", 0.1)):
        file = io.BytesIO()
        soundfile.write(file, tone, 16_000, format=kind, subtype=subtype)
        file.seek(0)
        back, rate_hz = soundfile.read(file, dtype="float32")
        same = rate_hz == 16_000 and len(back) == len(tone)
        _expect(same, f"{subtype}: {len(back)} samples at {rate_hz} Hz of 16000 came back")
        worst = float(np.abs(back - tone)[2_000:-2_000].max())
        _expect(worst < error, f"{subtype}: samples are off by {worst:.3f}")
    return "FLAC and Opus there and back"


def _soxr() -> str:
    import numpy as np
    import soxr

    count = len(soxr.resample(np.zeros(8_000, np.float32), 8_000, 16_000))
    _expect(count == 16_000, f"8000 samples at 8 kHz became {count} at 16 kHz")
    return "resamples"


def _espeak() -> str:
    from stages.prepare.espeak import RATE_HZ, Voice, synthesize

    seconds = len(synthesize("one two", Voice.parse("en-us@50"), 175, 0)) / RATE_HZ
    _expect(0.2 < seconds < 5, f"two words took {seconds:.2f} s to say")
    return f"said two words in {seconds:.1f} s of audio"


def _jiwer() -> str:
    import jiwer

    rate = jiwer.process_words(["one two three"], ["one three"]).wer
    _expect(abs(rate - 1 / 3) < 1e-9, f"a WER of {rate}, not 1/3")
    return "counts errors"


def _tensorboard() -> str:
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            writer.add_scalar("loss", 1.0, 1)
        _expect(any(Path(folder).iterdir()), "no event file written")
    return "writes events"


def _pyarrow() -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": ["a", "b"], "units": [[1, 2], [3]]})
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/t.parquet")
        _expect(pq.read_table(f"{folder}/t.parquet").equals(table), "another table came back")
    return "Parquet there and back"


# Name, distribution (for the version), probe. In the order of the work.
COMPONENTS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("python", "", _python),
    ("vqasr", "vqasr", lambda: str(Path(__file__).resolve().parent.parent)),
    ("torch", "torch", _torch),
    ("soundfile", "soundfile", _soundfile),
    ("soxr", "soxr", _soxr),
    ("espeak-ng", "espeakng-loader", _espeak),
    ("pyarrow", "pyarrow", _pyarrow),
    ("fairseq", "fairseq", _fairseq),
    ("transformers", "transformers", _transformers),
    ("sentencepiece", "sentencepiece", _sentencepiece),
    ("lmplz", "kenlm", _lmplz),
    ("build_binary", "kenlm", _build_binary),
    ("kenlm", "kenlm", _kenlm),
    ("flashlight", "flashlight-text", _flashlight),
    ("jiwer", "jiwer", _jiwer),
    ("tensorboard", "tensorboard", _tensorboard),
)
