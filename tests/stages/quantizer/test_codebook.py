"""Dead k-means codes, and what may not change when they are left alone."""

from __future__ import annotations

import pytest
import torch

from stages.quantizer.codebook import KmeansCodebook


def codebook(combine_groups: bool, **changed: int) -> KmeansCodebook:
    torch.manual_seed(0)
    made = KmeansCodebook(8, 2, 16, combine_groups=combine_groups, gamma=0.25, **changed)
    made.embedding.data += 50.0  # far from all speech: one code is nearest to every frame
    return made.train()


def in_use(quantizer: KmeansCodebook, z_BDF: torch.Tensor) -> int:
    return len(quantizer.code_indices(z_BDF).flatten().unique())


@pytest.mark.parametrize("combine_groups", [True, False])
def test_codes_that_nobody_chose_move_onto_speech(combine_groups: bool) -> None:
    z_BDF = torch.randn(3, 8, 40)
    left = codebook(combine_groups)
    left(z_BDF)
    assert in_use(left, z_BDF) <= 2
    moved = codebook(combine_groups, restart_every=10, restart_until=100)
    moved(z_BDF)
    assert in_use(moved, z_BDF) > 10


@pytest.mark.parametrize(("updates", "moves"), [(0, True), (5, False), (20, True), (100, False)])
def test_codes_move_only_when_it_is_time(updates: int, moves: bool) -> None:
    quantizer = codebook(True, restart_every=10, restart_until=100)
    before = quantizer.embedding.detach().clone()
    quantizer.set_num_updates(updates)
    quantizer(torch.randn(3, 8, 40))
    assert torch.equal(before, quantizer.embedding) is not moves


def test_codes_do_not_move_outside_of_training() -> None:
    quantizer = codebook(True, restart_every=10, restart_until=100).eval()
    before = quantizer.embedding.detach().clone()
    quantizer(torch.randn(3, 8, 40))
    assert torch.equal(before, quantizer.embedding)
