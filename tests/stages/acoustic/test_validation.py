"""Word errors on dev in the course of a training, and the weights that they choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch

from pipeline import audio
from pipeline.errors import UserError
from pipeline.finetune_settings import CtcSettings
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import BertSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import finetune, lm_stage
from stages.acoustic.decoders.greedy import Greedy, collapse
from stages.acoustic.frontends import log_mel
from stages.acoustic.model import AcousticModel
from stages.acoustic.targets import Targets
from stages.acoustic.validation import ByErrors, DevErrors

BERT = BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=256, dropout=0.1)
FRONTEND = log_mel.Settings(mel_bins=16)
SETTINGS = CtcSettings(
    updates=6,
    batch_frames=200,
    subsample=1,
    checkpoint_every=2,
    precision="fp32",
    validate_every=2,
    learning_rate=0.01,
)
TRANSCRIPTS = {"a": "go on", "b": "turn left", "c": "see", "d": "stop now", "e": "see me go"}
MakeContext = Callable[..., StepContext]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def manifest(folder: Path, texts: dict[str, str | None], first: int) -> Path:
    rows = []
    for n, (name, text) in enumerate(texts.items(), first):
        noise = 0.1 * np.random.RandomState(n).standard_normal(12_000 + 1000 * n)
        audio.write(folder / f"{name}.flac", noise.astype(np.float32))
        rows.append(Utterance(name, "s", f"{name}.flac", text is not None, len(noise), 1.0, text))
    Manifest(rows, folder).write()
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in ("text", "targets", "budget")}
    for folder in folders.values():
        folder.mkdir()
    text = folders.pop("text")
    (text / "lm_text.txt").write_text("".join(f"{t}\n" for t in TRANSCRIPTS.values()))
    (text / "lm_text.json").write_text('{"name": "toy"}')
    lm = StepContext(folders["targets"], {"text": text}, "cpu", tmp_path)
    lm_stage.make_targets(lm, TextSettings())
    (folders["budget"] / "ids.txt").write_text("".join(f"{i}\n" for i in TRANSCRIPTS))
    folders["manifest"] = manifest(tmp_path / "train", dict(TRANSCRIPTS), 0)
    dev = {"dev-x": "go left", "dev-y": "stop me now", "dev-z": "see on"}
    folders["dev/manifest"] = manifest(tmp_path / "dev", dict(dev), 10)
    return folders


def train(
    ctx: StepContext, settings: CtcSettings = SETTINGS, bert: BertSettings = BERT
) -> dict[str, Any]:
    finetune.finetune(ctx, frontend=FRONTEND, bert=bert, settings=settings, seed=1)
    told: dict[str, Any] = json.loads((ctx.folder / "training.json").read_text())
    return told


def errors(ctx: StepContext, model: AcousticModel, **named: Any) -> DevErrors:
    dev = Manifest.load(ctx.inputs["dev/manifest"])
    features = log_mel.open_split(FRONTEND, {"manifest": ctx.inputs["dev/manifest"]})
    transcripts = {u.id: u.transcript for u in dev} | named
    targets = Targets.load(ctx.inputs["targets"])
    return DevErrors(model, features, transcripts, targets, SETTINGS, "cpu")


def test_the_weights_kept_are_those_that_dev_chose(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the series 0.9, 0.4, 0.4, 0.7 the second is the best: not the last."""
    figures = iter([(0.9, 1.0), (0.4, 2.0), (0.4, 3.0), (0.7, 0.5)])
    seen: list[dict[str, torch.Tensor]] = []

    def watched(self: DevErrors, done: int) -> dict[str, float]:
        weights = self._model.state_dict()
        seen.append({name: value.clone() for name, value in weights.items()})
        return dict(zip(("dev_wer", "dev_loss"), next(figures), strict=True))

    monkeypatch.setattr(DevErrors, "__call__", watched)
    ctx = context("model", inputs)
    told = train(ctx, SETTINGS.model_copy(update={"updates": 7}))
    found = AcousticModel.from_pretrained(ctx.folder).state_dict()
    equal = [all(torch.equal(found[n], weights[n]) for n in found) for weights in seen]
    assert equal == [False, True, False, False]
    assert [row["update"] for row in told["history"]] == [2, 4, 6, 7, 7]
    assert told["best"] == {"update": 4, "dev_wer": 0.4, "dev_loss": 2.0}
    assert told["updates"] == 7
    weights = {
        n: p.numel() for n, p in AcousticModel.from_pretrained(ctx.folder).named_parameters()
    }
    assert told["parameters"] == sum(weights.values()) > 1000


@pytest.mark.parametrize(("positions", "longer"), [(256, 0), (72, 1), (60, 3)])
def test_the_figures_are_those_of_stage_6(
    context: MakeContext, inputs: dict[str, Path], positions: int, longer: int
) -> None:
    """Also where utterances of dev are longer than the model has positions: one, or all three."""
    ctx = context("model", inputs)
    train(ctx, bert=BERT.model_copy(update={"positions": positions}))
    model = AcousticModel.from_pretrained(ctx.folder).eval()
    dev = Manifest.load(inputs["dev/manifest"])
    frames = [1 + utterance.samples // log_mel.HOP_SAMPLES for utterance in dev]
    assert sum(f > model.encoder.longest_frames for f in frames) == longer
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # so that it writes something
            parameter.add_(torch.randn_like(parameter))
        told = errors(ctx, model)(6)
    model.save_pretrained(ctx.folder)
    folders = {"model": ctx.folder, "manifest": inputs["dev/manifest"]}
    log_probs = finetune.compute_log_probs(ctx, folders).log_probs
    targets = Targets.load(inputs["targets"])
    heard, loss, labels = [], 0.0, 0
    for utterance in dev:
        log_probs_TV = log_probs[utterance.id]
        assert utterance.transcript
        heard.append(targets.decode(collapse(log_probs_TV.argmax(1).tolist(), 0)))
        ids = targets.encode(utterance.transcript)
        alone = torch.nn.CTCLoss(reduction="sum")(
            torch.from_numpy(log_probs_TV),
            torch.tensor(ids),
            torch.tensor(len(log_probs_TV)),
            torch.tensor(len(ids)),
        )
        loss, labels = loss + alone.item(), labels + len(ids)
    expected = jiwer.process_words([u.transcript for u in dev], heard).wer
    assert any(heard)  # else the word error rate says nothing
    assert told["dev_wer"] == pytest.approx(expected, abs=1e-6)
    assert told["dev_loss"] == pytest.approx(loss / labels, rel=1e-4)


def test_evaluating_changes_nothing_of_the_training(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, masks and batches go on as without: where the last weights are the best, all is."""
    falling = iter([0.9, 0.5, 0.1])
    call = DevErrors.__call__

    def better(self: DevErrors, done: int) -> dict[str, float]:
        return call(self, done) | {"dev_wer": next(falling)}

    monkeypatch.setattr(DevErrors, "__call__", better)
    chosen, last = context("chosen", inputs), context("last", inputs)
    train(chosen)
    told = train(last, SETTINGS.model_copy(update={"validate_every": 0}))
    weights = "model.safetensors"
    assert (chosen.folder / weights).read_bytes() == (last.folder / weights).read_bytes()
    assert [row["update"] for row in told["history"]] == [6] and "best" not in told


def test_a_killed_training_chooses_the_same_bytes(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within an evaluation, after one without a checkpoint behind it, and in a step."""
    settings = SETTINGS.model_copy(update={"checkpoint_every": 3, "validate_every": 2})
    whole, killed = context("whole", inputs), context("killed", inputs)
    train(whole, settings)
    call, update = DevErrors.__call__, finetune.Labelled.loss

    def dying(function: Any, at: Iterator[bool]) -> Any:
        def called(*args: Any) -> Any:
            if next(at):
                raise KeyboardInterrupt
            return function(*args)

        return called

    for patched, function, times in (("call", call, 2), ("loss", update, 3), ("loss", update, 3)):
        at = iter([False] * (times - 1) + [True])
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            if patched == "call":
                patch.setattr(DevErrors, "__call__", dying(function, at))
            else:
                patch.setattr(finetune.Labelled, "loss", dying(function, at))
            train(killed, settings)
    train(killed, settings)
    for name in ("model.safetensors", "training.json"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()


def test_of_equal_word_errors_the_loss_tells_then_the_earlier() -> None:
    rows = [
        {"update": 1.0, "dev_wer": 1.0, "dev_loss": 3.0},
        {"update": 2.0, "dev_wer": 1.0, "dev_loss": 2.0},
        {"update": 2.0, "loss": 0.1},
        {"update": 3.0, "dev_wer": 1.0, "dev_loss": 2.0},
    ]
    evaluation = ByErrors(lambda done: {}, 1, "dev_wer")
    assert evaluation.best(rows) == rows[1]
    assert evaluation.best([*rows, {"update": 4.0, "dev_wer": 0.9, "dev_loss": 9.0}]) != rows[1]
    assert evaluation.best([]) is None


def test_characters_choose_where_the_recipe_says_so() -> None:
    """One of eight words right either way; the characters tell the better weights."""
    rows = [
        {"update": 1.0, "dev_wer": 0.9, "dev_cer": 0.7, "dev_loss": 2.0},
        {"update": 2.0, "dev_wer": 1.0, "dev_cer": 0.4, "dev_loss": 3.0},
    ]
    assert ByErrors(lambda done: {}, 1, "dev_wer").best(rows) == rows[0]
    assert ByErrors(lambda done: {}, 1, "dev_cer").best(rows) == rows[1]


def test_a_training_that_goes_by_characters_tells_their_errors_as_jiwer_does(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Greedy, "decode", lambda self, log_probs_TV: ["go", "lift"])
    ctx = context("model", inputs)
    told = train(ctx, SETTINGS.model_copy(update={"validate_by": "cer"}))
    said = [u.transcript for u in Manifest.load(inputs["dev/manifest"])]
    expected = jiwer.cer([text or "" for text in said], ["go lift"] * len(said))
    assert told["best"]["dev_cer"] == pytest.approx(expected, abs=1e-6)
    assert told["best"]["dev_wer"] == pytest.approx(
        jiwer.wer([text or "" for text in said], ["go lift"] * len(said)), abs=1e-6
    )


def test_what_ctc_cannot_align_counts_for_the_errors_alone(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    ctx = context("model", inputs)
    train(ctx)
    model = AcousticModel.from_pretrained(ctx.folder).eval()
    with torch.no_grad():
        plain = errors(ctx, model)(6)
        beyond = errors(ctx, model, **{"dev-y": " ".join(["see"] * 200)})(6)
    assert np.isfinite(beyond["dev_loss"])
    assert beyond["dev_loss"] != plain["dev_loss"]


def test_a_dev_utterance_without_a_transcript_is_named(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    ctx = context("model", inputs)
    manifest(inputs["dev/manifest"], {"dev-x": "go left", "dev-n": None}, 10)
    with pytest.raises(UserError, match="such as dev-n"):
        train(ctx)
