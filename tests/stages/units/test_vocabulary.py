"""The unit vocabulary: tokens and back, unseen combinations, and what transformers makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from stages.units.vocabulary import MASK, PAD, SPECIAL, UNK, Vocabulary, combinations

RNG = np.random.default_rng(0)
CODEBOOK_GVD = RNG.standard_normal((2, 4, 3)).astype(np.float32)


@pytest.fixture
def everything() -> Vocabulary:
    return Vocabulary.create(list(combinations(2, 4)), CODEBOOK_GVD)


def test_all_combinations_are_tokens_after_the_special_ones(everything: Vocabulary) -> None:
    assert len(everything) == 16 + 3
    assert everything.symbols[:5] == ["[PAD]", "[UNK]", "[MASK]", "0-0", "0-1"]
    assert [SPECIAL[i] for i in (PAD, UNK, MASK)] == ["[PAD]", "[UNK]", "[MASK]"]
    units_FG = np.array([[0, 0], [0, 1], [3, 2], [3, 3]], np.int16)
    tokens_F = everything.tokens(units_FG)
    assert tokens_F.tolist() == [3, 4, 17, 18]
    assert tokens_F.dtype == np.int64
    np.testing.assert_array_equal(everything.units_TG[tokens_F - 3], units_FG)


def test_the_vectors_are_the_groups_side_by_side(everything: Vocabulary) -> None:
    row = everything.tokens(np.array([[2, 1]], np.int16))[0] - len(SPECIAL)
    expected = np.concatenate([CODEBOOK_GVD[0][2], CODEBOOK_GVD[1][1]])
    np.testing.assert_array_equal(everything.vectors_TD[row], expected)


def test_an_unseen_combination_becomes_the_nearest_by_codebook_distance() -> None:
    kept = [(0, 0), (1, 3), (3, 1)]
    vocabulary = Vocabulary.create(kept, CODEBOOK_GVD)
    unseen = np.array(list(combinations(2, 4)), np.int16)
    tokens_F = vocabulary.tokens(unseen)
    for units, token in zip(unseen, tokens_F, strict=True):
        vector = np.concatenate([CODEBOOK_GVD[g][c] for g, c in enumerate(units)])
        far = [
            np.linalg.norm(vector - np.concatenate([CODEBOOK_GVD[g][c] for g, c in enumerate(k)]))
            for k in kept
        ]
        assert token == 3 + int(np.argmin(far))
    np.testing.assert_array_equal(vocabulary.tokens(unseen), tokens_F)  # remembered the same


def test_which_frames_were_heard_of_is_told_also_after_others_were_met() -> None:
    vocabulary = Vocabulary.create([(0, 0), (1, 3)], CODEBOOK_GVD)
    units_FG = np.array([[0, 0], [2, 2], [1, 3], [0, 3]], np.int16)
    for _ in range(2):
        assert vocabulary.known(units_FG).tolist() == [True, False, True, False]
        vocabulary.tokens(units_FG)


def test_as_many_combinations_as_int64_numbers_are_told_apart() -> None:
    """512 ** 7 is 2 ** 63: the last number is the largest of int64."""
    codebook_GVD = RNG.standard_normal((7, 512, 1)).astype(np.float32)
    ends = [(0,) * 7, (511,) * 7, (511, *(0,) * 6), (255, *(511,) * 6)]
    vocabulary = Vocabulary.create(ends, codebook_GVD)
    assert vocabulary.tokens(np.array(ends, np.int16)).tolist() == [3, 4, 5, 6]
    others = np.array([(*end[:-1], 7) for end in ends], np.int16)
    assert vocabulary.known(np.array(ends, np.int16)).all()
    assert not vocabulary.known(others).any()


@pytest.mark.parametrize(("groups", "codes"), [(8, 320), (8, 235), (7, 513)])
def test_more_combinations_than_int64_numbers_are_refused(groups: int, codes: int) -> None:
    codebook_GVD = np.zeros((groups, codes, 1), np.float32)
    with pytest.raises(UserError, match="too many combinations") as error:
        Vocabulary.create([(0,) * groups, (1,) * groups], codebook_GVD)
    assert "2 ** 63" in error.value.constraint
    assert error.value.found == f"{codes} codes in each of {groups} groups"
    assert "quantizer.groups" in error.value.remedy


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    made = Vocabulary.create([(0, 0), (1, 3), (3, 1)], CODEBOOK_GVD)
    made.save(tmp_path)
    back = Vocabulary.load(tmp_path)
    assert back.symbols == made.symbols
    np.testing.assert_array_equal(back.vectors_TD, made.vectors_TD)
    units_FG = RNG.integers(0, 4, (50, 2)).astype(np.int16)
    np.testing.assert_array_equal(back.tokens(units_FG), made.tokens(units_FG))


@pytest.mark.parametrize("loader", ["AutoTokenizer", "PreTrainedTokenizerFast"])
def test_transformers_encodes_units_to_the_same_ids(
    tmp_path: Path, everything: Vocabulary, loader: str
) -> None:
    import transformers

    everything.save(tmp_path)
    tokenizer = getattr(transformers, loader).from_pretrained(tmp_path)
    ids = tokenizer("0-1 3-2")["input_ids"]
    assert ids == everything.tokens(np.array([[0, 1], [3, 2]], np.int16)).tolist()
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (0, 1, 2)
    assert tokenizer("9-9 [MASK]")["input_ids"] == [UNK, MASK]
    assert tokenizer.decode(ids) == "0-1 3-2"
    assert len(tokenizer) == len(everything)


@pytest.mark.parametrize("groups", [1, 3])
def test_any_number_of_groups_will_do(groups: int) -> None:
    codebook_GVD = RNG.standard_normal((groups, 3, 2)).astype(np.float32)
    vocabulary = Vocabulary.create(list(combinations(groups, 3)), codebook_GVD)
    units_FG = RNG.integers(0, 3, (20, groups)).astype(np.int16)
    symbols = [vocabulary.symbols[t] for t in vocabulary.tokens(units_FG)]
    assert symbols == ["-".join(map(str, row)) for row in units_FG.tolist()]
