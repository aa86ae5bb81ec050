"""Stage 3: the loss on hidden units, padding, masks, validation, and exact resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from pipeline.errors import UserError
from pipeline.recipe import BertSettings
from pipeline.stage import StepContext
from stages.units import bert
from stages.units.bert import MaskedUnits
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import MASK, SPECIAL, Vocabulary, combinations

CODES = 5
SMALL: dict[str, Any] = {
    "layers": 2,
    "dim": 16,
    "ffn_dim": 32,
    "heads": 2,
    "positions": 64,
    "batch_frames": 120,
    "updates": 6,
    "warmup_updates": 2,
    "checkpoint_every": 2,
    "precision": "fp32",
}
SETTINGS = BertSettings(**SMALL)
NAMES = [f"u{n}" for n in range(8)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    codebook_GVD = np.random.default_rng(0).standard_normal((2, CODES, 4)).astype(np.float32)
    return Vocabulary.create(list(combinations(2, CODES)), codebook_GVD)


@pytest.fixture(scope="module")
def tokens(vocabulary: Vocabulary) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    lengths = {name: 12 + 5 * n for n, name in enumerate(NAMES)}
    return {
        name: vocabulary.tokens(rng.integers(0, CODES, (length, 2)).astype(np.int16))
        for name, length in lengths.items()
    }


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> BertForMaskedLM:
    torch.manual_seed(0)
    made = bert.build(SETTINGS, vocabulary, 1).eval()
    with torch.no_grad():  # a real model's positions and biases are not nothing
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def masked(tokens: dict[str, Any], seed: int = 1) -> MaskedUnits:
    return MaskedUnits(tokens, SETTINGS, CODES**2 + len(SPECIAL), seed, "cpu")


def test_the_loss_is_that_of_transformers_on_hidden_frames_alone(
    tokens: dict[str, Any], model: BertForMaskedLM
) -> None:
    units = masked(tokens)
    seen_BF, truth_BF, hidden_BF, lengths_B = units.batch(NAMES, 0)
    attended_BF = (torch.arange(seen_BF.shape[1])[None] < lengths_B[:, None]).long()
    labels_BF = truth_BF.masked_fill(~hidden_BF, -100)
    with torch.inference_mode():
        theirs = model(seen_BF, attention_mask=attended_BF, labels=labels_BF)
        ours, told = units.loss(model, NAMES, 0)
    assert ours.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    right = (theirs.logits.argmax(-1) == truth_BF)[hidden_BF].float().mean().item()
    assert told["accuracy"] == pytest.approx(right)


def test_padding_changes_no_loss(tokens: dict[str, Any], model: BertForMaskedLM) -> None:
    units = masked(tokens)
    with torch.inference_mode():
        together, _ = units.loss(model, NAMES, 0)
        alone = [units.loss(model, [name], 0)[0].item() for name in NAMES]
    counts = [int(units.batch([name], 0)[2].sum()) for name in NAMES]
    assert together.item() == pytest.approx(np.average(alone, weights=counts), rel=1e-5)


def test_padding_is_neither_hidden_nor_seen(tokens: dict[str, Any]) -> None:
    seen_BF, truth_BF, hidden_BF, lengths_B = masked(tokens).batch(NAMES, 0)
    for row, name in enumerate(NAMES):
        length = int(lengths_B[row])
        assert length == len(tokens[name])
        assert truth_BF[row, :length].tolist() == tokens[name].tolist()
        assert not hidden_BF[row, length:].any()
        assert hidden_BF[row].any()
        shown = ~hidden_BF[row, :length]
        assert torch.equal(seen_BF[row, :length][shown], truth_BF[row, :length][shown])


def test_masks_depend_on_seed_epoch_and_utterance_alone(tokens: dict[str, Any]) -> None:
    def hidden(names: list[str], epoch: int = 0, seed: int = 1) -> bytes:
        seen_BF, _, hidden_BF, _ = masked(tokens, seed).batch(names, epoch)
        at = names.index("u3")
        length = len(tokens["u3"])
        return bytes(hidden_BF[at, :length].tolist()) + bytes(seen_BF[at, :length].tolist())

    assert hidden(["u3"]) == hidden(NAMES) == hidden(NAMES[::-1])
    assert len({hidden(["u3"]), hidden(["u3"], epoch=1), hidden(["u3"], seed=2)}) == 3


def test_a_short_utterance_has_a_hidden_frame_all_the_same() -> None:
    units = masked({f"s{n}": np.array([5, 6]) for n in range(30)})
    _, _, hidden_BF, _ = units.batch([f"s{n}" for n in range(30)], 0)
    assert hidden_BF.any(dim=1).all()


def test_units_that_sound_alike_start_alike(vocabulary: Vocabulary) -> None:
    """Distances of the embeddings follow those of the codebook (a random projection)."""
    wide = BertSettings(**(SMALL | {"dim": 256}))
    weight = bert.build(wide, vocabulary, 1).bert.embeddings.word_embeddings.weight
    embedded = weight.detach()[len(SPECIAL) :].numpy()
    found, expected = (
        np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(len(x), 1)]
        for x in (embedded, vocabulary.vectors_TD)
    )
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert embedded.std() == pytest.approx(bert.CODEBOOK_SCALE, rel=0.01)
    random = BertSettings(**(SMALL | {"dim": 256, "embedding_init": "random"}))
    weight = bert.build(random, vocabulary, 1).bert.embeddings.word_embeddings.weight
    assert weight.detach()[len(SPECIAL) :].std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("hidden", "nearest"),
    [
        ([0, 1, 1, 1, 0], [0, 0, 0, 4, 4]),  # a tie goes to the left
        ([1, 1, 0, 0, 1], [2, 2, 2, 3, 3]),
        ([1, 1, 1], [0, 1, 2]),
        ([0, 0], [0, 1]),
    ],
)
def test_the_nearest_frame_that_is_seen(hidden: list[int], nearest: list[int]) -> None:
    assert bert._nearest_seen(np.array(hidden, bool)).tolist() == nearest


def test_validation_compares_with_two_trivial_guesses(model: BertForMaskedLM) -> None:
    constant = {name: np.full(30, 7) for name in NAMES}
    facts = bert.validate(model, masked(constant), NAMES[:2], {n: 30 for n in NAMES[2:]})
    assert facts["validation_utterances"] == 2
    assert facts["accuracy_most_frequent"] == 1
    assert facts["accuracy_nearest"] == 1
    changing = {name: 3 + np.arange(30) % 25 for name in NAMES}
    facts = bert.validate(model, masked(changing), NAMES[:2], {n: 30 for n in NAMES[2:]})
    assert facts["accuracy_nearest"] == 0
    assert facts["accuracy_most_frequent"] < 0.2


def write_units(folder: Path, tokens: dict[str, Any], vocabulary: Vocabulary) -> Path:
    folder.mkdir()
    units = [vocabulary.units_TG[t - len(SPECIAL)].astype(np.int16) for t in tokens.values()]
    write_shard(shard_path(folder, 0), list(tokens), units)
    facts = {"utterances": len(tokens), "groups": 2, "codes": CODES}
    (folder / FACTS).write_text(facts_text(facts))
    return folder


@pytest.fixture
def inputs(tmp_path: Path, tokens: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Path]:
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    vocabulary.save(folder)
    return {
        "units/train": write_units(tmp_path / "units", tokens, vocabulary),
        "vocabulary": folder,
    }


def test_a_killed_pretraining_writes_the_same_bytes(
    context: Callable[..., StepContext],
    inputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, killed = context("whole", inputs), context("killed", inputs)
    bert.pretrain(whole, settings=SETTINGS, seed=1)
    loss, calls = MaskedUnits.loss, 0

    def until(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (4, 8):  # in mid-epoch, twice
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(MaskedUnits, "loss", until)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bert.pretrain(killed, settings=SETTINGS, seed=1)
    bert.pretrain(killed, settings=SETTINGS, seed=1)
    for name in ("config.json", "model.safetensors", "pretraining.json"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()
    facts = json.loads((whole.folder / "pretraining.json").read_text())
    assert 0 <= facts["accuracy"] <= 1


def test_transformers_loads_what_was_pretrained(
    context: Callable[..., StepContext], inputs: dict[str, Path]
) -> None:
    ctx = context("bert", inputs)
    bert.pretrain(ctx, settings=SETTINGS, seed=1)
    model, told = BertForMaskedLM.from_pretrained(ctx.folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert model.config.vocab_size == CODES**2 + len(SPECIAL)
    assert model(torch.tensor([[MASK, 3, 4]])).logits.shape == (1, 3, CODES**2 + len(SPECIAL))


def test_an_utterance_longer_than_the_positions_is_named(
    context: Callable[..., StepContext], inputs: dict[str, Path]
) -> None:
    short = BertSettings(**(SMALL | {"positions": 40}))
    with pytest.raises(UserError, match=r"(?s)u7 .*bert.positions 40.*47 frames.*47 or more"):
        bert.pretrain(context("bert", inputs), settings=short, seed=1)


def test_who_is_kept_back_does_not_depend_on_the_order() -> None:
    names = [f"u{n}" for n in range(200)]
    kept = bert._kept_back(names)
    assert kept == bert._kept_back(names[::-1])
    assert len(kept) == 8
    assert len(bert._kept_back([f"u{n}" for n in range(5000)])) == bert.VALIDATION_AT_MOST


def test_copies_at_other_speeds_are_kept_back_with_their_originals() -> None:
    names = [f"u{n}{copy}" for n in range(60) for copy in ("", "@speed-0.9", "@speed-1.1")]
    kept_back = bert._kept_back(names)
    assert len(kept_back) == 6  # 4 % of 60, three times
    assert {name.partition("@")[0] for name in set(names) - kept_back}.isdisjoint(kept_back)
