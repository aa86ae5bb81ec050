"""The real plan: what each change of a recipe or corpus makes stale, and what it leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.recipe import Recipe
from pipeline.stage import Step
from stages.acoustic.publish import unfinished
from stages.plan import plan, published
from stages.prepare.sources import FileHashes
from stages.quantizer import stage as quantizer_stage
from stages.units import bert as bert_stage

MakeRecipe = Callable[..., Recipe]
MakePlan = Callable[..., list[Step]]
ADD_TEST = "corpus.test={test: test.tsv, more: more.tsv}"


@pytest.fixture
def steps(make_recipe: MakeRecipe, make_plan: MakePlan, fakes: Any) -> list[Step]:
    """The plan of the small recipe, all of it done."""
    made = make_plan(make_recipe())
    fakes.carry_out(fakes.steps(made))
    return made


@pytest.fixture
def runs(
    steps: list[Step], make_recipe: MakeRecipe, make_plan: MakePlan, fakes: Any
) -> Callable[..., list[str]]:
    """`runs("section.key=value")`: titles of what a changed recipe runs, now that all is done."""

    def run(*changes: str, mode: str = "look", **named: Any) -> list[str]:
        changed = make_plan(make_recipe(*changes), mode)
        ran: list[str] = fakes.carry_out(fakes.steps(changed), **named)
        return ran

    return run


def numbers(titles: list[str]) -> set[int]:
    return {int(title.split()[0]) for title in titles}


def test_the_steps_of_a_recipe(steps: list[Step]) -> None:
    assert [s.title for s in steps] == [
        "0 prepare train",
        "0 prepare dev",
        "0 prepare test/test",
        "0 prepare budget/2s",
        "0 prepare budget/all",
        "0 prepare text",
        "1 quantizer",
        "2 discretize train",
        "2 discretize dev",
        "2 discretize test/test",
        "2 discretize vocabulary",
        "3 bert",
        "3 bert dev",
        "4 lm targets",
        "4 lm ngram",
        "5 finetune 2s",
        "5 finetune all",
        "6 decode log_probs/dev/2s",
        "6 decode dev/2s",
        "6 decode log_probs/test/2s",
        "6 decode test/2s",
        "6 decode log_probs/dev/all",
        "6 decode dev/all",
        "6 decode log_probs/test/all",
        "6 decode test/all",
        "7 score test/2s",
        "7 score test/all",
    ]


def test_every_step_comes_after_what_it_reads(steps: list[Step]) -> None:
    seen: set[int] = set()
    for step in steps:
        assert all(id(source) in seen for source in step.inputs.values()), step.title
        seen.add(id(step))


def test_names_and_artifacts_of_steps_differ(steps: list[Step]) -> None:
    for told in ("link_name", "artifact_name", "title"):
        assert len({getattr(s, told) for s in steps}) == len(steps)


def test_test_sets_are_read_by_nothing_but_their_own_decoding(steps: list[Step]) -> None:
    for step in steps:
        for source in step.inputs.values():
            if source.label.startswith("test/") and source.stage == "prepare":
                assert step.number in (2, 6)
                assert "test" in step.label


def test_nothing_is_tuned_or_trained_on_what_is_scored(steps: list[Step]) -> None:
    def ancestors(step: Step) -> set[str]:
        found = {step.title}
        for source in step.inputs.values():
            found |= ancestors(source)
        return found

    for step in steps:
        if step.number in (1, 3, 5) or step.title.startswith("6 decode dev"):
            assert not any("test" in title for title in ancestors(step)), step.title
        if step.number in (1, 3, 5) and step.title != "3 bert dev":
            assert "0 prepare dev" not in ancestors(step)
        assert step.title == "3 bert dev" or "3 bert dev" not in ancestors(step)


def test_adding_a_test_set_runs_0_2_6_7_for_it_alone(runs: Callable[..., list[str]]) -> None:
    assert runs(ADD_TEST) == [
        "0 prepare test/more",
        "2 discretize test/more",
        "6 decode log_probs/more/2s",
        "6 decode more/2s",
        "6 decode log_probs/more/all",
        "6 decode more/all",
        "7 score more/2s",
        "7 score more/all",
    ]


def test_adding_a_budget_runs_0_5_6_7_for_it_alone(runs: Callable[..., list[str]]) -> None:
    assert runs("budgets=[1s, 2s, all]") == [
        "0 prepare budget/1s",
        "5 finetune 1s",
        "6 decode log_probs/dev/1s",
        "6 decode dev/1s",
        "6 decode log_probs/test/1s",
        "6 decode test/1s",
        "7 score test/1s",
    ]


def test_removing_a_budget_runs_nothing(runs: Callable[..., list[str]]) -> None:
    assert runs("budgets=[all]") == []


def test_a_finetune_setting_leaves_0_to_4(runs: Callable[..., list[str]]) -> None:
    assert numbers(runs("finetune.updates=7", first=5)) == {5, 6, 7}


def test_a_budgets_own_setting_leaves_the_other_budgets(runs: Callable[..., list[str]]) -> None:
    assert runs("finetune.by_budget.2s.updates=7") == [
        "5 finetune 2s",
        "6 decode log_probs/dev/2s",
        "6 decode dev/2s",
        "6 decode log_probs/test/2s",
        "6 decode test/2s",
        "7 score test/2s",
    ]


def test_dev_is_read_by_fine_tuning_only_where_it_chooses_the_weights(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    changes = ("finetune.by_budget.2s.validate_every=2", "finetune.by_budget.all.updates=6")
    for frontend, roles in (("log_mel", ["manifest"]), ("unit_bert", ["manifest", "units"])):
        plain = make_plan(make_recipe(f"frontend={frontend}"))
        made = make_plan(make_recipe(f"frontend={frontend}", *changes))
        tuned, rest = (s for s in made if s.stage == "finetune")
        assert sorted(tuned.inputs.keys() - rest.inputs.keys()) == [f"dev/{r}" for r in roles]
        assert all(tuned.inputs[f"dev/{r}"].label == "dev" for r in roles)
        last = [s for s in plain if s.stage == "finetune"]
        assert (tuned.signature == last[0].signature, rest.signature == last[1].signature) == (
            False,
            True,
        )


def test_another_dev_trains_again_what_dev_chose(
    make_recipe: MakeRecipe, make_plan: MakePlan, fakes: Any, corpus: Path
) -> None:
    change = "finetune.by_budget.2s.validate_every=2"
    fakes.carry_out(fakes.steps(make_plan(make_recipe(change))))
    path = corpus / "dev.tsv"
    path.write_text(path.read_text().replace("go home now", "go now", 1))
    ran = fakes.carry_out(fakes.steps(make_plan(make_recipe(change))))
    assert "0 prepare dev" in ran
    assert [title for title in ran if title[0] in "135"] == ["3 bert dev", "5 finetune 2s"]


def test_what_is_told_of_the_bert_on_dev_trains_no_bert_again(
    make_recipe: MakeRecipe, make_plan: MakePlan, fakes: Any
) -> None:
    """Also where it is missing beside results that were made before it was told."""
    steps = fakes.steps(make_plan(make_recipe()))
    store = fakes.run(steps).store
    by_title = {step.title: step for step in steps}

    def gone(*titles: str) -> list[str]:
        for title in titles:
            shutil.rmtree(store.path(by_title[title]))
        ran: list[str] = fakes.carry_out(steps)
        return ran

    assert "3 bert dev" in fakes.carry_out(steps)
    assert gone("3 bert dev") == ["3 bert dev"]
    assert gone("3 bert dev", "3 bert") == []
    assert unfinished(fakes.run(steps).examine(), published(steps)) == []
    assert fakes.carry_out(steps, first=3, last=3, force=True) == ["3 bert", "3 bert dev"]
    assert gone("3 bert dev", "5 finetune all", "7 score test/all") == [
        "3 bert dev",
        "7 score test/all",
    ]
    assert gone("3 bert dev", "2 discretize train") == []


def test_saying_for_a_budget_what_holds_anyway_runs_nothing(
    runs: Callable[..., list[str]],
) -> None:
    assert runs("finetune.by_budget.2s.updates=6") == []


def test_another_fine_tuning_seed_keeps_the_pretraining(runs: Callable[..., list[str]]) -> None:
    assert numbers(runs("finetune.seeds=[2]")) == {5, 6, 7}


def test_more_fine_tuning_seeds_train_no_budget_and_seed_again(
    runs: Callable[..., list[str]],
) -> None:
    assert runs("finetune.seeds=[1, 2]") == [
        "5 finetune 2s/seed2",
        "5 finetune all/seed2",
        "6 decode log_probs/dev/2s/seed2",
        "6 decode dev/2s/seed2",
        "6 decode log_probs/test/2s/seed2",
        "6 decode test/2s/seed2",
        "6 decode log_probs/dev/all/seed2",
        "6 decode dev/all/seed2",
        "6 decode log_probs/test/all/seed2",
        "6 decode test/all/seed2",
        "7 score test/2s/seed2",
        "7 score test/all/seed2",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("score.confidence=0.9", {7}),
        ("decode.lm_weights=[0.0, 2.0]", {6}),
        ("decode.beam=6", {6}),
        ("lm.order=3", {4, 6}),
        ("bert.updates=7", {3, 5, 6}),
        ("bert.mask_span_std=3.0", {3, 5, 6}),
        ("bert.preset=small", {3, 5, 6}),
        ("quantizer.updates=7", {1, 2, 3, 5, 6}),
        ("seed=2", {1, 2, 3, 5, 6}),
        ("text.alphabet=abcdefghijklmnopqrstuvwxyz", {0, 1, 2, 3, 4, 5, 6}),
        ("frontend=log_mel", {5, 6}),
        ("corpus.unlabelled=[more.tsv]", {0, 1, 2, 3, 5, 6}),
    ],
)
@pytest.mark.case(9)
def test_a_setting_makes_stale_what_depends_on_it(
    runs: Callable[..., list[str]], change: str, expected: set[int]
) -> None:
    assert numbers(runs(change)) == expected | {7}


@pytest.mark.parametrize(
    "change",
    [
        "machine.device=auto",
        "machine.threads=2",
        "quantizer.checkpoint_every=5",
        "bert.checkpoint_every=5",
        "finetune.checkpoint_every=5",
        "discretize.readers=5",
        "discretize.batch_seconds=50",
        "corpus.closed_grammar=true",
        "name=another",
    ],
)
@pytest.mark.case(11)
def test_what_changes_no_result_runs_nothing(runs: Callable[..., list[str]], change: str) -> None:
    assert runs(change) == []


def test_a_corpus_that_was_moved_is_the_same(
    runs: Callable[..., list[str]], corpus: Path, tmp_path: Path
) -> None:
    shutil.move(corpus, tmp_path / "elsewhere")
    assert runs(f"corpus.root={tmp_path / 'elsewhere'}") == []
    assert runs(f"corpus.root={os.path.relpath(tmp_path / 'elsewhere')}") == []


@pytest.mark.case(9)
def test_a_removed_setting_is_a_reason(
    steps: list[Step], fakes: Any, make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    made = make_plan(make_recipe())
    lm = next(s for s in made if s.title == "4 lm ngram")
    less = {"text": lm.settings["text"], "lm": {"order": 2}}
    at = made.index(lm)
    changed = [*made[:at], replace(lm, settings=less)]
    state = fakes.run(fakes.steps(changed)).examine()[-1]
    assert (state.state, state.reasons) == ("stale", ["lm.prune: [] -> absent"])


@pytest.mark.case(10)
def test_an_audio_file_of_another_content_is_seen_by_every_run(
    runs: Callable[..., list[str]], corpus: Path, write_noise: Callable[..., Path]
) -> None:
    write_noise(corpus / "audio" / "test-00.wav", 0.5, seed=99)
    assert runs() == [
        "0 prepare test/test",
        "2 discretize test/test",
        "6 decode log_probs/test/2s",
        "6 decode test/2s",
        "6 decode log_probs/test/all",
        "6 decode test/all",
        "7 score test/2s",
        "7 score test/all",
    ]
    assert runs() == []


def test_an_audio_file_that_was_only_touched_runs_nothing(
    runs: Callable[..., list[str]], corpus: Path
) -> None:
    (corpus / "audio" / "test-00.wav").touch()
    assert runs() == []


@pytest.mark.case(10)
def test_audio_of_the_same_size_and_time_is_seen_by_verify(
    runs: Callable[..., list[str]], corpus: Path, write_noise: Callable[..., Path]
) -> None:
    path = corpus / "audio" / "train-00.wav"
    before = path.stat()
    write_noise(path, 0.4 + 0.01 * 1, seed=99)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert runs() == []
    assert numbers(runs(mode="verify")) == set(range(8))
    assert runs() == []


def test_a_lost_audio_file_is_seen(runs: Callable[..., list[str]], corpus: Path) -> None:
    (corpus / "audio" / "dev-00.wav").unlink()
    assert "0 prepare dev" in runs()


def test_a_changed_transcript_of_test_trains_nothing(
    runs: Callable[..., list[str]], corpus: Path
) -> None:
    path = corpus / "test.tsv"
    path.write_text(path.read_text().replace("turn left", "turn round", 1))
    assert numbers(runs()) == {0, 2, 6, 7}


def test_the_order_of_a_list_changes_nothing(runs: Callable[..., list[str]], corpus: Path) -> None:
    path = corpus / "train.tsv"
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *reversed(rows)]))
    assert runs() == []


@pytest.mark.case(10)
def test_status_trusts_what_the_last_run_saw(
    steps: list[Step], make_recipe: MakeRecipe, make_plan: MakePlan, corpus: Path
) -> None:
    (corpus / "audio" / "test-00.wav").write_bytes(b"other")
    trusting = make_plan(make_recipe(), "trust")
    assert [s.signature for s in trusting] == [s.signature for s in steps]


def test_without_a_run_status_knows_no_content(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "none.json", "trust")
    made = plan(make_recipe(), hashes)
    assert all(
        s.unknown for s in made if s.title.startswith("0 prepare t") and "text" not in s.label
    )
    assert not (tmp_path / "none.json").exists()


def test_log_mel_uses_no_pretraining(make_recipe: MakeRecipe, make_plan: MakePlan) -> None:
    made = make_plan(make_recipe("frontend=log_mel"))
    assert {s.number for s in made} == {0, 4, 5, 6, 7}


@pytest.mark.parametrize("change", ["frontend=log_mel", "corpus.pretrain_on=[train]"])
def test_speech_without_transcripts_is_left_alone_where_nothing_hears_it(
    make_recipe: MakeRecipe, make_plan: MakePlan, change: str
) -> None:
    def told(*changes: str) -> list[str]:
        return [s.title for s in make_plan(make_recipe("corpus.unlabelled=[more.tsv]", *changes))]

    assert "0 prepare unlabelled/0" in told()
    assert "0 prepare unlabelled/0" not in told(change)


def test_log_mel_depends_on_the_size_of_the_transformer_and_not_its_pretraining(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    def tuned(change: str) -> str:
        made = make_plan(make_recipe("frontend=log_mel", change))
        return next(s.signature for s in made if s.number == 5)

    assert tuned("bert.updates=9") == tuned("bert.mask_span=3") == tuned("bert.layers=1")
    assert tuned("bert.layers=2") != tuned("bert.layers=1")


def test_lstms_depend_on_nothing_that_only_attention_has(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    def tuned(frontend: str, change: str) -> str:
        made = make_plan(make_recipe(f"frontend={frontend}", change))
        return next(s.signature for s in made if s.number == 5)

    for change in ("bert.heads=1", "bert.attention_dropout=0.5"):
        assert tuned("mfcc", change) == tuned("mfcc", "bert.layers=1")
        assert tuned("log_mel", change) != tuned("log_mel", "bert.layers=1")
    lstms = "{name: log_mel, encoder: lstm}"
    change = "bert.position_init=sinusoidal"
    assert tuned(lstms, change) == tuned(lstms, "bert.layers=1")
    assert tuned("log_mel", change) != tuned("log_mel", "bert.layers=1")
    for change in ("bert.ffn_dim=40", "bert.dim=32", "bert.layers=2", "bert.dropout=0.3"):
        assert tuned("mfcc", change) != tuned("mfcc", "bert.layers=1")


def test_recipes_share_what_they_agree_on(
    steps: list[Step], make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    other = make_plan(make_recipe("frontend=log_mel", "name=other"))
    shared = {s.artifact_name for s in steps} & {s.artifact_name for s in other}
    assert len(shared) == 8
    assert shared == {s.artifact_name for s in other if s.number in (0, 4)}


def test_only_repair_of_a_collapse_changes_what_a_quantizer_is(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    def quantizer(way: str) -> str:
        steps = make_plan(make_recipe(f"quantizer.on_collapse={way}"))
        return next(s.signature for s in steps if s.number == 1)

    assert quantizer("stop") == quantizer("warn") != quantizer("repair")


def test_speech_that_is_not_pretrained_on_is_not_discretized(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    changes = ("corpus.unlabelled=[more.tsv]", "corpus.pretrain_on=[train]")
    made = make_plan(make_recipe(*changes))
    assert not any(s.title == "2 discretize unlabelled/0" for s in made)
    quantizer = next(s for s in made if s.number == 1)
    assert list(quantizer.inputs) == ["train"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["corpus.root=/no/such/folder"], "No such corpus folder: /no/such/folder"),
        (["corpus.train=no.tsv"], "No such corpus list"),
        (["corpus.pretrain_on=[unlabelled]"], "pretrain_on"),
        (["quantizer.type=none"], "needs quantizer type gumbel or kmeans"),
        (["quantizer.groups=8", "quantizer.codes=320"], "at most 2 .. 63 combinations"),
        (["frontend={name: kmeans_mfcc, groups: 8, codes: 320}"], "at most 2 .. 63 combinations"),
        (["quantizer.from=/no/such/folder"], "quantizer.from: /no/such/folder"),
        (["bert.from=/no/such/folder"], "bert.from: /no/such/folder"),
        (["lm.text=/no/such/file"], "lm.text: /no/such/file"),
        (["corpus.test={test: train.tsv}"], "train and test/test share"),
    ],
)
def test_what_cannot_be_had_is_told_before_anything_is_written(
    make_recipe: MakeRecipe, make_plan: MakePlan, tmp_path: Path, changes: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        make_plan(make_recipe(*changes))
    store = tmp_path / "exp" / "store"
    assert not store.exists() or [p.name for p in store.iterdir()] == ["files.json"]


def test_an_imported_model_is_known_by_its_content(
    make_recipe: MakeRecipe, make_plan: MakePlan, tmp_path: Path
) -> None:
    signatures = []
    for name, content in (("one", "a"), ("two", "a"), ("three", "b")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(content)
        made = make_plan(make_recipe(f"quantizer.from={folder}", "quantizer.updates=9"))
        signatures.append(next(s.signature for s in made if s.number == 1))
    assert signatures[0] == signatures[1] != signatures[2]


@pytest.mark.parametrize(
    ("section", "number", "training"), [("quantizer", 1, quantizer_stage), ("bert", 3, bert_stage)]
)
def test_training_another_way_leaves_imported_models(
    make_recipe: MakeRecipe,
    make_plan: MakePlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
    number: int,
    training: ModuleType,
) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "config.json").write_text("{}")

    def told() -> tuple[str, str]:
        plans = (make_plan(make_recipe(*c)) for c in ([f"{section}.from={tmp_path / 'given'}"], []))
        given, trained = (next(s.signature for s in p if s.number == number) for p in plans)
        return given, trained

    given, trained = told()
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)
    again = told()
    assert again[0] == given
    assert again[1] != trained


def test_a_given_n_gram_and_lexicon_are_known_by_their_content(
    make_recipe: MakeRecipe, make_plan: MakePlan, tmp_path: Path
) -> None:
    def told(*changes: str, mode: str = "look") -> tuple[str, set[str]]:
        steps = make_plan(make_recipe(*changes), mode)
        ngram = next(s for s in steps if s.title == "4 lm ngram")
        return ngram.signature, {s.artifact_name for s in steps if s.number in (0, 1, 3, 5)}

    plain = told()
    for key in ("arpa", "lexicon"):
        one, two = tmp_path / "one", tmp_path / "two"
        one.write_text("words")
        two.write_text("words")
        first = told(f"lm.{key}={one}")
        assert first[0] != plain[0] and first[1] == plain[1]
        assert told(f"lm.{key}={two}") == first
        assert told(f"lm.{key}={one}", mode="trust") == first
        two.write_text("other")
        assert told(f"lm.{key}={two}")[0] != first[0]
        with pytest.raises(UserError, match=rf"lm\.{key}: /no/such is not there"):
            told(f"lm.{key}=/no/such")
    trained_otherwise = ("lm.order=4", "lm.prune=[0, 1]", "lm.vocabulary=7")
    given = f"lm.arpa={tmp_path / 'one'}"
    assert told(given, *trained_otherwise) == told(given)
    assert told("lm.memory_mb=100") == plain
    assert told("lm.vocabulary=7")[0] != plain[0]
