"""`corpus.test`: more test sets for every kind of corpus, and what one of them runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import audio
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step, StepContext
from stages.acoustic.publish import unfinished
from stages.plan import published
from stages.prepare import sources
from stages.prepare.corpora import digits, synthetic

HEADER = "utt_id\tspeaker\tpath\ttranscript\n"
BLIND_STEPS = [
    "0 prepare test/blind",
    "2 discretize test/blind",
    "6 decode log_probs/blind/2s",
    "6 decode blind/2s",
    "6 decode log_probs/blind/all",
    "6 decode blind/all",
    "7 score blind/2s",
    "7 score blind/all",
]


@pytest.fixture
def blind(tmp_path: Path, write_noise: Callable[..., Path]) -> Path:
    """A list outside of the corpus: two files of one speaker, three words each."""
    rows = []
    for n in range(2):
        write_noise(tmp_path / f"blind/audio/{n}.wav", 1.0 + n, 90 + n, 8000)
        rows.append(f"{n}\tfred\taudio/{n}.wav\tone two three\n")
    path = tmp_path / "blind" / "blind.tsv"
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture
def runs(
    digits_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], fakes: Any
) -> Callable[..., list[str]]:
    def run(*changes: str) -> list[str]:
        ran: list[str] = fakes.carry_out(fakes.steps(make_plan(digits_recipe(*changes))))
        return ran

    return run


def test_a_test_set_of_other_speakers_trains_nothing(
    runs: Callable[..., list[str]], blind: Path
) -> None:
    one = ("folds=null", "corpus.test_speakers=[carl]")
    runs(*one)
    assert runs(*one, f"corpus.test={{blind: {blind}}}") == BLIND_STEPS
    assert runs(*one, f"corpus.test.blind={blind}") == []


def test_it_is_prepared_once_and_decoded_by_the_models_of_every_fold(
    runs: Callable[..., list[str]], blind: Path
) -> None:
    runs()
    folds = ("anna", "bert", "carl", "dora")
    assert runs(f"corpus.test={{blind: {blind}}}") == [
        *BLIND_STEPS[:2],
        *(
            f"6 decode {f}/{kind}blind/{budget}"
            for f in folds
            for budget in ("2s", "all")
            for kind in ("log_probs/", "")
        ),
        *(f"7 score {f}/blind/{budget}" for f in folds for budget in ("2s", "all")),
    ]


def test_results_wait_for_it(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    fakes: Any,
    blind: Path,
) -> None:
    fakes.carry_out(fakes.steps(make_plan(digits_recipe("folds=[anna]"))))
    steps = make_plan(digits_recipe("folds=[anna]", f"corpus.test={{blind: {blind}}}"))
    left = unfinished(fakes.run(fakes.steps(steps)).examine(), [])
    assert [s.step.title for s in left] == ["7 score anna/blind/2s", "7 score anna/blind/all"]
    assert "0 prepare test/blind" in [s.title for s in published(steps)]


def test_its_files_are_not_joined_as_the_corpus_joins_its_own(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    context: Callable[..., StepContext],
    blind: Path,
) -> None:
    steps = make_plan(digits_recipe(f"corpus.test={{blind: {blind}}}"))
    made = context("blind-split")
    next(s for s in steps if s.label == "test/blind" and s.number == 0).run(made)
    manifest = Manifest.load(made.folder)
    assert [(u.id, u.speaker, u.transcript) for u in manifest] == [
        ("0", "fred", "one two three"),
        ("1", "fred", "one two three"),
    ]
    for utterance in manifest:
        samples = audio.resample(*audio.read(blind.parent / f"audio/{utterance.id}.wav"))
        stored = manifest.samples(utterance)
        assert np.allclose(stored, samples, atol=2 / 32768)  # FLAC of 16 bits
        assert utterance.speech_seconds == 1.0 + int(utterance.id)


def band(samples: Any, low_hz: int, high_hz: int) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / 16_000)
    return float(power[(low_hz <= hertz) & (hertz < high_hz)].mean())


@pytest.mark.parametrize("limit", ["null", "4000"])
def test_its_band_may_be_limited_to_that_of_the_speech_that_was_heard(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    context: Callable[..., StepContext],
    write_noise: Callable[..., Path],
    blind: Path,
    limit: str,
) -> None:
    path = write_noise(blind.parent / "audio/0.wav", 2.0, 5, 16_000)
    settings = (f"corpus.test={{blind: {blind}}}", f"corpus.test_bandwidth_hz={limit}")
    made = context(f"blind-{limit}")
    steps = make_plan(digits_recipe(*settings))
    next(s for s in steps if s.label == "test/blind" and s.number == 0).run(made)
    manifest = Manifest.load(made.folder)
    assert manifest["0"].stored == (limit != "null")  # else it is left in place, as recorded
    if limit != "null":
        recorded, _ = audio.read(path)
        heard = manifest.samples(manifest["0"])
        assert band(heard, 0, 3500) == pytest.approx(band(recorded, 0, 3500), rel=0.01)
        assert band(heard, 4200, 8000) < 1e-4 * band(recorded, 4200, 8000)


def test_a_recording_that_has_no_more_than_the_band_is_not_filtered_again(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    context: Callable[..., StepContext],
    write_noise: Callable[..., Path],
    blind: Path,
) -> None:
    write_noise(blind.parent / "audio/0.wav", 2.0, 5, 8_000)
    heard = []
    for limit in ("null", "4000"):
        settings = (f"corpus.test={{blind: {blind}}}", f"corpus.test_bandwidth_hz={limit}")
        made = context(f"low-{limit}")
        steps = make_plan(digits_recipe(*settings))
        next(s for s in steps if s.label == "test/blind" and s.number == 0).run(made)
        manifest = Manifest.load(made.folder)
        heard.append(manifest.samples(manifest["0"]))
    np.testing.assert_array_equal(*heard)


def test_its_band_changes_the_lists_alone(
    runs: Callable[..., list[str]], digits_corpus: Path, blind: Path
) -> None:
    one = ("folds=null", "corpus.test_speakers=[carl]", f"corpus.test={{blind: {blind}}}")
    runs(*one)
    assert runs(*one, "corpus.test_bandwidth_hz=4000") == BLIND_STEPS
    assert runs(*one, "corpus.test_bandwidth_hz=null") == []


def test_paths_are_absolute_or_relative_to_the_root(digits_corpus: Path, blind: Path) -> None:
    for path in (str(blind), "../blind/blind.tsv"):
        settings = digits.Settings(root=digits_corpus, test_speakers=["anna"], test={"x": path})
        found = sources.splits(settings)
        assert set(found) == {"train", "dev", "test/test", "test/x"}
        assert [s.id for s in found["test/x"]] == ["0", "1"]


def test_synthetic_speech_takes_one_beside_its_own(tmp_path: Path, blind: Path) -> None:
    found = sources.splits(synthetic.Settings(root=tmp_path, test={"real": "blind/blind.tsv"}))
    assert set(found) == {"train", "dev", "test/test", "test/real"}
    assert {s.speaker for s in found["test/real"]} == {"fred"}


def test_on_a_corpus_of_lists_one_is_added_or_all_are_replaced(
    write_recipe: Callable[..., Path], values: dict[str, Any], blind: Path
) -> None:
    path = write_recipe(values)
    for change, expected in (
        (f"corpus.test.blind={blind}", {"test/test", "test/blind"}),
        (f"corpus.test={{blind: {blind}}}", {"test/blind"}),
    ):
        found = sources.splits(load(path, [change]).corpus)
        assert set(found) - {"train", "dev"} == expected


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("x\tbert\taudio/0.wav\tone", "dev and test/blind share 1 speakers"),
        ("x\tcarl\taudio/0.wav\tone", "train and test/blind share 1 speakers"),
        ("x\tfred\taudio/0.wav\t ", "test/blind: 1 utterances have no transcript"),
        ("x\t\taudio/0.wav\tone", "'x' has no speaker"),
        ("", "lists no utterance"),
    ],
)
def test_a_wrong_list_is_told(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    blind: Path,
    row: str,
    told: str,
) -> None:
    blind.write_text(f"{HEADER}{row}\n")
    with pytest.raises(UserError, match=told):
        make_plan(digits_recipe(f"corpus.test={{blind: {blind}}}"))


def test_a_recording_of_the_training_speech_is_refused_under_any_name(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    digits_corpus: Path,
) -> None:
    (digits_corpus / "again.tsv").write_text(f"{HEADER}x\tfred\taudio/0_dora.wav\tone\n")
    with pytest.raises(UserError, match="share 1 recordings"):
        make_plan(digits_recipe("folds=[anna]", "corpus.test={blind: again.tsv}"))


def test_names_that_cannot_be_are_told(
    digits_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], blind: Path
) -> None:
    with pytest.raises(UserError, match="a test set 'test' of its own"):
        make_plan(digits_recipe(f"corpus.test={{test: {blind}}}"))
    with pytest.raises(UserError, match=r"corpus.test: 'dev' is the name of another split"):
        digits_recipe(f"corpus.test={{dev: {blind}}}")
    with pytest.raises(UserError, match=r"No such corpus list: /no/such\.tsv"):
        make_plan(digits_recipe("corpus.test={blind: /no/such.tsv}"))
