"""The recipe: one YAML file, typed sections, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from pipeline.bert_settings import BertSettings as BertSettings
from pipeline.budget import budget_seconds as budget_seconds
from pipeline.errors import UserError
from pipeline.finetune_settings import FinetuneSettings as FinetuneSettings
from pipeline.finetune_settings import checked
from pipeline.quantizer_settings import QuantizerSettings as QuantizerSettings
from pipeline.section import NO_RESULT, PRECISION, Precision, Seed, check_test_name, each_once
from pipeline.section import Section as Section

CORPORA = "stages.prepare.corpora"
FRONT_ENDS = "stages.acoustic.frontends"
DECODERS = "stages.acoustic.decoders"


class CorpusSettings(Section):
    """What every kind of corpus has; each corpus file adds its own."""

    kind: str = Field(description="the corpus file in stages/prepare/corpora")
    root: Path = Field(Path(), description="the corpus' folder", json_schema_extra=NO_RESULT)
    test: dict[str, str] = Field(
        {},
        description="test sets by name, beside those that the corpus has of its own: TSV files, "
        "absolute or relative to root. One more is decoded and scored, and trains nothing",
    )
    test_bandwidth_hz: int | None = Field(
        None,
        ge=500,
        description="remove what lies above from the speech of the lists of test, Hz; null: as "
        "recorded. For lists with more above than the speech of stages 1 and 3 has",
    )
    unlabelled: list[str] = Field([], description="TSV files, relative to root, of speech alone")
    unlabelled_bandwidth_hz: int | None = Field(
        None, ge=500, description="remove what lies above from unlabelled speech, Hz"
    )
    pretrain_on: list[Literal["train", "unlabelled"]] = Field(
        ["train", "unlabelled"], min_length=1, description="speech of stages 1 and 3"
    )
    allow_shared_speakers: bool = Field(False, description="a speaker may be in train and test")
    closed_grammar: bool = Field(
        False,
        description="its sentences are those of a small closed grammar, so that test sentences "
        "in the language model's text are no leak: they are counted and not warned of",
        json_schema_extra=NO_RESULT,
    )
    train_speeds: list[float] = Field(
        [],
        description="copies of the training speech at other speeds, such as [0.9, 1.1]: other "
        "voices, the same words. They join their originals in a budget and count for nothing",
    )

    @field_validator("test")
    @classmethod
    def _plain_names(cls, test: dict[str, str]) -> dict[str, str]:
        for name in test:
            check_test_name(name)
        return test

    @field_validator("train_speeds")
    @classmethod
    def _speeds_can_be(cls, speeds: list[float]) -> list[float]:
        if any(not 0.5 <= speed <= 2 or speed == 1 for speed in speeds):
            raise ValueError("speeds from 0.5 to 2, without 1, the original")
        return each_once(speeds)


TargetUnits = Literal["letters", "sentencepiece", "words"]


class TextSettings(Section):
    """Targets of the CTC model."""

    units: TargetUnits = Field(
        "letters", description="words: for a small closed vocabulary, such as digits"
    )
    pieces: int = Field(200, ge=8, description="SentencePiece vocabulary size")
    piece_type: Literal["unigram", "bpe"] = "unigram"
    alphabet: str = Field(
        "abcdefghijklmnopqrstuvwxyz'", min_length=1, description="letters that words may hold"
    )

    @field_validator("alphabet")
    @classmethod
    def _of_letters(cls, alphabet: str) -> str:
        from stages.prepare.text import letters

        try:
            letters(alphabet)
        except UserError as error:
            raise ValueError(f"{error.constraint}, unlike {error.found}") from error
        return alphabet


class DiscretizeSettings(Section):
    """Speech to units."""

    precision: Precision = Field(
        "fp32",
        description="fp32: the same codes on every machine, but for ties; bf16 is about twice as "
        f"fast and changes about 1 % of them. {PRECISION}. Processes that share a split must agree",
    )
    batch_seconds: float = Field(
        300.0, ge=1, description="audio in memory at once, seconds", json_schema_extra=NO_RESULT
    )
    readers: int = Field(
        2, ge=1, description="threads that read audio ahead", json_schema_extra=NO_RESULT
    )


class LmSettings(Section):
    """The word n-gram, trained on a text or given as a file."""

    order: int = Field(3, ge=2, le=6, description="KenLM reads no unigram")
    text: Literal["corpus", "train"] | Path = Field(
        "corpus",
        description="corpus: what the corpus offers, else the training transcripts; "
        "train: the training transcripts; or a text file, a sentence a line, .gz or not",
    )
    prune: list[int] = Field([], description="lmplz --prune, a count per order")
    vocabulary: int | None = Field(
        None, ge=1, description="the most frequent words of the text, so many; null: all of them"
    )
    lexicon: Path | None = Field(
        None,
        description="a file of words, one a line; what stands behind a word, such as phones, is "
        "not read. They are what the search may write, and what a trained n-gram knows",
    )
    arpa: Path | None = Field(
        None,
        description="an n-gram that is there, ARPA, .gz or not, in place of training one. Its "
        "words go through the rule of text; order, prune and vocabulary then say nothing",
    )
    memory_mb: int = Field(
        512, ge=16, description="of lmplz and build_binary", json_schema_extra=NO_RESULT
    )

    @field_validator("prune")
    @classmethod
    def _as_lmplz_wants(cls, prune: list[int], info: ValidationInfo) -> list[int]:
        if prune != sorted(prune) or (prune and prune[0] < 0):
            raise ValueError("counts of 0 or more, none below the one before")
        if len(prune) > info.data.get("order", len(prune)):
            raise ValueError(f"at most a count per order, {info.data['order']}")
        return prune

    @field_validator("lexicon")
    @classmethod
    def _one_says_the_words(cls, lexicon: Path | None, info: ValidationInfo) -> Path | None:
        if lexicon is not None and info.data.get("vocabulary") is not None:
            raise ValueError("lm.vocabulary chooses words too; set it to null")
        return lexicon

    def signed(self) -> dict[str, Any]:
        """Without what says nothing, and without paths: the plan adds what files contain."""
        values = super().signed()
        del values["lexicon"], values["arpa"]
        if self.vocabulary is None:
            del values["vocabulary"]
        if self.arpa is not None:
            for name in ("order", "prune", "vocabulary"):
                values.pop(name, None)
        return values


class DecodeSettings(Section):
    """Lexicon beam search; weights are tuned on dev over the grid."""

    decoders: list[str] = Field(["greedy", "lexicon_beam"], min_length=1)
    lm_weights: list[float] = Field([0.5, 1.0, 2.0, 3.0, 5.0], min_length=1)
    word_scores: list[float] = Field([-2.0, -1.0, 0.0, 2.0, 4.0], min_length=1)
    beam: list[PositiveInt] = Field(
        [100],
        min_length=1,
        description="hypotheses kept: a number, or several to choose from on dev",
    )
    beam_threshold: float = Field(30.0, gt=0, description="log score below the best")
    nbest: int = Field(1, ge=1, description="hypotheses written per utterance, with their scores")

    @field_validator("beam", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, beam: object) -> object:
        return [beam] if isinstance(beam, int) else beam

    @field_validator("beam")
    @classmethod
    def _smallest_first(cls, beam: list[int]) -> list[int]:
        return sorted(set(beam))

    @field_validator("nbest")
    @classmethod
    def _beam_holds(cls, nbest: int, info: ValidationInfo) -> int:
        smallest = min(info.data.get("beam", [nbest]))
        if nbest > smallest:
            raise ValueError(f"the beam holds {smallest}; raise decode.beam")
        return nbest

    @field_validator("decoders")
    @classmethod
    def _decoders_differ(cls, decoders: list[str]) -> list[str]:
        return each_once(decoders)


class ScoreSettings(Section):
    """Statistics of the table."""

    bootstrap_samples: int = Field(
        10_000,
        ge=100,
        description="test sets drawn for an interval: of a row, of several seeds and folds "
        "together, and of the difference of a pair (there the larger one of the two)",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1)


class MachineSettings(Section):
    """How a run uses this machine; nothing here changes what is stale."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(
        0, ge=0, description="0: OMP_NUM_THREADS if set, else the cores it may use"
    )


class Recipe(Section):
    """One experiment. `corpus` and `frontend` hold the settings class of the file they name."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="results lie in exp/<name>"
    )
    corpus: CorpusSettings
    budgets: list[str] = Field(["all"], min_length=1)
    quantizer: QuantizerSettings = QuantizerSettings()
    discretize: DiscretizeSettings = DiscretizeSettings()
    bert: BertSettings = BertSettings()
    text: TextSettings = TextSettings()
    lm: LmSettings = LmSettings()
    frontend: Section
    finetune: FinetuneSettings = FinetuneSettings()
    decode: DecodeSettings = DecodeSettings()
    score: ScoreSettings = ScoreSettings()
    machine: MachineSettings = MachineSettings()
    seed: Seed = 1
    folds: Literal["all"] | list[str] | None = Field(
        None,
        description="cuts of the corpus, each trained and scored on its own and reported beside "
        "the others: all, or some by name (digits: the test speaker); without it, one cut",
    )

    @field_validator("name")
    @classmethod
    def _not_the_store(cls, name: str) -> str:
        if name == "store":
            raise ValueError("exp/store holds the artifacts; call the recipe differently")
        return name

    @field_validator("budgets")
    @classmethod
    def _budgets_read(cls, budgets: list[str]) -> list[str]:
        for budget in budgets:
            budget_seconds(budget)
        return each_once(budgets)

    @field_validator("finetune")
    @classmethod
    def _of_its_budgets(cls, settings: FinetuneSettings, info: ValidationInfo) -> FinetuneSettings:
        return checked(settings, info)

    @field_validator("folds", mode="before")
    @classmethod
    def _all_or_names(cls, folds: object) -> object:
        names = folds if isinstance(folds, list) else []
        if folds is None or folds == "all":
            return folds
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError("all, or a list of the corpus' folds by name")
        return each_once(names)

    @property
    def frontend_name(self) -> str:
        return str(getattr(self.frontend, "name"))  # noqa: B009  every front-end has one
