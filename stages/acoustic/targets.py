"""What the CTC layer tells apart: letters with a word boundary, SentencePiece pieces, or words.

Target 0 is always the CTC blank. Letters: 1 is the boundary `|` between words, then the alphabet
in its order; `turn left` is `t u r n | l e f t`. Pieces: target i is piece i of the model, whose
own piece 0, the unknown one, is never used, since every letter of the alphabet is a piece.
Words: the words of the text in sorted order, for a small closed vocabulary such as digits.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from pipeline.errors import RunError, UserError
from pipeline.recipe import TargetUnits, TextSettings
from stages.prepare.text import letters

TARGETS = "targets.json"
PIECES = "pieces.model"
BLANK = "<blank>"
BOUNDARY = "|"
PIECE_START = "▁"  # SentencePiece writes a space so


class Targets:
    """The output symbols of a CTC model, and the way from a transcript to them and back."""

    def __init__(self, units: TargetUnits, symbols: Sequence[str], pieces: Any = None) -> None:
        self.units = units
        self.symbols = tuple(symbols)
        self.blank = 0
        self._pieces = pieces  # a SentencePieceProcessor, or None
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def boundary(self) -> int | None:
        """The target between words; None where targets tell by themselves where a word starts."""
        return self._ids[BOUNDARY] if self.units == "letters" else None

    def starts_word(self, target: int) -> bool:
        """Whether a word starts with this target, whatever stands before it."""
        if self.units == "words":
            return True
        return self.units == "sentencepiece" and self.symbols[target].startswith(PIECE_START)

    def encode(self, transcript: str) -> list[int]:
        """The targets of a normalised transcript.

        Raises:
            RunError: it holds a letter, or a word, that is not among the targets.
        """
        if self._pieces is not None:
            ids = list(self._pieces.encode(transcript))
            unknown = ["an unknown piece"] if self.blank in ids else []
        else:
            words = transcript.split()
            symbols = words if self.units == "words" else BOUNDARY.join(words)
            unknown = sorted(set(symbols) - self._ids.keys())
            ids = [] if unknown else [self._ids[s] for s in symbols]
        if unknown:
            raise RunError(
                f"A transcript holds what no target stands for: '{transcript}'",
                constraint="only words of the language model's text, with text.units: words"
                if self.units == "words"
                else "text normalised with the alphabet of the recipe (text.alphabet)",
                found=", ".join(unknown),
                remedy="take letters or sentencepiece as text.units, or another lm.text"
                if self.units == "words"
                else "",
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Words from targets that are already collapsed and free of blanks."""
        if self._pieces is None:
            between = " " if self.units == "words" else ""
            text = between.join(self.symbols[i] for i in ids)
            return " ".join(text.replace(BOUNDARY, " ").split())
        return " ".join(str(self._pieces.decode([int(i) for i in ids])).split())

    @classmethod
    def load(cls, folder: Path) -> Targets:
        """Read what `make` left in `folder`."""
        told = json.loads((folder / TARGETS).read_text("utf-8"))
        pieces = None
        if told["units"] == "sentencepiece":
            pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / PIECES))
        return cls(told["units"], told["symbols"], pieces)


def make(folder: Path, settings: TextSettings, sentences: Iterable[str]) -> Targets:
    """Write the targets that the recipe asks for into `folder`.

    Args:
        sentences: read once, and not at all for letters. SentencePiece takes some 4 kB for each.

    Raises:
        UserError: the text does not yield so many pieces, or the alphabet cannot be one.
    """
    (folder / PIECES).unlink(missing_ok=True)
    if settings.units == "letters":
        symbols = [BLANK, BOUNDARY, *letters(settings.alphabet)]
    elif settings.units == "words":
        symbols = [BLANK, *sorted({word for sentence in sentences for word in sentence.split()})]
    else:
        symbols = _train_pieces(folder / PIECES, settings, sentences)
    told = {"units": settings.units, "blank": 0, "symbols": symbols}
    (folder / TARGETS).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return Targets.load(folder)


def _train_pieces(path: Path, settings: TextSettings, sentences: Iterable[str]) -> list[str]:
    """Train SentencePiece, the same on every machine, and return the symbols.

    The text is handed over in memory: a model trained from a file holds the file's path.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=settings.pieces,
            model_type=settings.piece_type,
            hard_vocab_limit=False,
            character_coverage=1.0,
            required_chars="".join(letters(settings.alphabet)),
            normalization_rule_name="identity",
            num_threads=1,
            shuffle_input_sentence=False,
            max_sentence_length=1_000_000,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"SentencePiece makes no {settings.pieces} pieces of this text.",
            constraint="more pieces than letters, fewer than the text has parts of words",
            found=str(error).splitlines()[-1],
            remedy="change text.pieces, or give more text for the language model",
        ) from error
    path.write_bytes(model.getvalue())  # a full disk is none of the text's faults
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [BLANK, *(pieces.id_to_piece(i) for i in range(1, len(pieces)))]
