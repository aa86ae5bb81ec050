"""The unit vocabulary: combinations of group codes as tokens of a HuggingFace tokenizer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pipeline.errors import UserError
from pipeline.quantizer_settings import MOST_UNITS_LOG2, too_many_units

SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
PAD, UNK, MASK = range(3)
VECTORS = "unit_vectors.safetensors"


def combinations(groups: int, codes: int) -> Iterator[tuple[int, ...]]:
    """All combinations of one code per group, in order."""
    return itertools.product(range(codes), repeat=groups)


class Vocabulary:
    """Unit tokens such as `12-305`, after the special tokens [PAD], [UNK] and [MASK].

    Attributes:
        units_TG: the codes of each unit token; token id = row + number of special tokens.
        vectors_TD: what the quantizer's codebook holds for it, groups side by side.

    Raises:
        UserError: there are more combinations of codes than can be numbered.
    """

    def __init__(
        self,
        units_TG: NDArray[np.int64],
        vectors_TD: NDArray[np.float32],
        codebook: NDArray[np.float32],
    ) -> None:
        self.units_TG, self.vectors_TD, self._codebook_GVD = units_TG, vectors_TD, codebook
        groups, codes, _ = codebook.shape
        if too_many_units(groups, codes):  # their numbers would wrap round and be another unit's
            raise UserError(
                "The quantizer has too many combinations of codes.",
                constraint=f"at most 2 ** {MOST_UNITS_LOG2}, for they are numbered in int64",
                found=f"{codes} codes in each of {groups} groups",
                remedy="set fewer quantizer.groups or quantizer.codes and train it again",
            )
        self._weights_G = codes ** np.arange(groups)[::-1]
        keys_T = units_TG @ self._weights_G
        self._token_of: dict[int, int] = {
            int(key): row + len(SPECIAL) for row, key in enumerate(keys_T)
        }
        self._sorted_keys_T = np.sort(keys_T)

    @classmethod
    def create(
        cls, units: Sequence[tuple[int, ...]], codebook_GVD: NDArray[np.float32]
    ) -> Vocabulary:
        units_TG = np.array(units, dtype=np.int64)
        vectors = [codebook_GVD[g][units_TG[:, g]] for g in range(units_TG.shape[1])]
        return cls(units_TG, np.concatenate(vectors, axis=1), codebook_GVD)

    def __len__(self) -> int:
        """All tokens, special ones included."""
        return len(self.units_TG) + len(SPECIAL)

    @property
    def symbols(self) -> list[str]:
        return symbols_of(self.units_TG)

    def tokens(self, units_FG: NDArray[np.int16]) -> NDArray[np.int64]:
        """Token ids (F,) of a row of units; combinations unheard of become the nearest."""
        keys = units_FG.astype(np.int64) @ self._weights_G
        found = (self._token_of.get(int(k)) or self._nearest(int(k)) for k in keys)
        return np.fromiter(found, np.int64, len(keys))

    def known(self, units_FG: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Which frames (F,) hold a combination that the vocabulary was built from."""
        keys_F = units_FG.astype(np.int64) @ self._weights_G
        places_F = np.searchsorted(self._sorted_keys_T, keys_F).clip(max=len(self.units_TG) - 1)
        known_F: NDArray[np.bool_] = self._sorted_keys_T[places_F] == keys_F
        return known_F

    def _nearest(self, key: int) -> int:
        """The token with the least Euclidean distance in the codebook; remembered."""
        codes_G = [(key // int(w)) % self._codebook_GVD.shape[1] for w in self._weights_G]
        vector = np.concatenate([self._codebook_GVD[g][c] for g, c in enumerate(codes_G)])
        row = int(np.square(self.vectors_TD - vector).sum(axis=1).argmin())
        self._token_of[key] = row + len(SPECIAL)
        return self._token_of[key]

    def save(self, folder: Path) -> None:
        """Write a HuggingFace tokenizer and the codebook vectors."""
        save_tokenizer(self.symbols, folder)
        codebook_GVD = np.ascontiguousarray(self._codebook_GVD)
        save_file({"units": self.units_TG, "codebook": codebook_GVD}, folder / VECTORS)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        tensors = load_file(folder / VECTORS)
        return cls.create([tuple(r) for r in tensors["units"].tolist()], tensors["codebook"])


def symbols_of(units_TG: NDArray[np.int64]) -> list[str]:
    """All tokens as text: the special ones, then units such as `12-305`."""
    return [*SPECIAL, *("-".join(map(str, row)) for row in units_TG.tolist())]


def save_tokenizer(symbols: Sequence[str], folder: Path) -> None:
    """Write a HuggingFace tokenizer that has `symbols` as its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {symbol: index for index, symbol in enumerate(symbols)}
    words = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL[UNK]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=SPECIAL[PAD],
        unk_token=SPECIAL[UNK],
        mask_token=SPECIAL[MASK],
    )
    tokenizer.save_pretrained(folder)


def save_units(units_TG: NDArray[np.int64], folder: Path) -> None:
    """Write the vocabulary of a BERT that was made elsewhere: its quantizer is not at hand."""
    save_tokenizer(symbols_of(units_TG), folder)
    save_file({"units": np.ascontiguousarray(units_TG)}, folder / VECTORS)


def load_units(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """The units (T, G) of a vocabulary, and its codebook if it knows one."""
    tensors = load_file(folder / VECTORS)
    return tensors["units"], tensors.get("codebook")
