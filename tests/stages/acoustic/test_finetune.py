"""Stage 5: which utterances are trained on, the CTC loss, masks, and exact resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import audio
from pipeline.batches import Batches
from pipeline.errors import RunError, UserError
from pipeline.finetune_settings import CtcSettings
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import BertSettings, FinetuneSettings, TextSettings
from pipeline.stage import StepContext
from pipeline.training import Training
from stages.acoustic import finetune, lm_stage
from stages.acoustic.encoders import FeatureEncoder
from stages.acoustic.frontends import log_mel
from stages.acoustic.labelled import Labelled
from stages.acoustic.model import AcousticConfig, AcousticModel
from stages.acoustic.targets import Targets
from stages.units.bert import bert_config

BERT = BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=256, dropout=0.1)
FRONTEND = log_mel.Settings(mel_bins=16)
SETTINGS = FinetuneSettings(
    updates=6, batch_frames=200, subsample=1, checkpoint_every=2, precision="fp32"
)
TRANSCRIPTS = {"a": "go on", "b": "turn left", "c": "see", "d": "stop now", "e": "see me go"}
MakeContext = Callable[..., StepContext]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text, folder = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("lm")
    (text / "lm_text.txt").write_text("".join(f"{t}\n" for t in TRANSCRIPTS.values()))
    (text / "lm_text.json").write_text('{"name": "toy"}')
    lm_stage.make_targets(StepContext(folder, {"text": text}, "cpu", folder), TextSettings())
    return folder


def model(subsample: int = 1, stride: int = 2) -> AcousticModel:
    torch.manual_seed(0)
    encoder = FeatureEncoder({"channels": 16, "stride": stride, "bert": bert_config(BERT, 1)})
    frontend = FRONTEND.model_dump(mode="json")
    return AcousticModel(AcousticConfig(frontend, encoder.config, 29, subsample), encoder).eval()


def features(lengths: dict[str, int]) -> Callable[[str], Any]:
    made = {
        name: np.random.RandomState(n).standard_normal((frames, 16)).astype(np.float32)
        for n, (name, frames) in enumerate(lengths.items())
    }
    return made.__getitem__


def labelled(
    lm: Path, lengths: dict[str, int], transcripts: dict[str, str], **named: Any
) -> Labelled:
    settings = SETTINGS.model_copy(update=named)
    targets = Targets.load(lm)
    return Labelled(features(lengths), transcripts, targets, settings, 1, "cpu")


@pytest.mark.case(22)
def test_utterances_too_short_for_their_labels_are_dropped_and_listed(
    lm: Path,
    context: MakeContext,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`see` has three labels and needs a blank between its two e; a stride of 2 halves frames."""
    lengths = {"fits": 8, "fits too": 7, "short": 6, "plain": 6, "too short": 4}
    texts = {"fits": "see", "fits too": "see", "short": "see", "plain": "sea", "too short": "sea"}
    ctx = context("model")
    with caplog.at_level("INFO", logger="vqasr"):
        usable = labelled(lm, lengths, texts).usable(ctx, model())
    assert usable == {"fits": 8, "fits too": 7, "plain": 6}
    listed = (ctx.folder / "dropped.tsv").read_text().splitlines()
    assert listed == [
        "utt_id\tframes\tneeded",
        "short\t3 frames\t4 needed",
        "too short\t2 frames\t3 needed",
    ]
    assert "2 of 5 utterances have fewer frames than labels" in capsys.readouterr().out
    assert [r.getMessage() for r in caplog.records] == [
        "dropped short, 3 frames, 4 needed",
        "dropped too short, 2 frames, 3 needed",
    ]


@pytest.mark.case(22)
def test_ctc_gives_a_finite_loss_to_all_that_is_kept_and_none_to_the_dropped(
    lm: Path, context: MakeContext
) -> None:
    lengths = {f"u{n}": n for n in range(1, 30)}
    texts = dict.fromkeys(lengths, "see see")
    made, acoustic = labelled(lm, lengths, texts), model()
    kept = made.usable(context("model"), acoustic)
    for name in lengths:
        finite = bool(torch.isfinite(made.loss(acoustic, [name], 0)[0]))
        assert finite == (name in kept), name
    assert 0 < len(kept) < 29


@pytest.mark.parametrize(
    ("subsample", "stride", "longest", "remedy"),
    [
        (1, 1, 2, "see that the transcripts belong to the audio"),
        (2, 1, 2, "lower finetune.subsample, or see that"),
        (2, 3, 2, "lower finetune.subsample, or lower the front-end's stride of 3, or see that"),
        (1, 1, 100_000, "raise bert.positions, or see that"),
    ],
)
@pytest.mark.case(22)
def test_with_nothing_to_train_on_the_remedies_that_can_help_are_told(
    lm: Path, context: MakeContext, subsample: int, stride: int, longest: int, remedy: str
) -> None:
    frames, texts = {"a": 2, "b": longest}, {"a": "see", "b": "see"}
    made = labelled(lm, frames, texts, longer="leave_out", subsample=subsample)
    with pytest.raises(RunError, match="No utterance of the budget") as raised:
        made.usable(context("model"), model(stride=stride))
    assert str(raised.value.remedy).startswith(remedy)


def test_the_loss_is_per_label_and_padding_changes_nothing(lm: Path) -> None:
    lengths = {"a": 40, "b": 60, "c": 25}
    made = labelled(
        lm,
        lengths,
        {k: TRANSCRIPTS[k] for k in lengths},
        time_mask_probability=0.0,
        channel_mask_probability=0.0,
    )
    acoustic = model()
    together = made.loss(acoustic, list(lengths), 0)[0].item()
    alone = [made.loss(acoustic, [name], 0)[0].item() for name in lengths]
    counts = [len(TRANSCRIPTS[name]) for name in lengths]
    assert together == pytest.approx(np.average(alone, weights=counts), rel=1e-4)


def test_masks_depend_on_seed_epoch_and_utterance_alone(lm: Path) -> None:
    lengths = {"a": 200, "b": 300, "c": 250}
    made = labelled(lm, lengths, {k: TRANSCRIPTS[k] for k in lengths}, time_mask_probability=0.1)
    acoustic = model()

    def masks(names: list[str], epoch: int) -> tuple[Any, Any]:
        time_BF, channel_BD = made._masks(acoustic, names, [lengths[n] for n in names], epoch)
        at = names.index("a")
        return time_BF[at, :200].tolist(), channel_BD[at].tolist()

    assert masks(["a"], 0) == masks(["c", "b", "a"], 0)
    assert masks(["a"], 0) != masks(["a"], 1)
    assert sum(masks(["a"], 0)[0]) > 0


@pytest.mark.parametrize("stride", [2, 3])
def test_frames_that_are_joined_count_as_one_in_batches_and_masks(lm: Path, stride: int) -> None:
    """As much speech a batch and a mask for a front-end of 10 ms as for one of 20."""
    lengths = {"a": 100 * stride, "b": 100 * stride, "c": 100 * stride - 1}
    made = labelled(lm, lengths, {k: TRANSCRIPTS[k] for k in lengths}, time_mask_probability=0.05)
    training = finetune._training(model(1, stride), made, lengths, SETTINGS, 1)
    assert sorted(len(names) for names in training.batches.epoch(0)) == [1, 2]  # of 200 frames

    def hidden(at: int) -> Any:
        own = list(lengths.values())
        time_BF, _ = made._masks(model(1, at), list(lengths), [n // stride * at for n in own], 0)
        return time_BF.numpy()

    joined = hidden(stride)[:2].reshape(2, 100, stride)
    assert (joined == joined[..., :1]).all()
    assert (joined[..., 0] == hidden(1)[:2]).all()


@pytest.mark.parametrize("channels", [16, 39, 80, 512, 768])
def test_masks_hide_the_published_share_of_any_number_of_channels(lm: Path, channels: int) -> None:
    """Of few channels neither most at once nor next to none; wav2vec 2.0 has 768."""
    named = {"channel_mask_probability": 0.5 / 64, "channel_mask_span": 64}
    made = labelled(lm, {"a": 20}, {"a": "go"}, **named)
    encoder: Any = SimpleNamespace(stride=1, mask_channels=channels)
    acoustic: Any = SimpleNamespace(encoder=encoder)
    hidden = [
        made._masks(acoustic, ["a"], [20], epoch)[1].float().mean().item() for epoch in range(400)
    ]
    assert np.mean(hidden) == pytest.approx(1 - np.exp(-0.5), abs=0.05)
    assert np.mean(np.array(hidden) > 0.75) < 0.05


def test_a_span_of_few_channels_is_left_as_it_is_set() -> None:
    settings = CtcSettings(channel_mask_probability=0.01, channel_mask_span=5)
    assert settings.channel_masks(80) == settings.channel_masks(768) == (0.01, 5)
    wide = CtcSettings(channel_mask_probability=0.01, channel_mask_span=100)
    assert wide.channel_masks(768) == (0.01, 100)
    assert wide.channel_masks(8) == pytest.approx((1 - 0.99**100, 1))


@pytest.fixture
def inputs(tmp_path: Path, lm: Path) -> dict[str, Path]:
    folder, rows = tmp_path / "manifest", []
    for n, (name, text) in enumerate(TRANSCRIPTS.items()):
        noise = 0.1 * np.random.RandomState(n).standard_normal(12_000 + 1000 * n)
        audio.write(folder / f"{name}.flac", noise.astype(np.float32))
        rows.append(Utterance(name, "s", f"{name}.flac", True, len(noise), 1.0, text))
    Manifest(rows, folder).write()
    budget = tmp_path / "budget"
    budget.mkdir()
    (budget / "ids.txt").write_text("a\nb\nd\ne\n")
    return {"manifest": folder, "budget": budget, "targets": lm}


def train(ctx: StepContext, settings: FinetuneSettings = SETTINGS, seed: int = 1) -> None:
    finetune.finetune(ctx, frontend=FRONTEND, bert=BERT, settings=settings, seed=seed)


@pytest.mark.case(4)
def test_a_killed_training_writes_the_same_bytes(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = context("whole", inputs), context("killed", inputs)
    train(whole)
    loss, calls = Labelled.loss, 0

    def until(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (4, 7):
            raise KeyboardInterrupt
        return loss(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Labelled, "loss", until)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(killed)
    train(killed)
    for name in ("config.json", "model.safetensors", "training.json", "dropped.tsv"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()
    other = context("other", inputs)
    train(other, seed=2)
    weights = "model.safetensors"
    assert (other.folder / weights).read_bytes() != (whole.folder / weights).read_bytes()


def test_activations_computed_again_change_no_byte(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    folders = []
    for again in (False, True):
        ctx = context(f"again-{again}", inputs)
        told = {"accumulate": 2, "checkpoint_activations": again}
        train(ctx, FinetuneSettings(**(SETTINGS.given() | told)))
        folders.append(ctx.folder)
    for name in ("config.json", "model.safetensors", "training.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


class Given(Batches):
    """These batches of epoch 0."""

    def __init__(self, batches: list[list[str]]) -> None:
        self.batches = batches

    def at(self, update: int) -> tuple[int, list[str]]:
        return 0, self.batches[update]


def test_the_gradients_of_accumulated_batches_are_those_of_one_of_all(
    lm: Path, context: MakeContext
) -> None:
    lengths = {"a": 200, "b": 300, "c": 120, "d": 250, "e": 280}
    made = labelled(lm, lengths, TRANSCRIPTS, time_mask_probability=0.05)
    parts = [["a", "b"], ["c"], ["d", "e"]]
    gradients = []
    for batches in (parts, [[name for part in parts for name in part]]):
        acoustic = model()
        settings = SETTINGS.model_copy(update={"accumulate": len(batches)})
        training = finetune._training(acoustic, made, lengths, settings, 1)
        given = replace(training, batches=Given(batches))
        for module in acoustic.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        told = given.update(0, given.new_optimizer())
        gradients.append((told["loss"], [p.grad for p in acoustic.parameters()]))
    (loss, found), (expected_loss, expected) = gradients
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_only_utterances_of_the_budget_are_trained_on(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    loss = Labelled.loss

    def watched(self: Labelled, acoustic: AcousticModel, names: list[str], epoch: int) -> Any:
        seen.update(names)
        return loss(self, acoustic, names, epoch)

    monkeypatch.setattr(Labelled, "loss", watched)
    train(context("model", inputs))
    assert seen == {"a", "b", "d", "e"}


def test_masks_and_learning_rates_of_a_training_are_those_of_the_settings(
    context: MakeContext, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[tuple[Any, Any]] = []
    rates: list[float] = []
    forward, update = FeatureEncoder.forward, Training.update

    def watched_forward(self: FeatureEncoder, feats: Any, attended: Any, *given: Any) -> Any:
        masks.append(given)
        return forward(self, feats, attended, *given)

    def watched_update(self: Training, number: int, optimizer: Any) -> dict[str, float]:
        told = update(self, number, optimizer)
        rates.append(optimizer.param_groups[0]["lr"])
        assert self.clip_norm == 0.5
        return told

    monkeypatch.setattr(FeatureEncoder, "forward", watched_forward)
    monkeypatch.setattr(Training, "update", watched_update)
    changes = {"updates": 8, "learning_rate": 0.01, "clip_norm": 0.5, "final_scale": 0.04}
    changes |= {"phases": (0.5, 0.25, 0.25), "time_mask_probability": 0.2}
    ctx = context("model", inputs)
    train(ctx, SETTINGS.model_copy(update=changes | {"channel_mask_probability": 0.02}))
    assert len(masks) >= 8
    for time_BF, channel_BD in masks:
        assert time_BF.any() and not time_BF.all()
        assert channel_BD.any() and not channel_BD.all()
    assert rates == pytest.approx(
        [0.01 * scale for scale in (0.01, 0.2575, 0.505, 0.7525, 1, 1, 1, 0.2)]
    )
    assert json.loads((ctx.folder / "training.json").read_text())["precision"] == "fp32"


def test_log_probabilities_are_those_of_each_utterance_alone(
    context: MakeContext, inputs: dict[str, Path]
) -> None:
    ctx = context("model", inputs)
    train(ctx)
    outputs = finetune.compute_log_probs(ctx, inputs | {"model": ctx.folder})
    found = outputs.log_probs
    assert sorted(found) == sorted(TRANSCRIPTS)
    acoustic = AcousticModel.from_pretrained(ctx.folder).eval()
    manifest = Manifest.load(inputs["manifest"])
    for name, log_probs_TV in found.items():
        feats_FD = log_mel.log_mel(manifest.samples(manifest[name]), FRONTEND)
        with torch.inference_mode():
            feats_BFD = torch.from_numpy(feats_FD)[None]
            alone = acoustic(feats_BFD, torch.tensor([len(feats_FD)]))[0].numpy()
        np.testing.assert_allclose(log_probs_TV, alone, atol=1e-5)
        assert outputs.filled[name] == len(feats_FD) / (FRONTEND.stride * acoustic.config.subsample)


def test_training_brings_the_loss_down(context: MakeContext, inputs: dict[str, Path]) -> None:
    ctx = context("model", inputs)
    train(ctx, SETTINGS.model_copy(update={"updates": 50, "learning_rate": 3e-3}))
    history = json.loads((ctx.folder / "training.json").read_text())["history"]
    assert [row["update"] for row in history] == [25, 50]
    assert history[1]["loss"] < 0.8 * history[0]["loss"]


def test_an_utterance_longer_than_the_positions_is_named(lm: Path, context: MakeContext) -> None:
    made = labelled(lm, {"a": 40, "b": 100_000}, {"a": "go", "b": "see"})
    told = r"(?s)Utterance b is too long.*bert\.positions.*100000.*finetune\.longer to leave_out"
    with pytest.raises(UserError, match=told):
        made.usable(context("model"), model())


def test_an_utterance_longer_than_the_positions_may_be_left_out_and_is_listed(
    lm: Path, context: MakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    leave_out = {"longer": "leave_out"}
    made = labelled(lm, {"a": 40, "b": 100_000}, {"a": "go", "b": "see"}, **leave_out)
    ctx = context("model")
    with caplog.at_level("INFO", logger="vqasr"):
        assert made.usable(ctx, model()) == {"a": 40}
    assert "dropped b, 100000 frames, at most 512" in caplog.messages[-1]
    assert "b\t100000 frames\tat most" in (ctx.folder / "dropped.tsv").read_text()
    alone = labelled(lm, {"b": 100_000}, {"b": "see"}, **leave_out)
    with pytest.raises(UserError, match="Utterance b is too long") as caught:
        alone.usable(ctx, model())
    assert "leave_out" not in str(caught.value)  # nothing would be left
