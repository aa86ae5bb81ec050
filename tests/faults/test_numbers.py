"""Case 27 through the program: a loss or gradient that is not finite, in each training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import checkpoints, cli
from pipeline.recipe_file import load
from pipeline.store import Store
from stages.acoustic.labelled import Labelled
from stages.plan import plan
from stages.prepare.sources import FileHashes

UPDATES_BEFORE = 4  # the update behind these is poisoned


def poisoned(function: Callable[..., Any], change: Callable[[Any], Any], after: int) -> Any:
    """`function`, whose result is changed from its call `after` on."""
    calls = 0

    def wrapped(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        found = function(*args, **named)
        return change(found) if calls > after else found

    return wrapped


def times(value: float) -> Callable[[Any], Any]:
    """Of a batch's losses, and which guesses are right: the losses times this value."""
    return lambda found: (found[0] * value, found[1])


def mean_times(value: float) -> Callable[[Any], Any]:
    """Of a loss with what is logged beside it: the loss times this value."""
    return lambda found: found._replace(mean=found.mean * value)


def logged(value: float) -> Callable[[Any], Any]:
    """Of fairseq's training step: the same in its log, where the task looks."""
    return lambda found: (*found[:2], {**found[2], "loss": value})


def steep(found: Any) -> Any:
    """A loss that is finite, with a derivative that is not."""
    return found._replace(mean=found.mean + (0 * found.mean).sqrt())


def steep_of_fairseq(found: Any) -> Any:
    """The same of a criterion of fairseq's, with its sample size and its log."""
    return found[0] + (0 * found[0]).sqrt(), *found[1:]


@pytest.mark.case(27)
def test_each_training_stops_by_name_keeps_its_checkpoint_and_goes_on(
    write_recipe: Callable[..., Path],
    values: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from stages.quantizer.fairseq.bridge import import_fairseq
    from stages.quantizer.fairseq.task import AudioPretrainingTask
    from stages.units import guesses, masked_units

    criterion = import_fairseq("fairseq.criterions.wav2vec_criterion").Wav2vecCriterion
    assert guesses.losses is masked_units.losses  # both are bound before one is poisoned

    monkeypatch.setattr("signal.signal", lambda *_: None)
    values["budgets"] = ["all"]
    path, exp = write_recipe(values), tmp_path / "exp"
    steps = plan(load(path), FileHashes(exp / "files.json", "look"))

    def run(stage: str) -> tuple[int, str]:
        args = ["run", str(path), "--exp", str(exp), "--stop-stage", stage]
        monkeypatch.setattr(sys, "argv", ["vqasr", *args])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), capsys.readouterr().err

    nan, infinity, before = float("nan"), float("inf"), UPDATES_BEFORE
    for stage, owner, name, change, after, told in (
        ("quantizer", AudioPretrainingTask, "train_step", logged(nan), before, "loss of nan"),
        # again, from the checkpoint that the last one left
        ("quantizer", criterion, "forward", steep_of_fairseq, 0, "gradient that is not"),
        ("bert", masked_units, "losses", times(infinity), before, "The loss of BERT is inf"),
        ("finetune", Labelled, "loss", mean_times(nan), before, "The loss of CTC is nan"),
        # again, from the checkpoint that the last one left
        ("finetune", Labelled, "loss", steep, 0, "The gradient of CTC is nan"),
    ):
        step = next(s for s in steps if s.stage == stage)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, poisoned(getattr(owner, name), change, after))
            status, err = run(stage)
        assert status == 1
        assert told in err
        assert f"at update {UPDATES_BEFORE + 1}" in err
        assert "utterances " in err and "train-0" in err
        assert f"log: {exp / 'tiny' / 'logs' / step.link_name}.log" in err
        assert "Traceback" not in err and len(err.splitlines()) <= 5
        scratch = Store(exp / "store").partial(step) / "scratch"
        left = checkpoints.newest(scratch, lambda text: pytest.fail(text))
        assert left is not None and left.updates == UPDATES_BEFORE
        weights = left.state["model"].values()
        assert all(torch.isfinite(w).all() for w in weights if w.is_floating_point())
    assert run("finetune") == (0, "")
