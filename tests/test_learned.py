"""It is learned, not arranged: unseen voices and sentences, and what must fail does fail.

One small model is trained through the program, another one on transcripts that were dealt to the
wrong utterances; the same decoding then tells them apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.cli import cli
from pipeline.manifest import MANIFEST, Manifest
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step, StepContext
from pipeline.store import Store
from stages.acoustic import decode_stage, decoding, finetune, scoring
from stages.acoustic.decode_stage import decode_dev, decode_test
from stages.plan import plan
from stages.prepare.sources import FileHashes

RECIPE = {
    "corpus": {
        "kind": "synthetic",
        "train_sentences": 240,
        "dev_sentences": 12,
        "test_sentences": 30,
        "lm_sentences": 3000,
        "train_voices": ["en-us@50", "en-us+m1@45", "en-us+m4@50"],
        "dev_voices": ["en-us+m2@50"],
        "test_voices": {"test": ["en-us+m3@45"]},
        "words_per_minute": [165, 175],
    },
    "frontend": "log_mel",
    "bert": {"layers": 2, "dim": 96, "ffn_dim": 256, "heads": 4, "dropout": 0.0},
    "finetune": {
        "updates": 400,
        "batch_frames": 2400,
        "learning_rate": 2e-3,
        "subsample": 1,
        "time_mask_probability": 0.0,
        "channel_mask_probability": 0.0,
        "precision": "fp32",
    },
    "decode": {"lm_weights": [0.5, 1.0, 2.0], "word_scores": [0.0]},
    "machine": {"device": "cpu", "threads": 1},
}
LEARNED_BELOW = 0.3  # it comes to a tenth; chance is above 0.8
FAILS_ABOVE = 0.8


@dataclass(frozen=True)
class Learned:
    """A finished run."""

    recipe: Recipe
    steps: list[Step]
    store: Store

    def step(self, stage: str, label: str) -> Step:
        return next(s for s in self.steps if (s.stage, s.label) == (stage, label))

    def folder(self, stage: str, label: str) -> Path:
        return self.store.path(self.step(stage, label))

    def context(self, folder: Path, step: Step, **changed: Path) -> StepContext:
        """The context of `step` in another folder, some of its inputs replaced."""
        folder.mkdir()
        inputs = {role: self.store.path(source) for role, source in step.inputs.items()}
        return StepContext(folder, inputs | changed, "cpu", folder / "tensorboard")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    folder = tmp_path_factory.mktemp("learned")
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(RECIPE), "utf-8")
    before = torch.get_num_threads()
    cli.main(["run", str(path), "--exp", str(folder / "exp")], standalone_mode=False)
    recipe, store = load(path), Store(folder / "exp" / "store")
    yield Learned(recipe, plan(recipe, FileHashes(store.root / "files.json", "look")), store)
    torch.set_num_threads(before)


def wer(folder: Path, manifest: Manifest) -> float:
    """Of the beam search's hypotheses in `folder`."""
    hypotheses = {}
    for line in (folder / "lexicon_beam.trn").read_text("utf-8").splitlines():
        words, _, name = line.rpartition("(")
        hypotheses[name.removesuffix(")")] = words.strip()
    references = scoring.check_references({u.id: u.transcript for u in manifest})
    return scoring.count_words(references, hypotheses).rate


def test_voices_and_sentences_of_the_test_are_unseen(learned: Learned) -> None:
    splits = {n: Manifest.load(learned.folder("prepare", n)) for n in ("train", "dev", "test/test")}
    text = learned.folder("prepare", "text") / "lm_text.txt"
    sentences = set(text.read_text("utf-8").splitlines())
    sentences |= {str(u.transcript) for u in splits["train"]}
    for name in ("dev", "test/test"):
        assert not sentences & {str(u.transcript) for u in splits[name]}
        assert not {u.speaker for u in splits["train"]} & {u.speaker for u in splits[name]}


def test_an_unseen_voice_is_understood(learned: Learned) -> None:
    manifest = Manifest.load(learned.folder("prepare", "test/test"))
    assert wer(learned.folder("decode", "test/all"), manifest) < LEARNED_BELOW


def test_log_probabilities_of_other_utterances_say_other_words(
    learned: Learned, tmp_path: Path
) -> None:
    step = learned.step("decode", "test/all")
    manifest = Manifest.load(learned.folder("prepare", "test/test"))
    kept = learned.folder("decode", "log_probs/test/all") / decoding.LOG_PROBS
    cached, filled = decoding.read_log_probs(kept), decoding.read_filled(kept)
    names = sorted(cached)
    swapped = {name: cached[names[i - 1]] for i, name in enumerate(names)}
    for given, folder in ((cached, "same"), (swapped, "swapped")):
        log_probs = tmp_path / f"{folder}-log_probs"
        log_probs.mkdir()
        decoding.write_log_probs(log_probs / decoding.LOG_PROBS, decoding.Outputs(given, filled))
        ctx = learned.context(tmp_path / folder, step, log_probs=log_probs)
        decode_test(ctx, settings=learned.recipe.decode)
    assert wer(tmp_path / "same", manifest) < LEARNED_BELOW
    assert wer(tmp_path / "swapped", manifest) > FAILS_ABOVE


def test_a_model_of_shuffled_transcripts_fails(learned: Learned, tmp_path: Path) -> None:
    """The same audio, settings, language model and decoding; only who said what is wrong."""
    shuffled = shuffle(Manifest.load(learned.folder("prepare", "train")), tmp_path / "train")
    recipe = learned.recipe
    step = learned.step("finetune", "all")
    model = learned.context(tmp_path / "model", step, manifest=shuffled)
    finetune.finetune(
        model, frontend=recipe.frontend, bert=recipe.bert, settings=recipe.finetune, seed=1
    )
    said = {}
    for split in ("dev", "test"):
        wanted = learned.step("decode", f"log_probs/{split}/all")
        said[split] = learned.context(tmp_path / f"said-{split}", wanted, model=model.folder)
        decode_stage.compute(said[split])
    wanted = learned.step("decode", "dev/all")
    dev = learned.context(tmp_path / "dev", wanted, log_probs=said["dev"].folder)
    decode_dev(dev, settings=recipe.decode)
    given = {"log_probs": said["test"].folder, "tuned": dev.folder}
    test = learned.context(tmp_path / "test", learned.step("decode", "test/all"), **given)
    decode_test(test, settings=recipe.decode)
    assert wer(test.folder, Manifest.load(learned.folder("prepare", "test/test"))) > FAILS_ABOVE


def shuffle(manifest: Manifest, folder: Path) -> Path:
    """The manifest with every transcript at another utterance."""
    order = list(manifest)
    random.Random(1).shuffle(order)
    dealt = [
        replace(u, transcript=other.transcript)
        for u, other in zip(order, order[1:] + order[:1], strict=True)
    ]
    folder.mkdir()
    (folder / "audio").symlink_to(manifest.folder / "audio")
    Manifest(dealt, folder).write()
    assert (folder / MANIFEST).read_bytes() != (manifest.folder / MANIFEST).read_bytes()
    return folder
