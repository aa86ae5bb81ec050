"""When k-means begins, dead codes, and what may not change when they are left alone."""

from __future__ import annotations

import pytest
import torch

from stages.quantizer.kmeans import KmeansCodebook, centres


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


def test_before_k_means_begins_features_pass_as_they_are() -> None:
    quantizer = codebook(True, quantize_after=5)
    z_BDF = torch.randn(3, 8, 40)
    quantizer.set_num_updates(4)
    passed = quantizer(z_BDF)
    assert torch.equal(passed["x"], quantizer.projected(z_BDF))
    assert float(passed["kmeans_loss"].detach()) == 0
    quantizer.eval()  # in use, always quantized
    assert not torch.allclose(quantizer(z_BDF)["x"], quantizer.projected(z_BDF))


@pytest.mark.parametrize("combine_groups", [True, False])
def test_k_means_begins_with_codes_among_the_features(combine_groups: bool) -> None:
    quantizer = codebook(combine_groups, quantize_after=5)
    z_BDF = torch.randn(3, 8, 40)
    quantizer.set_num_updates(5)
    begun = quantizer(z_BDF)
    assert in_use(quantizer, z_BDF) == 16
    error = (begun["x"] - quantizer.projected(z_BDF)).detach().square().mean()
    assert error < 0.7  # of a variance of 1
    codes = quantizer.embedding.detach().clone()
    quantizer.set_num_updates(6)
    quantizer(z_BDF)
    assert torch.equal(codes, quantizer.embedding)


@pytest.mark.parametrize("combine_groups", [True, False])
def test_scores_order_codes_by_their_distance(combine_groups: bool) -> None:
    quantizer = codebook(combine_groups)
    quantizer.embedding.data -= 50.0
    z_BDF = torch.randn(3, 8, 40)
    with torch.no_grad():
        ze_NGd = quantizer.frames(quantizer.projected(z_BDF))
        distances = torch.cdist(ze_NGd.transpose(0, 1), quantizer.codebook()).square()
        scores_BFGV = quantizer.scores(z_BDF)
        norms = ze_NGd.square().sum(-1)[..., None]
    expected = norms - distances.transpose(0, 1)
    torch.testing.assert_close(scores_BFGV.flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(scores_BFGV.argmax(-1), quantizer.code_indices(z_BDF))


def test_centres_are_the_means_of_clusters_far_apart() -> None:
    generator = torch.Generator().manual_seed(1)
    clusters = [at + torch.randn(50, 3, generator=generator) for at in (-100.0, 0.0, 100.0)]
    torch.manual_seed(2)  # the three first points lie in three clusters
    found = centres(torch.cat(clusters), 3)
    means = torch.stack([cluster.mean(0) for cluster in clusters])
    torch.testing.assert_close(found[found[:, 0].argsort()], means)


def test_more_centres_than_points_stay_on_the_points() -> None:
    points = torch.randn(3, 4)
    assert torch.cdist(centres(points, 8), points).min(1).values.max() < 1e-5
