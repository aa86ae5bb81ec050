"""Stage 3: a BERT pretrained on units with span masking."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.manifest import original_id
from pipeline.recipe import BertSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import BertForMaskedLM, BertModel

    from stages.units.vocabulary import Vocabulary

VERSION = 2
CODEBOOK_SCALE = 0.1  # five times the positions' (0.02): what is heard counts more than when
POSITION_SCALE = 0.5  # of sinusoidal positions beside what they are added to
VALIDATION_SHARE = 0.04
VALIDATION_AT_MOST = 64
KEPT_BACK, TRAINED_ON = "kept_back", "trained_on"  # how the names of figures start, by whose
WEIGHTS_CHOSEN_ON = {
    KEPT_BACK: "the utterances kept back, whose figures are told",
    TRAINED_ON: "utterances trained on, whose figures are told: too few to keep any back",
}
NOTHING_KEPT_BACK = (
    f"nothing kept back (that takes {1 / VALIDATION_SHARE:.0f} utterances): the weights are chosen "
    "on speech trained on"
)


def pretrain(ctx: StepContext, *, settings: BertSettings, seed: int) -> None:
    """Train and write the BERT, and how well it guesses hidden units of speech kept back.

    Reads `vocabulary` and one role `units/<split>` for each pretraining split. Speech kept back
    is of speakers who are heard in training, and its loss chooses the weights too: its figures
    compare BERTs on the same speech and say nothing of unseen speakers. Where there is too little
    speech to keep any back, the figures are of some of what was trained on, and are called so.
    """
    import torch

    from pipeline.activations import checkpoint_activations
    from pipeline.evaluation import Evaluation
    from pipeline.training import Loss, PackedBatches, Training, linear_schedule
    from stages.units.attention import packed
    from stages.units.guesses import Validation
    from stages.units.masked_units import MaskedUnits, losses
    from stages.units.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(ctx.inputs["vocabulary"])
    tokens = _tokens(ctx, vocabulary)
    _refuse_longer(tokens, settings.positions)
    kept_back = _kept_back(list(tokens))
    torch.manual_seed(seed)
    model = build(settings, vocabulary, seed)
    torch.nn.Module.to(model, ctx.device)
    lengths = {n: len(t) for n, t in tokens.items() if n not in kept_back}
    masked = MaskedUnits(tokens, settings, len(vocabulary), seed, ctx.device)
    chosen_on = sorted(kept_back) or sorted(lengths)[:VALIDATION_AT_MOST]
    what = KEPT_BACK if kept_back else TRAINED_ON
    validation = Validation(
        masked,
        chosen_on,
        sorted(lengths),
        settings.batch_frames,
        len(vocabulary),
        settings.precision,
        ctx.device,
        what,
    )
    ctx.say(
        f"BERT of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
        f"{sum(lengths.values()):,} units to learn from, "
        + (f"{len(kept_back)} utterances kept back" if kept_back else NOTHING_KEPT_BACK)
    )

    if settings.checkpoint_activations:
        checkpoint_activations(model)

    def loss(update: int, epoch: int, names: list[str]) -> Loss:
        losses_M, right_M = losses(model, masked.batch(names, epoch))
        accuracy = right_M.float().mean().item()
        return Loss(losses_M.mean(), {"accuracy": accuracy}, len(losses_M))

    evaluation = Evaluation(
        lambda done: validation.figures(model), settings.validate_every, f"{what}_loss"
    )
    with packed(model):
        history = Training(
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
        ).run(ctx)
    best = evaluation.best(history)
    assert best is not None  # the end is evaluated
    model.save_pretrained(ctx.folder)
    vocabulary.save(ctx.folder)
    _tell(ctx, what, len(kept_back), best, history)


def _tell(
    ctx: StepContext,
    what: str,
    kept_back: int,
    best: dict[str, float],
    history: list[dict[str, float]],
) -> None:
    """Write pretraining.json, and say how well hidden units are guessed."""
    facts: dict[str, Any] = {"kept_back_utterances": kept_back}
    facts |= {"weights_chosen_on": WEIGHTS_CHOSEN_ON[what], "best_update": best["update"]}
    told = {name: value for name, value in best.items() if name.startswith(what)}
    text = json.dumps(facts | told | {"history": history}, indent=1)
    (ctx.folder / "pretraining.json").write_text(text, "utf-8")
    ctx.say(
        f"masked units guessed{'' if kept_back else ' in speech trained on'}: "
        f"{told[f'{what}_accuracy']:.1%}; the most frequent unit "
        f"{told[f'{what}_accuracy_most_frequent']:.1%}, the nearest seen "
        f"{told[f'{what}_accuracy_nearest']:.1%}"
    )


def _tokens(ctx: StepContext, vocabulary: Vocabulary) -> dict[str, NDArray[np.int64]]:
    """Of all pretraining splits, by role and utterance."""
    from stages.units.corpus import UnitCorpus

    tokens: dict[str, NDArray[np.int64]] = {}
    for role in sorted(ctx.inputs):
        if role.startswith("units/"):
            corpus = UnitCorpus(ctx.inputs[role])
            tokens |= {f"{role}/{n}": vocabulary.tokens(corpus[n]) for n in corpus}
    return tokens


def _refuse_longer(tokens: dict[str, NDArray[np.int64]], positions: int) -> None:
    longest = max(tokens, key=lambda n: len(tokens[n]))
    if len(tokens[longest]) > positions:
        raise UserError(
            f"Utterance {longest} has more frames than the BERT has positions.",
            constraint=f"bert.positions {positions}",
            found=f"{len(tokens[longest])} frames",
            remedy=f"set bert.positions to {len(tokens[longest])} or more",
        )


def _kept_back(names: list[str]) -> set[str]:
    """Utterances for validation: those whose hashed names come first, the same everywhere.

    Copies at other speeds go with their originals: the same words are not learnt from.
    """
    originals = {original_id(name) for name in names}
    count = min(VALIDATION_AT_MOST, int(len(originals) * VALIDATION_SHARE))
    chosen = sorted(originals, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[:count]
    return {name for name in names if original_id(name) in chosen}


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
