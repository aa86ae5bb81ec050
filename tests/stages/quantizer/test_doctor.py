"""What counts as a collapse, and that repairs come to an end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.errors import RunError
from pipeline.recipe import QuantizerSettings
from stages.quantizer.doctor import MOST_REPAIRS, PATIENCE, Doctor
from stages.quantizer.gumbel import GumbelCodebook
from stages.quantizer.history import WINDOW_UPDATES

SICK, HEALTHY = (1.2, 9.0), (9.0, 9.0)  # perplexity of each group; 16 codes


class Model(torch.nn.Module):
    """What the doctor sees of a model: a codebook that has seen a batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.diversity_weight = 0.25
        self.vector_quantizer = GumbelCodebook(
            8,
            2,
            16,
            combine_groups=True,
            depth=1,
            activation=torch.nn.GELU(),
            temperature=(2.0, 0.5, 0.99),
        ).train()
        self.vector_quantizer(torch.randn(2, 8, 50))


def doctor(on_collapse: str, said: list[str], **changed: Any) -> Doctor:
    given: dict[str, Any] = {"type": "gumbel", "codes": 16, "diversity_weight": 0.25}
    settings = QuantizerSettings(on_collapse=on_collapse, **given | changed)
    return Doctor(settings, 1, said.append)


def show(doctor: Doctor, model: Model, windows: list[tuple[float, float]], first: int = 1) -> None:
    for number, (one, other) in enumerate(windows, first):
        figures = {"perplexity_0": one, "perplexity_1": other, "pairs_in_use": 5}
        doctor.see({"update": number * WINDOW_UPDATES, "loss_bits": 3.0, **figures}, model)


@pytest.mark.case(28)
def test_a_collapse_is_one_group_low_for_windows_on_end() -> None:
    said: list[str] = []
    show(doctor("warn", said), Model(), [*[HEALTHY] * 3, *[SICK] * (PATIENCE - 1), HEALTHY, SICK])
    assert said == []
    show(doctor("warn", said), Model(), [*[HEALTHY] * 3, *[SICK] * (PATIENCE + 5)])
    assert len(said) == 1  # once for as long as it lasts


@pytest.mark.parametrize(("warmup", "windows"), [(10, 2), (30, 2), (200, 8)])
def test_windows_before_the_learning_rate_is_up_do_not_count(warmup: int, windows: int) -> None:
    said: list[str] = []
    patient = doctor("warn", said, warmup_updates=warmup)
    show(patient, Model(), [SICK] * (windows + PATIENCE - 1))
    assert said == []
    show(patient, Model(), [SICK], first=windows + PATIENCE)
    assert len(said) == 1


def test_each_repair_weighs_diversity_more_and_heats_until_they_are_used_up() -> None:
    said: list[str] = []
    mending, model, at = doctor("repair", said), Model(), 3
    weights = []
    for _ in range(MOST_REPAIRS):
        show(mending, model, [SICK] * PATIENCE, first=at)
        at += PATIENCE
        mending.prepare(model)
        weights.append(model.diversity_weight)
        update = (at - 1) * WINDOW_UPDATES
        model.vector_quantizer.set_num_updates(update)
        assert model.vector_quantizer.temperature == pytest.approx(2.0)
        model.vector_quantizer.set_num_updates(update + 100)
        assert model.vector_quantizer.temperature == pytest.approx(0.5)
    assert weights == [1.0, 2.0, 4.0, 8.0]
    with pytest.raises(RunError, match=f"after {MOST_REPAIRS} repairs"):
        show(mending, model, [SICK] * PATIENCE, first=at)


def test_a_restored_doctor_knows_what_the_other_knew() -> None:
    said: list[str] = []
    first, second, model = doctor("repair", said), doctor("repair", said), Model()
    show(first, model, [HEALTHY, HEALTHY, *[SICK] * (PATIENCE + 1)])
    second.restore(first.state_dict())
    assert second.state == first.state
    other = Model()
    second.prepare(other)
    assert other.diversity_weight == 1.0
    assert other.vector_quantizer.reheated_at == (2 + PATIENCE) * WINDOW_UPDATES
