"""Trainings that do collapse, and what each way to meet a collapse makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints import newest
from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.recipe import QuantizerSettings
from stages.quantizer.fairseq.train import Trained, train
from stages.quantizer.history import by_group

MakeSpeech = Callable[..., Manifest]
SMALL: dict[str, Any] = {
    "type": "gumbel",
    "encoder_layers": [(16, 10, 5), (16, 8, 4), (16, 4, 4)],
    "aggregator_layers": [(16, 2, 1), (16, 3, 1)],
    "codes": 16,
    "prediction_steps": 4,
    "negatives": 5,
    "updates": 175,
    "warmup_updates": 5,
    "crop_samples": 8000,
    "batch_samples": 32_000,
    "checkpoint_every": 20,
    "learning_rate": 3e-3,
}
# fairseq's initialisation, made for 400,000 updates, and no diversity loss
GUMBEL: dict[str, Any] = SMALL | {
    "input_norm": False,
    "projection_init": "fairseq",
    "codebook_init": "fairseq",
    "projection_depth": 2,
    "diversity_weight": 0.0,
    "learning_rate": 1e-2,
}
# a commitment loss so heavy that the features all move to one code
KMEANS: dict[str, Any] = SMALL | {
    "type": "kmeans",
    "input_norm": False,
    "codebook_init": "fairseq",
    "combine_groups": False,
    "kmeans_gamma": 20.0,
    "restart_dead_codes_every": 0,
    "quantize_after": 0,
    "learning_rate": 1e-2,
}
FOUND_AT = 125  # 50 updates of grace and three windows


KINDS = {
    "gumbel": GUMBEL,
    "kmeans": KMEANS,
    "kmeans shared": KMEANS | {"combine_groups": True},
}
# One table for both groups collapses and is repaired as a table for each: with the long tests.
MOST = [*list(KINDS)[:-1], pytest.param("kmeans shared", marks=pytest.mark.slow)]


@dataclass(frozen=True)
class Outcome:
    trained: Trained
    said: list[str]

    @property
    def perplexities(self) -> list[float]:
        """Of each group at the end."""
        return by_group(self.trained.history[-1], "perplexity")


@pytest.fixture(scope="module")
def speech(make_speech: MakeSpeech) -> Manifest:
    return make_speech([12_000] * 16)


@pytest.fixture(scope="module")
def outcome(
    speech: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Outcome]:
    """`outcome(kind, way)`: the run that collapses, met in that way; trained once."""

    @cache
    def run(kind: str, way: str) -> Outcome:
        said: list[str] = []
        settings = QuantizerSettings(**KINDS[kind], on_collapse=way)
        folder = tmp_path_factory.mktemp(f"{kind}-{way}")
        return Outcome(train(settings, [speech], seed=1, folder=folder, say=said.append), said)

    return run


@pytest.mark.case(28)
@pytest.mark.parametrize("kind", MOST)
def test_warned_of_a_collapse_the_run_goes_on_and_ends_collapsed(
    outcome: Callable[[str, str], Outcome], kind: str
) -> None:
    found = outcome(kind, "warn")
    assert max(found.perplexities) < 1.5
    # Another processor rounds otherwise, and a group that stirs for a moment is told once more.
    assert found.trained.collapses[0]["update"] == FOUND_AT
    assert found.trained.repairs == []
    line, *more = found.said
    assert len(more) == len(found.trained.collapses) - 1
    assert "COLLAPSED: update 125" in line and "perplexity 1.0" in line


@pytest.mark.case(28)
def test_stopped_at_a_collapse_the_figures_are_told_and_the_checkpoint_is_kept(
    speech: Manifest, tmp_path: Path
) -> None:
    settings = QuantizerSettings(**GUMBEL, on_collapse="stop")
    with pytest.raises(RunError) as caught:
        train(settings, [speech], seed=1, folder=tmp_path)
    text = str(caught.value)
    assert f"collapsed at update {FOUND_AT}" in text
    assert "codes in use 1 and 1" in text and "on_collapse: repair" in text
    assert caught.value.exit_status == 1 and len(text.splitlines()) <= 4
    kept = newest(tmp_path, print)
    assert kept is not None and kept.updates == 120


@pytest.mark.case(28)
@pytest.mark.parametrize("kind", MOST)
def test_repaired_the_same_run_ends_healthy(
    outcome: Callable[[str, str], Outcome], kind: str
) -> None:
    found = outcome(kind, "repair")
    assert min(found.perplexities) > 2  # 1.0 without the repair
    (repair,) = found.trained.repairs
    assert repair["update"] == FOUND_AT and repair["groups"] == [0, 1]
    (line,) = found.said
    assert "collapsed at update 125, repair 1" in line
    if kind == "gumbel":
        before, after = found.trained.history[4:6]
        assert (before["diversity_weight"], after["diversity_weight"]) == (0.0, 1.0)
        assert after["temperature"] > before["temperature"]


class Killed(BaseException):
    """Stands in for a kill: nothing but the checkpoints outlives it."""


@pytest.mark.parametrize("kind", MOST)
def test_kills_around_a_repair_change_no_bit(
    outcome: Callable[[str, str], Outcome], speech: Manifest, tmp_path: Path, kind: str
) -> None:
    whole = outcome(kind, "repair").trained
    settings = QuantizerSettings(**KINDS[kind])
    assert settings.on_collapse == "repair"
    for kill in (114, 133, 167):  # within a window, after the repair, after a later checkpoint

        def until(update: int, _: Any, kill: int = kill) -> None:
            if update == kill:
                raise Killed

        with pytest.raises(Killed):
            train(settings, [speech], seed=1, folder=tmp_path, on_update=until)
    killed = train(settings, [speech], seed=1, folder=tmp_path)
    assert all(torch.equal(killed.weights[name], whole.weights[name]) for name in whole.weights)
    assert (killed.history, killed.repairs) == (whole.history, whole.repairs)


def test_a_run_that_stays_healthy_is_the_same_whatever_a_collapse_would_lead_to(
    make_speech: MakeSpeech, tmp_path: Path
) -> None:
    # past the first update at which a collapse is found
    values = SMALL | {"updates": 130, "batch_samples": 8000, "crop_samples": 4000}
    speech = make_speech([4000] * 16, "short")
    ways = {way: QuantizerSettings(**values, on_collapse=way) for way in ("repair", "warn")}
    runs = {
        way: train(settings, [speech], seed=1, folder=tmp_path / way)
        for way, settings in ways.items()
    }
    assert runs["repair"].history == runs["warn"].history
    for name, value in runs["repair"].weights.items():
        assert torch.equal(value, runs["warn"].weights[name]), name
