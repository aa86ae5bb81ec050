"""Stage 3: a BERT pretrained on units with span masking."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError, UserError
from pipeline.manifest import original_id
from pipeline.recipe import BertSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import BertForMaskedLM

    from stages.units.vocabulary import Vocabulary

VERSION = 1
CODEBOOK_SCALE = 0.1  # five times the positions' (0.02): what is heard counts more than when
VALIDATION_SHARE = 0.04
VALIDATION_AT_MOST = 64


def pretrain(ctx: StepContext, *, settings: BertSettings, seed: int) -> None:
    """Train and write the BERT, and how well it guesses hidden units of speech kept back.

    Reads `vocabulary` and one role `units/<split>` for each pretraining split.
    """
    import torch

    from pipeline.training import Batches, Training, linear_schedule
    from stages.units.corpus import UnitCorpus
    from stages.units.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(ctx.inputs["vocabulary"])
    tokens: dict[str, NDArray[np.int64]] = {}
    for role in sorted(ctx.inputs):
        if role.startswith("units/"):
            corpus = UnitCorpus(ctx.inputs[role])
            tokens |= {f"{role}/{n}": vocabulary.tokens(corpus[n]) for n in corpus}
    _refuse_longer(tokens, settings.positions)
    kept_back = _kept_back(list(tokens))
    torch.manual_seed(seed)
    model = build(settings, vocabulary, seed)
    torch.nn.Module.to(model, ctx.device)
    lengths = {n: len(t) for n, t in tokens.items() if n not in kept_back}
    masked = MaskedUnits(tokens, settings, len(vocabulary), seed, ctx.device)
    ctx.say(
        f"BERT of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
        f"{sum(lengths.values()):,} units to learn from, {len(kept_back)} utterances kept back"
    )
    history = Training(
        model=model,
        loss=lambda update, epoch, ids: masked.loss(model, ids, epoch),
        batches=Batches(lengths, settings.batch_frames, seed),
        updates=settings.updates,
        learning_rate=settings.learning_rate,
        scale=linear_schedule(settings.updates, settings.warmup_updates),
        seed=seed,
        checkpoint_every=settings.checkpoint_every,
        weight_decay=settings.weight_decay,
        precision=settings.precision,
        what="BERT",
    ).run(ctx)
    facts = validate(model, masked, sorted(kept_back), lengths)
    model.save_pretrained(ctx.folder)
    vocabulary.save(ctx.folder)
    text = json.dumps(facts | {"history": history}, indent=1)
    (ctx.folder / "pretraining.json").write_text(text, "utf-8")
    ctx.say(
        f"masked units guessed: {facts['accuracy']:.1%}; the most frequent unit "
        f"{facts['accuracy_most_frequent']:.1%}, the nearest seen {facts['accuracy_nearest']:.1%}"
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
    return {
        "vocab_size": vocabulary_size,
        "hidden_size": settings.dim,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": settings.ffn_dim,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
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
    return model


class MaskedUnits:
    """Masked batches of units, and the model's loss on what is hidden."""

    def __init__(
        self,
        tokens: dict[str, NDArray[np.int64]],
        settings: BertSettings,
        vocabulary_size: int,
        seed: int,
        device: str,
    ) -> None:
        self.tokens, self._settings = tokens, settings
        self._size, self._seed, self._device = vocabulary_size, seed, device

    def batch(self, ids: list[str], epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is seen, what it was, what is hidden (B, F) and the lengths (B,)."""
        from pipeline.training import generator, pad
        from stages.units.masking import corrupt, span_mask

        seen, hidden = [], []
        for name in ids:
            rng = generator(self._seed, "mask", epoch, name)
            tokens_F = self.tokens[name]
            mask_F = span_mask(
                len(tokens_F), self._settings.mask_start_probability, self._settings.mask_span, rng
            )
            if not mask_F.any():  # a short utterance that no span fell on
                mask_F[int(rng.integers(len(mask_F)))] = True
            hidden.append(mask_F)
            seen.append(corrupt(tokens_F, mask_F, self._size, rng))
        seen_BF, lengths_B = pad(seen)
        truth_BF, _ = pad([self.tokens[name] for name in ids])
        hidden_BF, _ = pad(hidden)
        device = self._device
        return seen_BF.to(device), truth_BF.to(device), hidden_BF.to(device), lengths_B.to(device)

    def loss(
        self, model: BertForMaskedLM, ids: list[str], epoch: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy in nats over the hidden frames, and the share guessed right.

        The output layer is computed for hidden frames only.
        """
        import torch

        seen_BF, truth_BF, hidden_BF, lengths_B = self.batch(ids, epoch)
        frames = torch.arange(seen_BF.shape[1], device=seen_BF.device)
        attended_BF = (frames[None] < lengths_B[:, None]).long()
        states_BFD = model.bert(seen_BF, attention_mask=attended_BF).last_hidden_state
        logits_NT = model.cls(states_BFD[hidden_BF]).float()
        truth_N = truth_BF[hidden_BF]
        loss = torch.nn.functional.cross_entropy(logits_NT, truth_N)
        right = (logits_NT.detach().argmax(-1) == truth_N).float().mean().item()
        return loss, {"accuracy": right}


def validate(
    model: BertForMaskedLM, masked: MaskedUnits, kept_back: list[str], lengths: dict[str, int]
) -> dict[str, Any]:
    """Accuracy and loss on hidden units of speech kept back, beside two trivial guesses."""
    import numpy as np
    import torch

    names = kept_back or sorted(lengths)[:VALIDATION_AT_MOST]
    counts: Counter[int] = Counter()
    for name in lengths:
        counts.update(masked.tokens[name].tolist())
    most_frequent = counts.most_common(1)[0][0]
    model.eval()
    sums = np.zeros(4)  # frames, loss, right, nearest right
    frequent = 0
    for name in names:
        with torch.inference_mode():
            loss, metrics = masked.loss(model, [name], 0)
            _, truth_BF, hidden_BF, _ = masked.batch([name], 0)
        truth_F, hidden_F = truth_BF[0].cpu().numpy(), hidden_BF[0].cpu().numpy()
        count = int(hidden_F.sum())
        if not np.isfinite(loss.item()):
            raise RunError("The BERT's loss on speech kept back is not finite.")
        nearest_F = truth_F[_nearest_seen(hidden_F)]
        right = float((nearest_F == truth_F)[hidden_F].sum())
        sums += np.array([count, loss.item() * count, metrics["accuracy"] * count, right])
        frequent += int((truth_F[hidden_F] == most_frequent).sum())
    frames = max(sums[0], 1)
    return {
        "validation_utterances": len(kept_back),
        "loss": round(float(sums[1] / frames), 5),
        "accuracy": round(float(sums[2] / frames), 5),
        "accuracy_most_frequent": round(frequent / frames, 5),
        "accuracy_nearest": round(float(sums[3] / frames), 5),
    }


def _nearest_seen(hidden_F: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each frame the nearest one that is not hidden (itself where none is)."""
    import numpy as np

    seen = np.flatnonzero(~hidden_F)
    frames = np.arange(len(hidden_F))
    if not len(seen):
        return frames
    right = np.clip(np.searchsorted(seen, frames), 0, len(seen) - 1)
    left = np.clip(right - 1, 0, len(seen) - 1)
    nearer_left = np.abs(frames - seen[left]) <= np.abs(seen[right] - frames)
    nearest: NDArray[np.int64] = np.where(nearer_left, seen[left], seen[right])
    return nearest
