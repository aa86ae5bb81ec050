"""Stage 1: trains vq-wav2vec on unlabelled speech and exports it for all later stages.

The artifact:
    config.json, model.safetensors   the QuantizerModel (stages/quantizer/model.py)
    codebook.json                    how healthy the codebook is and was, and the final loss
    codebook.png                     the same as a picture (not where there is no codebook)
    predictor.safetensors            the weights that guess the frames ahead: for the loss on
                                     other speech (stages/quantizer/contrast.py), not for units
    history.jsonl                    loss, perplexities, temperature, learning rate by update
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.store import write_atomically

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.recipe import QuantizerSettings
    from pipeline.stage import StepContext
    from stages.quantizer.fairseq.train import Trained
    from stages.quantizer.model import QuantizerModel

VERSION = 2
IMPORT_VERSION = 2  # of what is taken over: training another way makes none of it another
CODEBOOK = "codebook.json"
PLOT = "codebook.png"
HISTORY = "history.jsonl"


def run(
    ctx: StepContext, settings: QuantizerSettings, manifests_roles: Sequence[str], seed: int
) -> None:
    """Make the artifact from the speech of the inputs named by `manifests_roles`.

    Raises:
        UserError: `quantizer.from` is no quantizer.
        RunError: the training failed, or the codebook collapsed for good.
    """
    from pipeline.manifest import Manifest

    speech = [Manifest.load(ctx.inputs[role]) for role in manifests_roles]
    told: dict[str, Any] = {}
    if settings.from_ is not None:
        model = _given(settings.from_)
    else:
        model, told = _trained(ctx, settings, speech, seed)
    _quietly_save(model, ctx.folder)
    told = _codebook(ctx, model, speech) | told
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in told.items()]
    write_atomically(ctx.folder / CODEBOOK, "{\n" + ",\n".join(lines) + "\n}\n")


def _trained(
    ctx: StepContext, settings: QuantizerSettings, speech: Sequence[Manifest], seed: int
) -> tuple[QuantizerModel, dict[str, Any]]:
    from stages.quantizer.contrast import save_predictor
    from stages.quantizer.fairseq.train import train
    from stages.quantizer.health import chance_bits

    hours = sum(manifest.seconds for manifest in speech) / 3600
    what = (
        "wav2vec without quantizer" if settings.type == "none" else f"vq-wav2vec ({settings.type})"
    )
    ctx.say(f"{what} on {hours:.2f} h of speech, {settings.updates} updates")
    with ctx.progress(settings.updates, "quantizer", "updates") as progress:

        def start(done: int) -> None:
            if done:
                ctx.say(f"going on after update {done}")
                progress.update(done)

        def update(_: int, figures: dict[str, float]) -> None:
            codes = f", perplexity {p:.0f}" if (p := figures.get("code_perplexity")) else ""
            progress.update(note=f"loss {figures['loss_bits']:.2f} bits{codes}")

        trained = train(
            settings,
            speech,
            seed=seed,
            folder=ctx.scratch,
            device=ctx.device,
            tensorboard=ctx.tensorboard,
            on_start=start,
            on_update=update,
            say=ctx.say,
        )
    lines = [json.dumps(record) for record in trained.history]
    write_atomically(ctx.folder / HISTORY, "".join(f"{line}\n" for line in lines))
    chance = chance_bits(settings.negatives + settings.cross_sample_negatives, settings.infonce)
    last = trained.history[-1]["loss_bits"] if trained.history else None
    if last is None:
        ctx.say("no updates: the quantizer is exported UNTRAINED, as a control")
    else:
        ctx.say(f"contrastive loss {last:.2f} bits at the end, chance is {chance:.2f}")
    if trained.left_out:
        ctx.say(f"{trained.left_out} utterances were too short to train on and left out")
    told = {
        "updates": settings.updates,
        "loss_bits": last,
        "chance_bits": round(chance, 6),
        "utterances_too_short": trained.left_out,
    }
    if settings.type != "none" and trained.history:
        told |= _past(ctx.folder / PLOT, trained, settings.codes, chance)
    save_predictor(trained.weights, ctx.folder)
    return _exported(trained), told


def _past(plot: Path, trained: Trained, codes: int, chance_bits: float) -> dict[str, Any]:
    """How the codebook fared while it was trained, drawn and told."""
    from stages.quantizer import history, plots

    records, repairs = trained.history, trained.repairs
    plots.codebook(records, plot, codes=codes, chance_bits=chance_bits, repairs=repairs)
    return {
        "collapses": trained.collapses,
        "repairs": repairs,
        "history": history.columns(records),
    }


def _exported(trained: Trained) -> QuantizerModel:
    from stages.quantizer.model import QuantizerModel

    model = QuantizerModel(trained.config)
    names = model.state_dict().keys()
    model.load_state_dict({name: trained.weights[name] for name in names})
    return model


def _given(folder: Path) -> QuantizerModel:
    """The quantizer in `folder`; UserError where there is none that can be read."""
    from pipeline import model_files
    from pipeline.errors import UserError
    from stages.quantizer.model import QuantizerConfig, QuantizerModel

    remedy = "give the folder of a finished stage 1, or import the model again"

    def read() -> QuantizerModel:
        there = (folder / model_files.CONFIG).is_file()
        told = model_files.config_of(folder) if there else {}
        kind = told.get("model_type")
        if kind != QuantizerConfig.model_type:
            raise UserError(
                f"quantizer.from: {folder} is not an exported quantizer.",
                constraint=f"a folder with config.json of model_type {QuantizerConfig.model_type}",
                found=f"model_type {str(kind)[:40]}" if there else f"no {model_files.CONFIG}",
                remedy=remedy,
            )
        _refuse_unlikely(told)
        config = QuantizerConfig.from_pretrained(folder)
        shapes = model_files.shapes_of(folder / model_files.WEIGHTS)
        model_files.check_fit(shapes, lambda: QuantizerModel(config))
        return QuantizerModel.from_pretrained(folder)

    return model_files.reading("quantizer.from", folder, read, remedy)


def _refuse_unlikely(told: dict[str, Any]) -> None:
    """Raise ValueError for sizes that nobody trains, before a model of them is built."""
    from pipeline.quantizer_settings import MOST_CODES
    from stages.quantizer.published import MOST_GROUPS, MOST_LAYERS

    for name in ("encoder_layers", "aggregator_layers"):
        layers = told.get(name, [])
        if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
            raise ValueError(f"{name} are no list of at most {MOST_LAYERS}")
    bounds = {"groups": MOST_GROUPS, "codes": MOST_CODES, "projection_depth": MOST_LAYERS}
    for name, most in bounds.items():
        value = told.get(name, 1)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{name} must be 1 to {most}; found {str(value)[:40]}")


def _codebook(
    ctx: StepContext, model: QuantizerModel, speech: Sequence[Manifest]
) -> dict[str, Any]:
    """The codebook's health on a sample of the pretraining speech, said in words too."""
    import torch

    from stages.quantizer import health

    if model.vector_quantizer is None:
        return {"quantizer": "none"}
    chosen = health.sample(speech)
    model.to(torch.device(ctx.device))  # type: ignore[arg-type]
    with ctx.progress(len(chosen), "codebook", "utterances") as progress:
        units_FG = health.count_codes(model, chosen, progress.update)
    found = health.report(units_FG, model.config.codes)
    ctx.say(health.in_words(found))
    return {"quantizer": model.config.quantizer_type, **found}


def _quietly_save(model: QuantizerModel, folder: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()
