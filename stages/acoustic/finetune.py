"""Stage 5: CTC training of one budget, the same for every front-end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import plugins
from pipeline.finetune_settings import CtcSettings
from pipeline.recipe import FRONT_ENDS, BertSettings, Section
from pipeline.stage import StepContext
from stages.acoustic.labelled import Labelled, count_frames
from stages.acoustic.unit_tokens import tell_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.evaluation import Evaluation
    from pipeline.training import Training
    from stages.acoustic.decoding import Outputs
    from stages.acoustic.model import AcousticModel
    from stages.acoustic.targets import Targets

VERSION = 2
TRAINING = (
    # parameters, updates, utterances left out, precision, history; where dev chose, the best row
    "training.json"
)


def version(frontend: Section, settings: CtcSettings) -> int:
    """Of the models of these settings, so that those that no change concerned stay.

    Later than VERSION the features of a frozen BERT became fp32, and masks over channels kept to a
    share of few channels.
    """
    masks = settings.channel_mask_probability > 0
    return VERSION + int(getattr(frontend, "freeze", False)) + 2 * int(masks)


def finetune(
    ctx: StepContext,
    *,
    frontend: Section,
    bert: BertSettings,
    settings: CtcSettings,
    seed: int,
) -> None:
    """Train the acoustic model of one budget and write it in HuggingFace form.

    Reads `manifest` (train), `budget`, `targets` and what the front-end needs; to choose the best
    weights, the same of dev under `dev/<role>`, where it differs.
    """
    from stages.acoustic.targets import Targets
    from stages.acoustic.windows import refuse_few_positions

    targets = Targets.load(ctx.inputs["targets"])
    labelled = _labelled(ctx, frontend, targets, settings, seed)
    model = _new_model(ctx, frontend, bert, settings, len(targets), seed)
    refuse_few_positions(model)  # before hours of training, and not in stage 6
    lengths = labelled.usable(ctx, model)
    parameters = sum(p.numel() for p in model.parameters())
    ctx.say(
        f"{_name(frontend)}: {parameters / 1e6:.1f} M parameters, "
        f"{len(lengths)} utterances, {settings.updates} updates"
    )
    evaluation = None
    if settings.validate_every:
        evaluation = _evaluation(ctx, frontend, model, targets, settings)
    training = _training(model, labelled, lengths, settings, seed, evaluation)
    history = training.run(ctx)
    model.save_pretrained(ctx.folder)
    facts: dict[str, Any] = {"parameters": parameters, "updates": settings.updates}
    facts |= {
        "left_out": len(labelled) - len(lengths),
        "precision": training.computes_in,
        "history": history,
    }
    if evaluation is not None:
        facts["best"] = best = evaluation.best(history)
        assert best is not None  # the end of a training is evaluated
        by = settings.validate_by
        ctx.say(f"greedy {by.upper()} on dev of the weights kept: {best[f'dev_{by}']:.1%}")
    (ctx.folder / TRAINING).write_text(json.dumps(facts, indent=1), "utf-8")


def _name(frontend: Section) -> str:
    return str(getattr(frontend, "name"))  # noqa: B009


def _labelled(
    ctx: StepContext, frontend: Section, targets: Targets, settings: CtcSettings, seed: int
) -> Labelled:
    """The utterances of the budget."""
    from pipeline.manifest import Manifest

    module = plugins.find(FRONT_ENDS, _name(frontend), "front-end")
    manifest = Manifest.load(ctx.inputs["manifest"])
    ids = (ctx.inputs["budget"] / "ids.txt").read_text("utf-8").split("\n")[:-1]
    transcripts = {i: manifest[i].transcript or "" for i in ids}
    features = module.open_split(frontend, ctx.inputs, ctx.device)
    tell_outside(ctx, features, ids, "the budget")
    return Labelled(features, transcripts, targets, settings, seed, ctx.device)


def _evaluation(
    ctx: StepContext,
    frontend: Section,
    model: AcousticModel,
    targets: Targets,
    settings: CtcSettings,
) -> Evaluation:
    """Errors on dev, every so many updates."""
    from pipeline.manifest import Manifest
    from stages.acoustic.validation import FIGURES, ByErrors, DevErrors

    dev = {r.removeprefix("dev/"): f for r, f in ctx.inputs.items() if r.startswith("dev/")}
    folders = {**ctx.inputs, **dev}
    module = plugins.find(FRONT_ENDS, _name(frontend), "front-end")
    transcripts = {u.id: u.transcript for u in Manifest.load(folders["manifest"])}
    features = module.open_split(frontend, folders, ctx.device)
    tell_outside(ctx, features, transcripts, "dev")
    errors = DevErrors(model, features, transcripts, targets, settings, ctx.device)
    return ByErrors(errors, settings.validate_every, FIGURES[settings.validate_by])


def _new_model(
    ctx: StepContext,
    frontend: Section,
    bert: BertSettings,
    settings: CtcSettings,
    targets: int,
    seed: int,
) -> AcousticModel:
    """The front-end's encoder under a CTC layer, whose weights depend on the seed alone."""
    import torch

    from stages.acoustic.model import AcousticConfig, AcousticModel

    torch.manual_seed(seed)
    module = plugins.find(FRONT_ENDS, _name(frontend), "front-end")
    encoder = module.new_encoder(frontend, bert, ctx.inputs)
    config = AcousticConfig(
        frontend=frontend.signed(),
        encoder=encoder.config,
        targets=targets,
        subsample=settings.subsample,
        head_frames=settings.head_frames,
    )
    model = AcousticModel(config, encoder)
    torch.nn.Module.to(model, ctx.device)
    return model


def _training(
    model: AcousticModel,
    labelled: Labelled,
    lengths: Mapping[str, int],
    settings: CtcSettings,
    seed: int,
    evaluation: Evaluation | None = None,
) -> Training:
    """CTC, with what is pretrained frozen at first."""
    from pipeline.activations import checkpoint_activations
    from pipeline.batches import Batches
    from pipeline.schedules import tri_stage_schedule
    from pipeline.training import Training

    if settings.checkpoint_activations:
        checkpoint_activations(model)
    pretrained = list(model.encoder.pretrained_parameters())

    def freeze_or_thaw(update: int) -> None:
        for parameter in pretrained:
            parameter.requires_grad_(update >= settings.freeze_updates)

    return Training(
        model=model,
        loss=lambda update, epoch, names: labelled.loss(model, names, epoch),
        batches=Batches(_encoded(lengths, model), settings.batch_frames, seed),
        updates=settings.updates,
        learning_rate=settings.learning_rate,
        scale=tri_stage_schedule(settings.updates, settings.phases, settings.final_scale),
        seed=seed,
        checkpoint_every=settings.checkpoint_every,
        each=freeze_or_thaw,
        precision=settings.precision,
        what="CTC",
        evaluation=evaluation,
        accumulate=settings.accumulate,
        clip_norm=settings.clip_norm,
        precision_key="finetune.precision",
    )


def _encoded(lengths: Mapping[str, int], model: AcousticModel) -> dict[str, int]:
    """Frames after the encoder's stride: a batch is as much speech for every front-end."""
    return {name: -(-frames // model.encoder.stride) for name, frames in lengths.items()}


def compute_log_probs(ctx: StepContext, folders: Mapping[str, Path]) -> Outputs:
    """Log-probabilities of every utterance of a split.

    Those longer than the model has positions are read in windows that overlap. Audio shorter than
    a quantizer's receptive field has no frame: its log-probabilities have no rows.

    Args:
        folders: `model`, `manifest` and what the model's front-end reads of a split.
    """
    import numpy as np
    import torch

    from pipeline.batches import pad
    from pipeline.manifest import Manifest
    from stages.acoustic.decoding import Outputs
    from stages.acoustic.model import AcousticModel
    from stages.acoustic.windows import log_probs as log_probs_in_windows

    model = AcousticModel.from_pretrained(folders["model"]).eval()
    torch.nn.Module.to(model, ctx.device)
    module = plugins.find(FRONT_ENDS, model.config.frontend["name"], "front-end")
    settings = module.Settings(**model.config.frontend)
    features = module.open_split(settings, folders, ctx.device)
    manifest = Manifest.load(folders["manifest"])
    tell_outside(ctx, features, [u.id for u in manifest], "this split")
    frames = count_frames(features, [u.id for u in manifest])
    empty = [name for name, count in frames.items() if not count]
    by_length = sorted((i for i in frames if frames[i]), key=lambda i: (frames[i], i))
    long = [name for name in by_length if frames[name] > model.encoder.longest_frames]
    del by_length[len(by_length) - len(long) :]
    found: dict[str, NDArray[Any]] = {
        name: np.zeros((0, model.config.targets), np.float32) for name in empty
    }
    with ctx.progress(len(frames), "log-probabilities", "utterances", len(empty)) as progress:
        for start in range(0, len(by_length), 8):
            names = by_length[start : start + 8]
            feats, lengths_B = pad([features(n) for n in names])
            with torch.inference_mode():
                log_probs = model(feats.to(ctx.device), lengths_B.to(ctx.device)).cpu().numpy()
            for name, row, length in zip(names, log_probs, model.frames(lengths_B), strict=True):
                found[name] = row[: int(length)].copy()
            progress.update(len(names))
        for name in long:
            found[name] = log_probs_in_windows(model, features(name), ctx.device)
            progress.update()
    if empty:
        ctx.say(
            f"{len(empty)} of {len(found)} utterances are too short for a frame: nothing is "
            f"heard in {', '.join(empty[:8])}{' ...' if len(empty) > 8 else ''}"
        )
    if long:
        ctx.say(
            f"{len(long)} of {len(found)} utterances have more than "
            f"{model.encoder.longest_frames} frames and were read in windows that overlap"
        )
    return Outputs(found, {name: count / model.step for name, count in frames.items()})
