"""Who is kept back from pretraining, and which figures of a pretraining are told."""

from __future__ import annotations

from stages.units.kept_back import ALL_CHOSEN, AT_MASK, AT_MOST, Told, kept_back, parts, told


def test_who_is_kept_back_does_not_depend_on_the_order() -> None:
    names = [f"u{n}" for n in range(200)]
    kept = kept_back(names)
    assert kept == kept_back(names[::-1])
    assert len(kept) == 8
    assert len(kept_back([f"u{n}" for n in range(5000)])) == AT_MOST


def test_copies_at_other_speeds_are_kept_back_with_their_originals() -> None:
    names = [f"u{n}{copy}" for n in range(60) for copy in ("", "@speed-0.9", "@speed-1.1")]
    kept = kept_back(names)
    assert len(kept) == 6  # 4 % of 60, three times
    assert {name.partition("@")[0] for name in set(names) - kept}.isdisjoint(kept)


def test_figures_at_frames_that_show_mask_are_told_together() -> None:
    """Those over all chosen frames stand beside them under other names."""
    facts = {"kept_back_loss": 2.0, "kept_back_accuracy": 0.5, "kept_back_mask_loss": 3.0}
    facts |= {"kept_back_mask_accuracy": 0.25, "kept_back_mask_accuracy_nearest": 0.125}
    facts |= {"kept_back_mask_accuracy_most_frequent": 0.0}
    assert told(facts) == Told(AT_MASK, 3.0, 0.25, 0.0, 0.125)


def test_a_file_of_before_is_told_as_over_all_chosen_frames() -> None:
    facts = {"kept_back_loss": 2.0, "kept_back_accuracy": 0.5, "kept_back_accuracy_nearest": 0.125}
    facts |= {"kept_back_accuracy_most_frequent": 0.0}
    assert told(facts) == Told(ALL_CHOSEN, 2.0, 0.5, 0.0, 0.125)
    assert told(facts, "trained_on") == Told(ALL_CHOSEN, None, None, None, None)


def test_nothing_is_learnt_from_that_is_kept_back() -> None:
    names = [f"u{n}" for n in range(50)][::-1]
    split = parts(names)
    assert split.what == "kept_back"
    assert set(split.chosen_on) == kept_back(names)
    assert split.learnt_from == sorted(set(names) - set(split.chosen_on))
    few = parts(names[:20])
    assert (few.what, few.chosen_on, few.learnt_from) == (
        "trained_on",
        sorted(names[:20]),
        sorted(names[:20]),
    )
