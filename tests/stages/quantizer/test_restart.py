"""Codes that nobody chose are chosen after a restart, and the others are left as they were."""

from __future__ import annotations

import pytest
import torch

from stages.quantizer.gumbel import GumbelCodebook
from stages.quantizer.kmeans import KmeansCodebook
from stages.quantizer.restart import restart

FRAMES = 400


def collapsed(kind: str, combine: bool, depth: int = 1) -> GumbelCodebook | KmeansCodebook:
    """A codebook of which each group chooses code 3 for all frames of the batch it has seen."""
    torch.manual_seed(0)
    if kind == "kmeans":
        book = KmeansCodebook(8, 2, 16, combine_groups=combine, gamma=0.25)
        book.embedding.data += 50.0
        book.embedding.data[3] = 0.0
    else:
        book = GumbelCodebook(
            8,
            2,
            16,
            combine_groups=combine,
            depth=depth,
            activation=torch.nn.GELU(),
            temperature=(2.0, 0.5, 0.99),
        )
        layer = book.weight_proj if depth == 1 else book.weight_proj[-1]
        layer.bias.data.view(2, 16)[:, 3] += 60.0
    # features of very different mean and scale, as they are without a norm
    z_BDF = torch.randn(2, 8, FRAMES // 2) * torch.logspace(-2, 0, 8)[:, None] + 1.0
    book.train()(z_BDF)
    assert book.last_codes_NG.unique().tolist() == [3]
    return book


def in_use(book: GumbelCodebook | KmeansCodebook) -> list[int]:
    codes_BFG = book.code_indices(book.last_inputs_BDF)
    return [len(codes_BFG[..., group].unique()) for group in range(2)]


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("combine", [True, False])
@pytest.mark.parametrize(("kind", "depth"), [("gumbel", 1), ("gumbel", 2), ("kmeans", 1)])
def test_frames_choose_restarted_codes(kind: str, depth: int, combine: bool) -> None:
    book = collapsed(kind, combine, depth)
    shared = kind == "kmeans" and combine
    assert restart(book, [0, 1], draws(1)) == (15 if shared else 30)
    assert min(in_use(book)) > (4 if shared else 8)  # shared: the new ones lie in two groups


def test_a_group_that_collapsed_in_a_table_that_serves_a_healthy_one_is_repaired() -> None:
    """No code is dead in both groups, so the least used ones move, and the most used one stays."""
    book = KmeansCodebook(8, 2, 16, combine_groups=True, gamma=0.25)
    with torch.no_grad():
        # group 0 near N(0, 1), where the codes are; group 1 far from all but code 3
        z_BDF = torch.randn(2, 8, FRAMES // 2)
        z_BDF[:, :4] /= z_BDF[:, :4].std()
        book.projection = torch.nn.Identity()
        book.embedding.copy_(book.frames(z_BDF)[:16, 0, None])
        z_BDF[:, 4:] += 50.0
        book.embedding[3] = 40.0
    book.train()(z_BDF)
    uses_V = torch.bincount(book.last_codes_NG.flatten(), minlength=16)
    before = book.embedding.detach().clone()
    assert in_use(book) == [15, 1] and uses_V.min() > 0 and int(uses_V.argmax()) == 3
    assert restart(book, [1], draws(1)) == 4
    moved = (book.embedding != before).any(-1).flatten().nonzero().flatten()
    assert set(moved.tolist()) == set(uses_V.argsort(stable=True)[:4].tolist())
    assert in_use(book) == [11, 4]


def test_only_dead_codes_of_the_groups_named_change() -> None:
    book = collapsed("gumbel", combine=False)
    before = {name: value.clone() for name, value in book.state_dict().items()}
    restart(book, [1], draws(1))
    assert in_use(book)[0] == 1 and in_use(book)[1] > 8
    weight, vectors = book.weight_proj.weight.view(2, 16, 8), book.vars.view(2, 16, 4)
    for now, then in ((weight, before["weight_proj.weight"]), (vectors, before["vars"])):
        then = then.view_as(now)
        assert torch.equal(now[0], then[0]) and torch.equal(now[1, 3], then[1, 3])
        assert not torch.equal(now[1, 4], then[1, 4])


def test_a_shared_vector_that_another_group_uses_stays() -> None:
    book = collapsed("gumbel", combine=True)
    book.last_codes_NG[:, 0] = torch.arange(FRAMES) % 16  # as if group 0 used them all
    before = book.vars.detach().clone()
    restart(book, [1], draws(1))
    assert torch.equal(book.vars, before)
    assert in_use(book)[1] > 8


def test_a_restart_is_a_function_of_its_draws() -> None:
    same = [collapsed("gumbel", combine=True) for _ in range(3)]
    for book, seed in zip(same, (1, 1, 2), strict=True):
        restart(book, [0, 1], draws(seed))
    one, again, other = (book.weight_proj.weight for book in same)
    assert torch.equal(one, again) and not torch.equal(one, other)
