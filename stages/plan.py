"""From a recipe to its steps: what each reads and which settings it depends on.

Nothing here computes; the functions named do, when the runner calls them. Nothing heavy is
imported before that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.errors import UserError
from pipeline.recipe import FRONT_ENDS, Recipe
from pipeline.stage import Step, StepContext
from stages.acoustic import decode_stage, lm_stage, score_stage
from stages.acoustic import finetune as finetune_stage
from stages.prepare import lm_text, sources
from stages.prepare import stage as prepare
from stages.prepare.listing import Listing
from stages.prepare.sources import FileHashes
from stages.quantizer import stage as quantizer_stage
from stages.units import bert as bert_stage
from stages.units import discretize as discretize_stage
from stages.units import imported, on_dev
from stages.units.source import UnitSource

Inputs = Mapping[str, Step]
PRETRAINED = ("quantizer", "discretize", "bert")
# Of the section bert, what an encoder without a pretrained BERT is made of.
TRANSFORMER = frozenset(
    (
        *("layers", "dim", "ffn_dim", "heads", "dropout", "positions", "attention_dropout"),
        "position_init",
    )
)


def plan(recipe: Recipe, hashes: FileHashes) -> list[Step]:
    """All steps of the recipe, each after what it reads.

    Raises:
        UserError: the corpus is not there, or the recipe asks for what cannot be had.
    """
    shared: dict[str, Step] = {}
    steps: dict[int, Step] = {}
    listings: list[Listing] = []
    cut_splits = sources.budgets_of_folds(recipe.corpus) is None
    for fold, corpus in sources.folds(recipe.corpus, recipe.folds).items():
        of_fold = recipe.model_copy(update={"corpus": corpus})
        if not listings or cut_splits:
            listings.append(Listing(corpus, hashes))
        steps |= {id(s): s for s in _Planner(of_fold, fold, shared, listings[-1]).steps}
    for listing in listings:
        listing.remember()
    hashes.release()
    # Stable: siblings keep their order. What folds share stands before what is theirs alone.
    return sorted(steps.values(), key=lambda step: (step.number, step.fold is not None))


def published(steps: Sequence[Step]) -> list[Step]:
    """The steps beside the scores that results.json is made of: their facts stand in it."""
    return [s for s in steps if s.stage == "lm" or (s.stage == "prepare" and _is_told(s))]


def _is_told(step: Step) -> bool:
    return bool(step.budget) or step.label == "dev" or step.label.startswith("test/")


class _Planner:
    """Collects the steps stage by stage; attributes hold what later stages read.

    A step belongs to the fold if it reads, directly or by way of others, a split that the fold
    cuts, or a budget that is its own. All others are the same for every fold, and planned once:
    they stand in `shared`.
    """

    def __init__(
        self,
        recipe: Recipe,
        fold: str | None,
        shared: dict[str, Step],
        listing: Listing,
    ) -> None:
        self.recipe, self.fold, self.shared = recipe, fold, shared
        self.steps: list[Step] = []
        frontend = plugins.find(FRONT_ENDS, recipe.frontend_name, "front-end")
        self.uses = frontend.STAGES
        self.reads_of_bert: frozenset[str] = getattr(frontend, "BERT_KEYS", TRANSFORMER)
        own_units = getattr(frontend, "unit_source", None)
        self.source: UnitSource | None = None
        if own_units is not None:
            self.source = own_units(recipe.frontend, recipe.quantizer)
        self._prepare(listing)
        self.units: dict[str, Step] = {}
        self.quantizer: Step | None = None  # where features are made with it, not units
        self.vocabulary: Step | None = None
        self.bert: Step | None = None
        if "discretize" in self.uses:
            self._units(self._quantizer())
        elif "quantizer" in self.uses:
            self.quantizer = self._quantizer()
        if "bert" in self.uses:
            self.bert = self._bert()
        self.targets, self.lm = self._targets_and_lm()
        for seed in recipe.finetune.seeds:
            for budget in recipe.budgets:
                self._budget(budget, seed)

    def _add(
        self,
        stage: str,
        number: int,
        label: str,
        version: int,
        settings: Mapping[str, Any],
        inputs: Inputs,
        run: Callable[[StepContext], None],
        **named: Any,
    ) -> Step:
        return self._take(Step(stage, number, label, version, settings, inputs, run, **named))

    def _take(self, step: Step, fold: str | None = None) -> Step:
        """Add a step, as that of its fold; what folds share, as the first of them planned it."""
        fold = next((s.fold for s in step.inputs.values() if s.fold is not None), fold)
        step = replace(step, inputs=dict(step.inputs), fold=fold)
        if fold is None:
            step = self.shared.setdefault(step.artifact_name, step)
        self.steps.append(step)
        return step

    def _prepare(self, listing: Listing) -> None:
        recipe, hashes = self.recipe, listing.hashes
        of_folds = sources.budgets_of_folds(recipe.corpus)
        self.splits: dict[str, Step] = {}
        hears_it = self.uses and "unlabelled" in recipe.corpus.pretrain_on  # stages 1 to 3
        for name in listing.names:
            if name.startswith("unlabelled/") and not hears_it:
                continue
            shared = of_folds is not None or sources.is_listed(recipe.corpus, name)
            fold = None if shared else self.fold
            known = self.shared.get(name) if fold is None else None
            step = known or prepare.split_step(recipe, name, listing.split(name))
            self.splits[name] = self._take(step, fold)
            if fold is None:  # its files are looked at once
                self.shared[name] = self.splits[name]
        train = self.splits["train"]
        self.tests = [name for name in self.splits if name.startswith("test/")]
        self.budgets: dict[str, Step] = {}
        for budget in recipe.budgets:
            ids = listing.official(recipe.corpus, budget)
            fold = self.fold if budget in (of_folds or ()) else None
            self.budgets[budget] = self._take(prepare.budget_step(budget, train, ids), fold)
        self.text = self._take(lm_text.text_step(recipe, train, hashes))
        self.given_lm = {
            key: _content(path, hashes, f"lm.{key}")
            for key, path in (("arpa", recipe.lm.arpa), ("lexicon", recipe.lm.lexicon))
            if path is not None
        }
        hashes.save()
        self.pretraining = [
            name for name in self.splits if name.split("/")[0] in recipe.corpus.pretrain_on
        ]
        if self.uses and not self.pretraining:
            raise UserError(
                "corpus.pretrain_on names no split that this corpus has.",
                found=", ".join(recipe.corpus.pretrain_on),
                remedy="add train to it, or TSV files to corpus.unlabelled",
            )

    def _quantizer(self) -> Step:
        settings, seed = self.recipe.quantizer, self.recipe.seed
        inputs = {name: self.splits[name] for name in self.pretraining}
        roles = list(inputs)
        if self.source is not None:
            own = self.source
            fit = partial(own.fit, roles=roles, seed=seed)
            told = {**own.settings, "seed": seed}
            return self._add("quantizer", 1, own.label, own.version, told, inputs, fit, seed=seed)
        run = partial(quantizer_stage.run, settings=settings, manifests_roles=roles, seed=seed)
        told, version = {**settings.signed(), "seed": seed}, quantizer_stage.VERSION
        del told["from_"]
        if settings.from_ is not None:
            told = _imported(settings.from_, "quantizer")
            version = quantizer_stage.IMPORT_VERSION
        if "discretize" in self.uses:
            imported.refuse_misfit(settings, self.recipe.bert if "bert" in self.uses else None)
        return self._add("quantizer", 1, "", version, told, inputs, run, seed=seed)

    def _units(self, quantizer: Step) -> None:
        version = discretize_stage.VERSION
        given = self.recipe.bert.from_ if "bert" in self.uses else None
        settings = self.recipe.discretize
        told: dict[str, Any] = settings.signed()
        run: Callable[[StepContext], None] = partial(discretize_stage.discretize, settings=settings)
        if self.source is not None:
            told, run = {}, self.source.discretize
        shared = self.source is None
        for name, split in self.splits.items():
            self.units[name] = self._add(
                "discretize",
                2,
                name,
                version,
                told,
                {"manifest": split, "quantizer": quantizer},
                run,
                shared=shared,
            )
        inputs = {f"units/{name}": self.units[name] for name in self.pretraining}
        inputs["quantizer"] = quantizer
        told = {}
        build: Callable[[StepContext], None] = discretize_stage.build_vocabulary
        if given is not None:
            told = self.given_bert = _imported(given, "bert")
            build = partial(imported.vocabulary, source=given)
        self.vocabulary = self._add("discretize", 2, "vocabulary", version, told, inputs, build)

    def _bert(self) -> Step:
        settings, seed = self.recipe.bert, self.recipe.seed
        assert self.vocabulary is not None  # front-ends with a BERT have units
        if settings.from_ is not None:
            run: Any = partial(imported.bert, source=settings.from_)
            inputs = {"vocabulary": self.vocabulary}
            return self._add("bert", 3, "", imported.VERSION, self.given_bert, inputs, run)
        inputs = {f"units/{name}": self.units[name] for name in self.pretraining}
        inputs["vocabulary"] = self.vocabulary
        told = {**settings.signed(), "seed": seed}
        del told["from_"]
        run = partial(bert_stage.pretrain, settings=settings, seed=seed)
        bert = self._add("bert", 3, "", bert_stage.VERSION, told, inputs, run, seed=seed)
        if "dev" not in self.pretraining:
            inputs |= {"bert": bert, "dev": self.units["dev"]}
            run = partial(on_dev.guess, settings=settings)
            self._add("bert", 3, "dev", on_dev.VERSION, {}, inputs, run, beside=True)
        return bert

    def _targets_and_lm(self) -> tuple[Step, Step]:
        text, lm = self.recipe.text, self.recipe.lm
        version = lm_stage.VERSION
        told = text.signed()
        if text.units == "letters":
            del told["pieces"], told["piece_type"]
        run: Any = partial(lm_stage.make_targets, text=text)
        targets = self._add("lm", 4, "targets", version, told, {"text": self.text}, run)
        both = {"text": told, "lm": lm.signed() | self.given_lm}
        del both["lm"]["text"]  # stage 0 has made the text, whatever it was
        run = partial(lm_stage.make_ngram, text=text, lm=lm)
        inputs = {"text": self.text, "dev": self.splits["dev"]}
        unknown = None in self.given_lm.values()
        ngram = self._add("lm", 4, "ngram", version, both, inputs, run, unknown=unknown)
        return targets, ngram

    def _features(self, split: str) -> dict[str, Step]:
        """What a front-end reads of a split."""
        read = {"manifest": self.splits[split]}
        if self.vocabulary is not None:
            read |= {"units": self.units[split], "vocabulary": self.vocabulary}
        if self.quantizer is not None:
            read["quantizer"] = self.quantizer
        return read

    def _budget(self, budget: str, seed: int) -> None:
        recipe = self.recipe
        settings, frontend = recipe.finetune.for_budget(budget), recipe.frontend
        label = budget if len(recipe.finetune.seeds) == 1 else f"{budget}/seed{seed}"
        named: dict[str, Any] = {"budget": budget, "seed": seed}
        inputs = self._features("train") | {"budget": self.budgets[budget]}
        inputs["targets"] = self.targets
        if settings.validate_every:
            dev = self._features("dev")
            inputs |= {f"dev/{r}": s for r, s in dev.items() if inputs.get(r) is not s}
        told = {**settings.signed(), "seed": seed, "frontend": frontend.signed()}
        if self.bert is not None:
            inputs["bert"] = self.bert
        else:  # the size of the Transformer, not how it would be pretrained
            sizes = set(self.reads_of_bert)
            if getattr(frontend, "encoder", "transformer") == "lstm":
                sizes.discard("position_init")  # LSTMs have none
            if self.vocabulary is not None:
                sizes.add("embedding_init")
            told["bert"] = {k: v for k, v in recipe.bert.signed().items() if k in sizes}
        run = partial(
            finetune_stage.finetune,
            frontend=frontend,
            bert=recipe.bert,
            settings=settings,
            seed=seed,
        )
        version = finetune_stage.version(frontend, settings)
        model = self._add("finetune", 5, label, version, told, inputs, run, **named)
        self._decode_and_score(label, model, named)

    def _decode_and_score(self, label: str, model: Step, named: Mapping[str, Any]) -> None:
        decode, score = self.recipe.decode, self.recipe.score
        version = decode_stage.VERSION
        read = {"lm": self.lm, "text": self.text}
        inputs = self._outputs("dev", label, model, named) | read
        run: Any = partial(decode_stage.decode_dev, settings=decode)
        tuned = self._add(
            "decode", 6, f"dev/{label}", version, decode.signed(), inputs, run, **named
        )
        for test in self.tests:
            inputs = self._outputs(test, label, model, named) | read | {"tuned": tuned}
            # The weights come from dev; the grid they were searched in matters no more.
            told = {k: decode.signed()[k] for k in ("decoders", "beam_threshold", "nbest")}
            name = f"{test.removeprefix('test/')}/{label}"
            run = partial(decode_stage.decode_test, settings=decode)
            hypotheses = self._add("decode", 6, name, version, told, inputs, run, **named)
            run = partial(score_stage.run, settings=score)
            told, inputs = score.signed(), {"hypotheses": hypotheses}
            self._add("score", 7, name, score_stage.VERSION, told, inputs, run, **named)

    def _outputs(
        self, split: str, label: str, model: Step, named: Mapping[str, Any]
    ) -> dict[str, Step]:
        """A split with what the model says of it."""
        name = f"log_probs/{split.removeprefix('test/')}/{label}"
        inputs = self._features(split) | {"model": model}
        version, run = decode_stage.LOG_PROBS_VERSION, decode_stage.compute
        log_probs = self._add("decode", 6, name, version, {}, inputs, run, **named)
        return {"manifest": self.splits[split], "log_probs": log_probs}


def _content(file: Path, hashes: FileHashes, key: str) -> str | None:
    """What a given file is known by, wherever it lies; None where it is not known yet."""
    if not file.is_file():
        raise UserError(f"{key}: {file} is not there, or is no file.")
    found = hashes.of(file)
    return None if found is None else found[:16]


def _imported(folder: Path, section: str) -> dict[str, Any]:
    """What a step depends on that takes over a model: its content, wherever it lies."""
    from pipeline.store import digest, hash_outputs

    if not (folder / "config.json").is_file():
        raise UserError(f"{section}.from: {folder} holds no model (config.json is not there).")
    return {"imported": digest(hash_outputs(folder))}
