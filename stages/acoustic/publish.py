"""The last act of a run: from finished score steps to results.json and what lies beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.freshness import StepState
from pipeline.recipe import Recipe
from pipeline.stage import Step
from pipeline.store import Store, write_atomically
from stages.acoustic.finetune import TRAINING
from stages.acoustic.lm_stage import LM_FACTS
from stages.acoustic.notes import is_closed, only_blanks, overlap
from stages.acoustic.published_wer import FILE as PUBLISHED
from stages.acoustic.results import PAGE, PLOT, Results, Scored, files, gather, write_results
from stages.acoustic.score_stage import CONFUSIONS, COUNTS, SCORES
from stages.acoustic.tables import compare, format_table
from stages.acoustic.trained_with import settings_by_stage

SUMMARY = "summary.json"  # of a step of stage 0
TABLE = "table.txt"  # as the last run that changed the results has shown it
DRAWN_BY = "drawn_by.txt"  # a hash of the code that has made page, plot and table


def unfinished(states: Sequence[StepState], facts: Sequence[Step]) -> list[StepState]:
    """What keeps results from being those of the recipe as it is now.

    Anything stale does, even if what reads it waits for it, but for what no result is made of.
    What is missing does if it is a score, or of the `facts` that stand beside the scores.
    """
    read = {id(step) for step in facts}
    return [
        s
        for s in (state for state in states if not state.step.beside)
        if s.state in ("stale", "interrupted")
        or (s.state != "done" and (s.step.stage == "score" or id(s.step) in read))
    ]


def verify(steps: Sequence[Step], store: Store, rebuild: Callable[[Step], str]) -> None:
    """Hash what results are made of: they are told again at every run, and nothing else reads it.

    Args:
        rebuild: the command that makes a step's artifact anew.

    Raises:
        RunError: a file is not what was written.
    """
    for score in (step for step in steps if step.stage == "score"):
        decode = score.inputs["hypotheses"]
        model, test = _model(decode), decode.inputs["manifest"]
        dev = decode.inputs["tuned"].inputs["manifest"]
        read = [(score, (SCORES, COUNTS, CONFUSIONS)), (decode.inputs["lm"], (LM_FACTS,))]
        read += [(step, (SUMMARY,)) for step in (model.inputs["budget"], test, dev)]
        if store.stamp(model) is not None:  # it need not be there any more
            read.append((model, (TRAINING,)))
        for step, names in read:
            store.verify(step, rebuild(step), names)


def publish(recipe: Recipe, steps: Sequence[Step], store: Store, folder: Path) -> str:
    """Write the results of finished score steps where they changed; the table as text."""
    results = gather(scored(recipe, step, store) for step in steps if step.stage == "score")
    drawn = all((folder / name).exists() for name in (PAGE, PLOT))
    drawn = drawn and _read(folder / DRAWN_BY) == _code()
    known = folder / TABLE
    if not drawn or any(_read(folder / name) != text for name, text in files(results).items()):
        known.unlink(missing_ok=True)
        write_results(folder, results)
        write_atomically(folder / DRAWN_BY, _code())
    # With several seeds or folds its intervals are drawn anew, which can take many seconds.
    table = _read(known)
    if table is None:
        table = format_table(compare([results]), "table")
        write_atomically(known, table)
    told = f"WER in % [{recipe.score.confidence:.0%} interval]; more in {folder / PAGE}\n{table}"
    return f"{told}{_warning(results)}"


def _code() -> str:
    """A hash of the code in this folder and of the published figures that stand beside ours."""
    told = hashlib.sha256(PUBLISHED.read_bytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def _warning(results: Results) -> str:
    """Lines on models that emit only blanks, and on transcripts of dev or test that the language
    model has read; else nothing."""
    told = [f"{line}." for line in only_blanks(results.rows)]
    line, count = overlap(results.rows) if results.rows else ("", 0)
    if count and not is_closed(results.rows):
        told.append(f"{line}. They flatter the decoders that use it.")
    return "".join(f"\nWARNING: {line}" for line in told)


def _read(path: Path) -> str | None:
    return path.read_bytes().decode(errors="replace") if path.exists() else None


def scored(recipe: Recipe, step: Step, store: Store) -> Scored:
    """The score step with what is to be known of it, found along the steps it reads."""
    decode = step.inputs["hypotheses"]
    test, dev = decode.inputs["manifest"], decode.inputs["tuned"].inputs["manifest"]
    model = _model(decode)
    budget, of_dev = _summary(store, model.inputs["budget"]), _summary(store, dev)
    return Scored(
        scores=store.path(step),
        lm=store.path(decode.inputs["lm"]),
        model=store.path(model),
        recipe=recipe.name,
        frontend=recipe.frontend_name,
        budget=str(step.budget),
        budget_seconds=float(budget["speech_seconds"]),
        seed=int(step.seed or 0),
        test_set=test.label.removeprefix("test/"),
        test_rejected=int(_summary(store, test)["rejected"]),
        dev_rejected=int(of_dev["rejected"]),
        fold=step.fold,
        alphabet=recipe.text.alphabet,
        test_split=test.signature,
        dev_split=dev.signature,
        corpus=recipe.corpus.kind,
        closed_grammar=recipe.corpus.closed_grammar,
        settings=settings_by_stage(recipe, model),
        bootstrap_samples=recipe.score.bootstrap_samples,
        dev_speech_seconds=float(of_dev["speech_seconds"]),
    )


def _model(decode: Step) -> Step:
    """Whose log-probabilities a step of stage 6 decodes."""
    return decode.inputs["log_probs"].inputs["model"]


def _summary(store: Store, prepared: Step) -> dict[str, Any]:
    """What a step of stage 0 says of its content."""
    told: dict[str, Any] = json.loads((store.path(prepared) / SUMMARY).read_text("utf-8"))
    return told
