"""Fine-tuning settings by budget: what wins, what is refused, and what the presets are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.finetune_settings import CtcSettings, FinetuneSettings
from pipeline.recipe import Recipe
from pipeline.recipe_file import load

# fairseq, examples/wav2vec/config/finetuning/base_{10m,1h,10h,100h}.yaml: max_update, lr,
# freeze_finetune_updates, mask_prob, mask_channel_prob, mask_channel_length.
PUBLISHED = {
    "10min": (13_000, 5e-5, 10_000, 0.65, 0.25, 64),
    "1h": (13_000, 5e-5, 10_000, 0.65, 0.25, 64),
    "10h": (20_000, 5e-5, 10_000, 0.65, 0.5, 64),
    "100h": (80_000, 3e-5, 0, 0.65, 0.5, 64),
}


def settings(**values: Any) -> FinetuneSettings:
    return FinetuneSettings(**values)


def test_without_settings_of_its_own_a_budget_has_the_sections() -> None:
    told = settings(updates=7, seeds=[1, 2], by_budget={"1h": {"updates": 9}})
    assert told.for_budget("all") == CtcSettings(updates=7)


def test_a_budgets_own_settings_win_and_leave_the_rest() -> None:
    told = settings(updates=7, subsample=3, by_budget={"1h": {"updates": 600}})
    # 600 is the default too: what the recipe says counts, whatever it says.
    assert told.for_budget("1h") == CtcSettings(updates=600, subsample=3)


@pytest.mark.parametrize("budget", PUBLISHED)
@pytest.mark.parametrize("preset", ["libri_light", "libri_light_{}"])
def test_presets_are_the_published_settings(budget: str, preset: str) -> None:
    found = settings(preset=preset.format(budget)).for_budget(budget)
    updates, rate, frozen, mask, channels, span = PUBLISHED[budget]
    assert (found.updates, found.learning_rate, found.freeze_updates) == (updates, rate, frozen)
    assert found.phases == (0.1, 0.4, 0.5)
    assert found.final_scale == 0.05
    # fairseq draws mask_prob * frames / mask_length starts.
    assert found.time_mask_probability * found.time_mask_span == pytest.approx(mask)
    assert found.channel_mask_probability * found.channel_mask_span == pytest.approx(channels)
    assert found.channel_mask_span == span


@pytest.mark.parametrize(
    ("budget", "updates"), [("30s", 13_000), ("2h", 13_000), ("4h", 20_000), ("40h", 80_000)]
)
def test_a_preset_goes_by_the_nearest_size(budget: str, updates: int) -> None:
    assert settings(preset="libri_light").for_budget(budget).updates == updates


def test_explicit_settings_win_over_presets() -> None:
    told = settings(
        preset="libri_light",
        updates=7,
        by_budget={"10h": {"learning_rate": 1e-3}, "all": {"preset": "libri_light_100h"}},
    )
    assert (told.for_budget("10h").updates, told.for_budget("10h").learning_rate) == (7, 1e-3)
    assert told.for_budget("10h").freeze_updates == 10_000
    assert (told.for_budget("all").updates, told.for_budget("all").freeze_updates) == (7, 0)


def test_a_preset_signs_as_its_settings_do() -> None:
    preset = settings(preset="libri_light").for_budget("1h")
    by_hand = CtcSettings(**{k: getattr(preset, k) for k in CtcSettings.model_fields})
    assert preset.signed() == by_hand.signed()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["finetune.by_budget.5min.updates=7"], "by_budget.5min is of no budget.*2s, all"),
        (["finetune.by_budget.all.udpates=7"], "by_budget.all.udpates; did you mean updates?"),
        (["finetune.by_budget.all.seeds=[7]"], "unknown key finetune.by_budget.all.seeds"),
        (["finetune.by_budget.all.subsample=99"], "finetune.by_budget.all.subsample: .* found 99"),
        (["finetune.preset=libri_light"], "set by_budget.all.preset"),
    ],
)
def test_what_fits_no_budget_is_refused(
    make_recipe: Callable[..., Recipe], changes: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        make_recipe(*changes)


def test_a_preset_for_all_is_given_by_name(
    write_recipe: Callable[..., Any], values: dict[str, Any]
) -> None:
    values["finetune"] = {
        "preset": "libri_light",
        "by_budget": {"all": {"preset": "libri_light_10h"}},
    }
    recipe = load(write_recipe(values))
    assert recipe.finetune.for_budget("all").updates == 20_000
    assert recipe.finetune.for_budget("2s").updates == 13_000


PRESET = ["finetune.preset=libri_light_10min", "finetune.updates=2000"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (PRESET, r"whole fine-tuning on {}: freeze_updates 10000 must be less than updates 2000"),
        (["finetune.updates=9", "finetune.freeze_updates=9"], r"fine-tuning on {}: .*9 .* 9\."),
    ],
)
def test_a_bert_that_would_never_be_fine_tuned_is_refused_for_each_budget(
    make_recipe: Callable[..., Recipe], changes: list[str], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_recipe(*changes)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    for line, budget in zip(lines, ("2s", "all"), strict=True):
        assert re.search(told.format(budget), line)
        assert "frontend.freeze=true" in line


@pytest.mark.parametrize(
    "changes",
    [
        [*PRESET, "finetune.freeze_updates=1999"],
        [*PRESET, "frontend.freeze=true", "frontend.acoustic={kind: lstm}"],
        [*PRESET, "frontend={name: log_mel}"],
    ],
)
def test_where_a_bert_is_fine_tuned_or_meant_to_rest_or_absent_nothing_is_refused(
    make_recipe: Callable[..., Recipe], changes: list[str]
) -> None:
    assert make_recipe(*changes).finetune.for_budget("all").updates == 2000


def test_more_memory_or_less_leaves_the_signature_as_it_was() -> None:
    plain = settings().for_budget("1h").signed()
    assert not {"accumulate", "checkpoint_activations"} & plain.keys()
    assert settings(checkpoint_activations=True).for_budget("1h").signed() == plain
    assert settings(clip_norm=1.0).for_budget("1h").signed() == plain
    assert settings(clip_norm=0).for_budget("1h").signed() == plain | {"clip_norm": 0.0}
    told = settings(accumulate=4, by_budget={"1h": {"accumulate": 2}})
    assert told.for_budget("1h").signed() == plain | {"accumulate": 2}
    assert told.for_budget("10h").signed() == plain | {"accumulate": 4}


def test_what_chooses_the_weights_is_signed_where_dev_chooses_and_not_by_words() -> None:
    def signed(**values: Any) -> dict[str, Any]:
        return settings(**values).for_budget("1h").signed()

    assert signed(validate_by="cer") == signed()  # dev is not heard
    assert signed(validate_every=5, validate_by="wer") == signed() | {"validate_every": 5}
    chosen = {"validate_every": 5, "validate_by": "cer"}
    assert signed(**chosen) == signed() | chosen
