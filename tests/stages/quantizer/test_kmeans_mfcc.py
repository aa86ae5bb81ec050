"""k-means on MFCC as the units: centres against a known grouping, and the same every time."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.stage import StepContext
from stages.quantizer import kmeans_mfcc
from stages.quantizer.kmeans_mfcc import MfccKmeans, centres, fit, parts
from stages.quantizer.vectors import codebook_of

MakeContext = Callable[..., StepContext]
MakeSpeech = Callable[..., Manifest]
SIZES = {"groups": 2, "codes": 5, "hop_samples": 320, "highest_hz": 4000, "fit_seconds": 60.0}


@pytest.fixture
def fitted(make_speech: MakeSpeech, context: MakeContext) -> Callable[..., StepContext]:
    speech = make_speech([16_000, 12_000, 20_000])
    speech.write()

    def run(name: str, seed: int = 1, **changes: float) -> StepContext:
        ctx = context(name, {"train": speech.folder})
        fit(ctx, roles=["train"], seed=seed, **(SIZES | changes))  # type: ignore[arg-type]
        return ctx

    return run


def test_centres_are_the_means_of_clouds_that_lie_apart() -> None:
    rng = np.random.default_rng(0)
    truth_VD = 50 * rng.standard_normal((4, 6))
    feats_FD = truth_VD[rng.integers(0, 4, 2000)] + 0.1 * rng.standard_normal((2000, 6))
    (found_VD,) = centres(feats_FD.astype(np.float32), groups=1, codes=4, seed=0)
    nearest = np.abs(found_VD[:, None] - truth_VD[None]).max(2).argmin(1)
    assert sorted(nearest) == [0, 1, 2, 3]
    np.testing.assert_allclose(found_VD, truth_VD[nearest], atol=0.05)


def test_every_dimension_belongs_to_one_group() -> None:
    feats_FD = np.arange(10, dtype=np.float32)[None].repeat(2, axis=0)
    assert [part[0].tolist() for part in parts(feats_FD, 3)] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("groups", [1, 2])
def test_units_are_the_nearest_centres_of_each_group(groups: int) -> None:
    rng = np.random.default_rng(1)
    feats_FD = rng.standard_normal((300, 39)).astype(np.float32)
    model = MfccKmeans(centres(feats_FD, groups, 7, 0), 320, 4000)
    units_FG = model.nearest(feats_FD)
    assert units_FG.shape == (300, groups)
    for group in range(groups):
        part_FD = feats_FD[:, group::groups]
        centres_VD = model.codebook_GVD[group, :, : part_FD.shape[1]]
        distances_FV = np.square(part_FD[:, None] - centres_VD[None]).sum(2)
        np.testing.assert_array_equal(units_FG[:, group], distances_FV.argmin(1))
        assert not model.codebook_GVD[group, :, part_FD.shape[1] :].any()


def test_the_artifact_is_the_same_every_time_and_another_with_another_seed(
    fitted: Callable[..., StepContext],
) -> None:
    first, again, other = fitted("first"), fitted("again"), fitted("other", seed=2)
    assert fitted("first").folder == first.folder  # a second run in the same folder
    names = ["codebook.json", "codebook.safetensors", "config.json"]
    assert sorted(p.name for p in first.folder.iterdir()) == names
    for name in names:
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()
    assert not np.array_equal(codebook_of(first.folder), codebook_of(other.folder))


def test_a_fitted_model_comes_back_from_its_folder(
    fitted: Callable[..., StepContext], make_speech: MakeSpeech
) -> None:
    folder = fitted("model", groups=3).folder
    model = MfccKmeans.load(folder)
    assert (model.groups, model.codes, model.hop_samples, model.highest_hz) == (3, 5, 320, 4000)
    assert codebook_of(folder).shape == (3, 5, 13)
    speech = make_speech([16_000], name="other")
    units_FG = model.units(speech.samples(next(iter(speech))))
    assert units_FG.shape == (16_000 // 320 + 1, 3)
    report = json.loads((folder / kmeans_mfcc.CODEBOOK).read_text())
    assert report["codes"] == 5 and len(report["groups"]) == 3


def test_too_little_speech_is_told(fitted: Callable[..., StepContext]) -> None:
    with pytest.raises(RunError, match=r"(?s)too little speech.*1000 codes"):
        fitted("model", codes=1000)


def test_the_fit_hears_no_more_than_it_may(
    fitted: Callable[..., StepContext], capsys: pytest.CaptureFixture[str]
) -> None:
    fitted("model", fit_seconds=1.5)
    frames = 16_000 // 320 + 1 + 20_000 // 320 + 1  # half of 3 s: every second utterance
    assert f"{frames:,} frames" in capsys.readouterr().out
