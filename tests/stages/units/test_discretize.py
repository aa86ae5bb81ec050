"""Stage 2: units of every utterance, shards that survive a kill, and the vocabulary."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import audio
from pipeline.errors import RunError
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import DiscretizeSettings
from pipeline.stage import StepContext
from stages.quantizer import health, inference, stage
from stages.quantizer.inference import Codes, Inference
from stages.quantizer.model import QuantizerConfig, QuantizerModel
from stages.units import discretize, shards
from stages.units.corpus import FACTS, UnitCorpus, facts_text, shard_path, write_shard
from stages.units.vocabulary import SPECIAL, Vocabulary

MakeContext = Callable[..., StepContext]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Seven utterances, and an untrained quantizer of 2 x 6 codes."""
    rng, rows = np.random.RandomState(0), []
    for number in range(7):
        samples = (0.1 * rng.standard_normal(4000 + 160 * number)).astype(np.float32)
        audio.write(tmp_path / "manifest" / f"{number}.flac", samples)
        rows.append(Utterance(f"u{number}", "s", f"{number}.flac", True, len(samples), 0.3, None))
    Manifest(rows, tmp_path / "manifest").write()
    torch.manual_seed(0)
    config = QuantizerConfig(
        encoder_layers=[(8, 10, 5), (8, 8, 4), (8, 4, 4)],
        aggregator_layers=[(8, 2, 1)],
        groups=2,
        codes=6,
        input_norm=True,
        projection_init="normal",
        codebook_init="normal",
    )
    QuantizerModel(config).save_pretrained(tmp_path / "quantizer")
    return {"manifest": tmp_path / "manifest", "quantizer": tmp_path / "quantizer"}


def test_every_utterance_gets_the_units_of_the_model(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    ctx = context("units", inputs)
    discretize.discretize(ctx)
    corpus, manifest = UnitCorpus(ctx.folder), Manifest.load(inputs["manifest"])
    model = QuantizerModel.from_pretrained(inputs["quantizer"]).eval()
    assert list(corpus) == [u.id for u in manifest]
    for utterance in manifest:
        with torch.inference_mode():
            units_FG = model.units(torch.from_numpy(manifest.samples(utterance)))
        np.testing.assert_array_equal(corpus[utterance.id], units_FG.numpy())
        assert len(units_FG) == model.frames(utterance.samples)
    facts = json.loads((ctx.folder / FACTS).read_text())
    size = {"utterances": 7, "groups": 2, "codes": 6, "hop_samples": 80}
    assert facts == size | {"precision": "fp32", "near_ties": 0}


@pytest.mark.parametrize(
    "changed", [{"batch_seconds": 1.0}, {"batch_seconds": 500.0, "readers": 5}, {"readers": 1}]
)
def test_memory_and_readers_change_no_byte(
    context: MakeContext, inputs: dict[str, Path], changed: dict[str, Any]
) -> None:
    as_default, other = context("default", inputs), context("other", inputs)
    discretize.discretize(as_default)
    discretize.discretize(other, DiscretizeSettings(**changed))
    assert content(as_default.folder) == content(other.folder)
    assert DiscretizeSettings(**changed).signed() == DiscretizeSettings().signed()


def test_audio_computed_and_audio_read_ahead_are_within_the_limit_together(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, codes, held, most = Manifest.samples, Inference.codes, 0, 0

    def reading(manifest: Manifest, utterance: Utterance) -> Any:
        nonlocal held, most
        with lock:
            held += utterance.samples
            most = max(most, held)
        return read(manifest, utterance)

    def computing(ready: Inference, utterances: list[torch.Tensor]) -> list[Codes]:
        nonlocal held
        time.sleep(0.1)  # so that the readers are as far ahead as they may be
        found = codes(ready, utterances)
        with lock:
            held -= sum(map(len, utterances))
        return found

    lock = threading.Lock()
    monkeypatch.setattr(Manifest, "samples", reading)
    monkeypatch.setattr(Inference, "codes", computing)
    discretize.discretize(context("units", inputs), DiscretizeSettings(batch_seconds=1.2))
    assert 9000 < most <= 1.2 * audio.SAMPLE_RATE_HZ  # several utterances, but no more


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_step_keeps_its_shards_and_writes_the_same_bytes(
    context: MakeContext,
    inputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    monkeypatch.setattr(shards, "UTTERANCES_PER_SHARD", 2)
    whole, killed = context("whole", inputs), context("killed", inputs)
    discretize.discretize(whole)
    decide, asked = Inference._decide, 0

    def until(inference: Inference, z_FD: torch.Tensor) -> Codes:
        nonlocal asked
        asked += 1
        if asked == 2 * after:
            raise KeyboardInterrupt
        return decide(inference, z_FD)

    monkeypatch.setattr(Inference, "_decide", until)
    with pytest.raises(KeyboardInterrupt):
        discretize.discretize(killed)
    asked = 100
    discretize.discretize(killed)
    assert asked - 100 == 7 - 2 * (after - 1)
    assert list(content(whole.folder)) == [*(f"units-0000{n}.parquet" for n in range(4)), FACTS]
    assert content(whole.folder) == content(killed.folder)


def test_a_machine_whose_auto_is_another_precision_may_not_join(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context("shared", inputs)

    def on_machine_of(precision: str) -> None:
        monkeypatch.setattr(inference, "chosen_precision", lambda *_: precision)
        discretize.discretize(ctx, DiscretizeSettings(precision="auto"))

    on_machine_of("bf16")
    made = content(ctx.folder)
    assert json.loads(made[FACTS])["precision"] == "bf16"
    with pytest.raises(RunError, match=r"(?s)must: bf16.*found: fp32.*set discretize\.precision"):
        on_machine_of("fp32")
    on_machine_of("bf16")
    assert content(ctx.folder) == made


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


WORKER = """
import sys, time
from pathlib import Path
import torch
from pipeline.stage import StepContext
from stages.quantizer.inference import Inference
from stages.units import discretize, shards
folder, manifest, quantizer, told, seconds = sys.argv[1:]
torch.set_num_threads(1)
shards.UTTERANCES_PER_SHARD = 1
decide = Inference._decide
def slow(inference, z_FD):
    Path(told).open("a").write(f"{len(z_FD)}\\n")
    time.sleep(float(seconds))
    return decide(inference, z_FD)
Inference._decide = slow
inputs = {"manifest": Path(manifest), "quantizer": Path(quantizer)}
discretize.discretize(StepContext(Path(folder), inputs, "cpu", Path(folder)))
"""


def worker(folder: Path, inputs: dict[str, Path], told: Path, seconds: float) -> Any:
    folder.mkdir(exist_ok=True)
    where = [folder, inputs["manifest"], inputs["quantizer"], told, seconds]
    command = [sys.executable, "-c", WORKER, *map(str, where)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL)


def lines(told: Path) -> list[str]:
    return told.read_text().split() if told.exists() else []


def test_two_processes_share_the_shards_and_one_that_dies_is_replaced(
    context: MakeContext,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "UTTERANCES_PER_SHARD", 1)
    alone = context("alone", inputs)
    discretize.discretize(alone)
    folder, told = tmp_path / "shared", [tmp_path / name for name in ("first", "second", "third")]
    dies = worker(folder, inputs, told[0], 60)
    end = time.monotonic() + 60
    while not lines(told[0]) and time.monotonic() < end:
        time.sleep(0.02)
    others = [worker(folder, inputs, path, 0.3) for path in told[1:]]
    while len(lines(told[1]) + lines(told[2])) < 6 and time.monotonic() < end:
        time.sleep(0.02)
    assert all(other.poll() is None for other in others)  # they wait for the shard of the first
    dies.send_signal(signal.SIGKILL)
    dies.wait()
    assert [other.wait() for other in others] == [0, 0]
    assert len(lines(told[1]) + lines(told[2])) == 7  # each shard once, that of the dead too
    assert content(folder) == content(alone.folder)


def test_frames_that_rounding_decides_are_counted_and_said(
    context: MakeContext, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = QuantizerModel.from_pretrained(inputs["quantizer"])
    with torch.no_grad():
        for parameter in model.vector_quantizer.weight_proj.parameters():
            parameter[1:6] = parameter[0]
    model.save_pretrained(inputs["quantizer"])
    ctx = context("units", inputs)
    discretize.discretize(ctx)
    frames = sum(len(units) for units in dict(UnitCorpus(ctx.folder)._units).values())
    assert json.loads((ctx.folder / FACTS).read_text())["near_ties"] == frames
    assert f"in {frames} frames two codes are equal" in capsys.readouterr().out


@given(samples=st.lists(st.integers(1, 10**8), max_size=30), most=st.integers(1, 9))
def test_shards_hold_every_utterance_once_and_little_each(samples: list[int], most: int) -> None:
    rows = [Utterance(f"{n}", "s", "x", True, s, 1.0, None) for n, s in enumerate(samples)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "UTTERANCES_PER_SHARD", most)
        planned = [rows[where] for where in shards.plan(iter(rows))]
    assert [u for shard in planned for u in shard] == rows
    for shard in planned:
        assert len(shard) <= most
        assert len(shard) == 1 or sum(u.seconds for u in shard) <= 3600


def test_audio_that_changed_since_stage_0_is_refused(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    audio.write(inputs["manifest"] / "3.flac", np.full(1000, 0.1, np.float32))
    with pytest.raises(RunError, match=r"Utterance u3: .*has changed since stage 0"):
        discretize.discretize(context("units", inputs))


def units_of(folder: Path, units_FG: list[list[int]]) -> Path:
    folder.mkdir()
    write_shard(shard_path(folder, 0), ["u"], [np.array(units_FG, np.int16)])
    (folder / FACTS).write_text(facts_text({"utterances": 1, "groups": 2, "codes": 6}))
    return folder


def test_a_small_codebook_gives_all_pairs(
    context: MakeContext, inputs: dict[str, Path], tmp_path: Path
) -> None:
    given = {"units/train": units_of(tmp_path / "units", [[0, 1], [5, 5]])} | inputs
    ctx = context("vocabulary", given)
    discretize.build_vocabulary(ctx)
    vocabulary = Vocabulary.load(ctx.folder)
    assert len(vocabulary) == 36 + len(SPECIAL)
    model = QuantizerModel.from_pretrained(inputs["quantizer"])
    units_xG = torch.from_numpy(vocabulary.units_TG)
    expected = model.vectors(units_xG).detach().numpy()
    np.testing.assert_allclose(vocabulary.vectors_TD, expected, atol=1e-6)


def test_a_large_codebook_gives_the_pairs_of_pretraining_alone(
    context: MakeContext,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discretize, "ALL_PAIRS_UP_TO", 35)
    given = {
        "units/train": units_of(tmp_path / "one", [[5, 5], [0, 1], [5, 5]]),
        "units/unlabelled/0": units_of(tmp_path / "two", [[2, 3]]),
    }
    ctx = context("vocabulary", given | inputs)
    discretize.build_vocabulary(ctx)
    assert Vocabulary.load(ctx.folder).symbols[3:] == ["0-1", "2-3", "5-5"]


@pytest.mark.case(28)
def test_a_collapsed_codebook_is_refused(
    context: MakeContext, inputs: dict[str, Path], tmp_path: Path
) -> None:
    given = {"units/train": units_of(tmp_path / "units", [[1, 1]] * 50)} | inputs
    with pytest.raises(RunError, match=r"(?s)collapsed.*1 unit in use.*diversity_weight"):
        discretize.build_vocabulary(context("vocabulary", given))


@pytest.mark.case(28)
def test_a_quantizer_that_collapsed_is_not_used(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    report = health.report(np.full((50, 2), 3), 6)
    (inputs["quantizer"] / stage.CODEBOOK).write_text(json.dumps(report))
    ctx = context("units", inputs)
    with pytest.raises(RunError, match=r"(?s)collapsed.*1 of 6, 1 of 6 codes.*on_collapse"):
        discretize.discretize(ctx)
    assert not list(ctx.folder.iterdir())
