"""Stage 3: a BERT pretrained on units with span masking."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.recipe import BertSettings
from pipeline.stage import StepContext
from stages.units.kept_back import (
    FRAMES,
    KEPT_BACK,
    SHARE,
    TRAINED_ON,
    Parts,
    parts,
    read_tokens,
    told,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import BertForMaskedLM, BertModel

    from pipeline.evaluation import Evaluation
    from pipeline.training import Training
    from stages.units.masked_units import MaskedUnits
    from stages.units.vocabulary import Vocabulary

VERSION = 2
CODEBOOK_SCALE = 0.1  # five times the positions' (0.02): what is heard counts more than when
POSITION_SCALE = 0.5  # of sinusoidal positions beside what they are added to
WEIGHTS_CHOSEN_ON = {
    KEPT_BACK: "the utterances kept back, whose figures are told; by the loss over all chosen "
    "frames",
    TRAINED_ON: "utterances trained on, whose figures are told: too few to keep any back; by the "
    "loss over all chosen frames",
}
NOTHING_KEPT_BACK = (
    f"nothing kept back (that takes {1 / SHARE:.0f} utterances): the weights are chosen "
    "on speech trained on"
)


def pretrain(ctx: StepContext, *, settings: BertSettings, seed: int) -> None:
    """Train and write the BERT, and how well it guesses masked units of speech kept back.

    Reads `vocabulary` and one role `units/<split>` for each pretraining split. Speech kept back
    is of speakers who are heard in training, and its loss chooses the weights too: its figures
    compare BERTs on the same speech and say nothing of unseen speakers. Where there is too little
    speech to keep any back, the figures are of some of what was trained on, and are called so.
    """
    from stages.units.attention import packed
    from stages.units.masked_units import MaskedUnits
    from stages.units.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(ctx.inputs["vocabulary"])
    tokens = read_tokens(ctx.inputs, vocabulary)
    _refuse_longer(tokens, settings.positions)
    split = parts(tokens)
    model = _new_model(ctx, settings, vocabulary, seed)
    masked = MaskedUnits(tokens, settings, len(vocabulary), seed, ctx.device)
    evaluation = _evaluation(ctx, settings, model, masked, split, len(vocabulary))
    learnt_from = set(split.learnt_from)
    lengths = {n: len(t) for n, t in tokens.items() if n in learnt_from}
    kept_back = len(split.chosen_on) if split.what == KEPT_BACK else 0
    ctx.say(
        f"BERT of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
        f"{sum(lengths.values()):,} units to learn from, "
        + (f"{kept_back} utterances kept back" if kept_back else NOTHING_KEPT_BACK)
    )
    training = _training(model, masked, lengths, settings, seed, evaluation)
    with packed(model):
        history = training.run(ctx)
    best = evaluation.best(history)
    assert best is not None  # the end is evaluated
    model.save_pretrained(ctx.folder)
    vocabulary.save(ctx.folder)
    _tell(ctx, split.what, kept_back, best, {"precision": training.computes_in, "history": history})


def _new_model(
    ctx: StepContext, settings: BertSettings, vocabulary: Vocabulary, seed: int
) -> BertForMaskedLM:
    import torch

    from pipeline.activations import checkpoint_activations

    torch.manual_seed(seed)
    model = build(settings, vocabulary, seed)
    torch.nn.Module.to(model, ctx.device)
    if settings.checkpoint_activations:
        checkpoint_activations(model)
    return model


def _evaluation(
    ctx: StepContext,
    settings: BertSettings,
    model: BertForMaskedLM,
    masked: MaskedUnits,
    split: Parts,
    vocabulary_size: int,
) -> Evaluation:
    """Guesses in the speech that chooses the weights."""
    from pipeline.evaluation import Evaluation
    from stages.units.guesses import Validation

    validation = Validation(
        masked,
        split.chosen_on,
        split.learnt_from,
        settings.batch_frames,
        vocabulary_size,
        settings.precision,
        ctx.device,
        split.what,
    )
    figures, figure = (lambda done: validation.figures(model)), f"{split.what}_loss"
    return Evaluation(figures, settings.validate_every, figure)


def _training(
    model: BertForMaskedLM,
    masked: MaskedUnits,
    lengths: Mapping[str, int],
    settings: BertSettings,
    seed: int,
    evaluation: Evaluation,
) -> Training:
    """On the utterances of `lengths`, frames by name."""
    from pipeline.batches import PackedBatches
    from pipeline.schedules import linear_schedule
    from pipeline.training import Loss, Training
    from stages.units.masked_units import losses

    def loss(update: int, epoch: int, names: list[str]) -> Loss:
        losses_M, right_M = losses(model, masked.batch(names, epoch))
        accuracy = right_M.float().mean().item()
        return Loss(losses_M.mean(), {"accuracy": accuracy}, len(losses_M))

    return Training(
        model=model,
        loss=loss,
        batches=PackedBatches(lengths, settings.batch_frames, seed),
        updates=settings.updates,
        learning_rate=settings.learning_rate,
        scale=linear_schedule(settings.updates, settings.warmup_updates),
        seed=seed,
        checkpoint_every=settings.checkpoint_every,
        weight_decay=settings.weight_decay,
        precision=settings.precision,
        what="BERT",
        evaluation=evaluation,
        accumulate=settings.accumulate,
        clip_norm=settings.clip_norm,
        precision_key="bert.precision",
    )


def _tell(
    ctx: StepContext,
    what: str,
    kept_back: int,
    best: dict[str, float],
    trained: dict[str, Any],
) -> None:
    """Write pretraining.json, `trained` in it, and say how well masked units are guessed."""
    facts: dict[str, Any] = {"kept_back_utterances": kept_back}
    facts |= {"weights_chosen_on": WEIGHTS_CHOSEN_ON[what], "best_update": best["update"]}
    facts["figures_are_of"] = FRAMES
    figures = {name: value for name, value in best.items() if name.startswith(what)}
    text = json.dumps(facts | figures | trained, indent=1)
    (ctx.folder / "pretraining.json").write_text(text, "utf-8")
    speech = f"speech kept back ({kept_back} utterances)" if kept_back else "speech trained on"
    found = told(figures, what)
    beside = (("the most frequent unit", found.most_frequent), ("the nearest seen", found.nearest))
    ctx.say(
        f"units guessed in {speech}, {found.frames}: {found.accuracy:.1%}"
        + "".join(f"; {name} {rate:.1%}" for name, rate in beside if rate is not None)
    )


def _refuse_longer(tokens: dict[str, NDArray[np.int64]], positions: int) -> None:
    longest = max(tokens, key=lambda n: len(tokens[n]))
    if len(tokens[longest]) > positions:
        raise UserError(
            f"Utterance {longest} has more frames than the BERT has positions.",
            constraint=f"bert.positions {positions}",
            found=f"{len(tokens[longest])} frames",
            remedy=f"set bert.positions to {len(tokens[longest])} or more",
        )


def bert_config(settings: BertSettings, vocabulary_size: int) -> dict[str, Any]:
    """Arguments of transformers.BertConfig."""
    attention_dropout = settings.attention_dropout
    return {
        "vocab_size": vocabulary_size,
        "hidden_size": settings.dim,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": settings.ffn_dim,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": (
            settings.dropout if attention_dropout is None else attention_dropout
        ),
        "max_position_embeddings": settings.positions,
        "type_vocab_size": 1,
        "pad_token_id": 0,
    }


def build(settings: BertSettings, vocabulary: Vocabulary, seed: int) -> BertForMaskedLM:
    """A BERT that has seen nothing.

    With `embedding_init: codebook`, unit embeddings start as a random projection of the
    quantizer's vectors, so that units which sound alike are alike from the start.
    """
    import numpy as np
    import torch
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig(**bert_config(settings, len(vocabulary))))
    if settings.embedding_init == "codebook":
        vectors_TD = vocabulary.vectors_TD - vocabulary.vectors_TD.mean(axis=0)
        rng = np.random.default_rng(seed)
        projected = vectors_TD @ rng.standard_normal((vectors_TD.shape[1], settings.dim))
        projected *= CODEBOOK_SCALE / projected.std()
        weight = model.bert.embeddings.word_embeddings.weight
        with torch.no_grad():
            weight[-len(projected) :] = torch.from_numpy(projected.astype(np.float32))
    if settings.position_init == "sinusoidal":
        scale = float(model.bert.embeddings.word_embeddings.weight.detach().std())
        start_positions(model.bert, POSITION_SCALE * scale)
    return model


def start_positions(bert: BertModel, deviation: float) -> None:
    """Let positions start as the sines and cosines of Vaswani et al. (2017, 3.5), so large."""
    import torch

    weight = bert.embeddings.position_embeddings.weight
    positions, dim = weight.shape
    rates = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.arange(positions)[:, None] * rates
    waves = torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :dim]
    with torch.no_grad():
        weight.copy_(waves * (deviation * 2**0.5))
