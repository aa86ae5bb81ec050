"""Windows of a training: means, the codebook's figures over all of a window, and their state."""

from __future__ import annotations

import torch

from stages.quantizer.history import WINDOW_UPDATES, History, Record, by_group, columns, in_words


def fill(history: History, first: int, last: int) -> list[Record]:
    """Updates `first` to `last`; update u has two frames, with codes (u, 1) and (0, 1)."""
    records = []
    for update in range(first, last + 1):
        codes_NG = torch.tensor([[update % 40, 1], [0, 1]])
        figures = {"loss_bits": float(update), "temperature": 2.0 / update}
        if record := history.add(update, figures, codes_NG):
            records.append(record)
    return records


def test_a_window_counts_codes_over_all_its_updates() -> None:
    (record,) = fill(History(40), 1, WINDOW_UPDATES)
    assert record["loss_bits"] == (1 + WINDOW_UPDATES) / 2
    assert record["temperature"] == 2.0 / WINDOW_UPDATES
    assert by_group(record, "codes_in_use") == [26, 1]
    assert by_group(record, "dead_codes") == [14, 39]
    # half of the frames have code 0, the others one each: exp of the entropy is 2 sqrt(25)
    assert by_group(record, "perplexity") == [10.0, 1.0]
    assert record["pairs_in_use"] == 26
    assert "perplexity 10.0 and 1.0" in in_words(record)


def test_windows_do_not_share_codes_and_the_last_may_be_short() -> None:
    history = History(40)
    fill(history, 1, WINDOW_UPDATES + 3)
    first, second = history.records()
    assert (first["update"], second["update"]) == (WINDOW_UPDATES, WINDOW_UPDATES + 3)
    assert by_group(second, "codes_in_use") == [4, 1]


def test_a_restored_history_goes_on_as_if_nothing_had_been() -> None:
    whole, before, after = History(40), History(40), History(40)
    fill(whole, 1, 60)
    fill(before, 1, 37)
    after.restore(before.state())
    fill(after, 38, 60)
    assert after.records() == whole.records()


def test_without_a_codebook_there_are_means_alone() -> None:
    history = History()
    record = history.add(WINDOW_UPDATES, {"loss_bits": 1.0})
    assert record == {"update": WINDOW_UPDATES, "loss_bits": 1.0}


def test_columns_are_thinned_but_keep_both_ends() -> None:
    history = History(40)
    fill(history, 1, 10 * WINDOW_UPDATES)
    table = columns(history.records(), most=4)
    assert table["update"] == [25, 100, 175, 250]
    assert [len(column) for column in table["perplexity"]] == [4, 4]
    assert len(table["pairs_in_use"]) == len(table["loss_bits"]) == 4


def test_windows_before_k_means_begins_have_no_perplexities() -> None:
    history = History(4)
    for update in range(1, 101):
        history.add(update, {"loss_bits": 3.0}, None if update <= 50 else torch.tensor([[0, 1]]))
    table = columns(history.records())
    assert table["perplexity"] == [[None, None, 1.0, 1.0]] * 2
    assert table["pairs_in_use"] == [None, None, 1, 1]
