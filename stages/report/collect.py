"""What there is of each recipe: its results, and the artifacts behind them.

An argument is a recipe's file, the name of its folder in exp/, a results.json or its folder, or
several of them joined by a plus, as `vqasr compare` reads them. Of a file only
what is done of the recipe as it is now counts; of a folder, what its links point to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import comparison
from pipeline.curves import find_curves
from pipeline.errors import UserError
from pipeline.folders import exp_option
from pipeline.freshness import StepState, examine
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step, in_links
from pipeline.store import Stamp, Store, read_stamp, verify_files
from stages.acoustic.finetune import TRAINING
from stages.acoustic.lm_stage import LM_FACTS
from stages.acoustic.publish import SUMMARY
from stages.acoustic.results import RESULTS, Results, Row, gather
from stages.acoustic.score_stage import ALIGNMENTS, CONFUSIONS, COUNTS, SCORES
from stages.quantizer.stage import CODEBOOK, HISTORY
from stages.units.on_dev import GUESSES
from stages.use.chosen import command_of

PRETRAINING = "pretraining.json"  # of stage 3
# Of all steps, the files that the page or the results on it are made of.
SHOWN = (
    *(SUMMARY, CODEBOOK, HISTORY, PRETRAINING, GUESSES, LM_FACTS, TRAINING),
    *(SCORES, COUNTS, CONFUSIONS, ALIGNMENTS),
)


@dataclass(frozen=True)
class Piece:
    """A step of a recipe as far as it has come.

    Attributes:
        title: `5 finetune 10min`. Where only the link tells it: `5 finetune lucas-10min`.
        state, reasons: as `vqasr status` tells them.
        folder: its artifact; None where it is not done.
        stamp: of that artifact.
        curves: the folder of its TensorBoard events; None where there are none of this very step.
    """

    title: str
    state: str
    folder: Path | None = None
    reasons: Sequence[str] = ()
    stamp: Stamp | None = None
    curves: Path | None = None

    @property
    def stage(self) -> str:
        return self.title.split(" ")[1]

    @property
    def label(self) -> str:
        """What tells it from other steps of its stage: `10min`; may be empty."""
        return " ".join(self.title.split(" ")[2:])


@dataclass
class Source:
    """What the report knows of one argument.

    Attributes:
        named: the argument. name: what tables call its system; another for each source.
        results: of what is scored, as results.json and the files beside it have it.
        pieces: its steps in order; none where a results.json was given.
        remarks: what the reader is to know of where all this comes from.
    """

    named: str
    name: str
    results: Results
    pieces: list[Piece] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of results.json."""
        return self.results.rows

    def done(self, stage: str) -> list[Piece]:
        """The finished steps of a stage."""
        return [p for p in self.pieces if p.stage == stage and p.folder is not None]

    @property
    def unfinished(self) -> list[Piece]:
        return [p for p in self.pieces if p.folder is None]


def collect(named: Sequence[str], exp: Path, changes: Sequence[str] = ()) -> list[Source]:
    """What there is of each argument, in their order, each argument once.

    Args:
        changes: of `--set`, for the arguments that are recipes' files.

    Raises:
        UserError: an argument is none of the three, or a recipe cannot be.
        RunError: a file that would be shown is not what was written.
    """
    files = [name for name in named if _is_recipe(name)]
    if changes and not files:
        raise UserError("--set changes recipes' files; none is given.", found=", ".join(named))
    sources = []
    for name in dict.fromkeys(named):
        if name in files:
            sources.append(_of_recipe(name, exp, changes))
        elif name.endswith(".json"):
            sources.append(_of_results(name, exp))
        else:
            sources.append(_of_folder(name, exp))
    _tell_apart(sources)
    return sources


def _is_recipe(named: str) -> bool:
    path = Path(named)
    return path.suffix in comparison.RECIPE_FILES and path.is_file()


def _of_recipe(named: str, exp: Path, changes: Sequence[str]) -> Source:
    from stages.plan import plan
    from stages.prepare.sources import FileHashes

    recipe = load(Path(named), changes)
    try:
        steps = plan(recipe, FileHashes(exp / "store" / "files.json", "trust"))
    except UserError as error:
        if changes or not (exp / recipe.name).is_dir():
            raise
        # Its corpus lies elsewhere, say: what was made is here all the same.
        source = _of_folder(recipe.name, exp)
        source.named = named
        source.remarks.append(f"What its last run left is shown; of today's: {error.what}")
        return source
    store, links = Store(exp / "store"), exp / recipe.name
    states = examine(steps, store, links)
    current = _current(states)
    pieces = []
    for state in states:
        step = state.step
        here = id(step) in current
        pieces.append(
            Piece(
                title=step.title,
                state=state.state if here or state.state != "done" else "stale",
                folder=state.path if here else None,
                reasons=state.reasons or ([] if here else ["made from what is not done"]),
                stamp=state.stamp if here else None,
                curves=find_curves(links, step),
            )
        )
    _verify(pieces, command_of(Path(named), changes, exp))
    results = _gathered(recipe, states, store, current)
    return Source(named, recipe.name, results, pieces)


def _verify(pieces: Sequence[Piece], command: str) -> None:
    """Hash what is shown of finished steps: nothing else notices what was altered afterwards.

    Raises:
        RunError: a file is not what was written; `command` runs the recipe.
    """
    for piece in pieces:
        if piece.folder is None or piece.stamp is None:
            continue
        number = piece.title.split(" ")[0]
        names = [n for n in SHOWN if n in piece.stamp.outputs or (piece.folder / n).is_file()]
        rebuild = f"{command} --stage {number} --stop-stage {number} --force"
        verify_files(piece.folder, piece.stamp, rebuild, names)


def _current(states: Sequence[StepState]) -> set[int]:
    """By id, the steps that are done and stem from nothing stale or interrupted.

    What is missing behind them was removed, and is no part of what they say.
    """
    wrong: set[int] = set()
    current: set[int] = set()
    for state in states:
        inputs = {id(source) for source in state.step.inputs.values()}
        if state.state in ("stale", "interrupted") or inputs & wrong:
            wrong.add(id(state.step))
        elif state.state == "done":
            current.add(id(state.step))
    return current


def _gathered(
    recipe: Recipe, states: Sequence[StepState], store: Store, current: set[int]
) -> Results:
    """The scores that are there, as `vqasr run` publishes them when all are."""
    from stages.acoustic.publish import scored
    from stages.plan import published

    facts = {id(step) for step in published([s.step for s in states])}

    def is_whole(step: Step) -> bool:
        behind = _behind(step)
        return id(step) in current and all(i in current for i in behind & facts)

    scores = [s.step for s in states if s.step.stage == "score" and is_whole(s.step)]
    return gather(scored(recipe, step, store) for step in scores)


def _behind(step: Step) -> set[int]:
    """By id, all that a step is made from."""
    found: set[int] = set()
    for source in step.inputs.values():
        found |= {id(source)} | _behind(source)
    return found


def _of_folder(named: str, exp: Path) -> Source:
    folder = exp / named
    links = sorted(folder.glob("[0-9]-*"))
    if not links:
        return _of_results(named, exp)
    pieces = []
    for link in links:
        stamp = read_stamp(link)
        if stamp is not None:
            pieces.append(Piece(_title(link, stamp), "done", link.resolve(), stamp=stamp))
    _verify(pieces, f"vqasr run RECIPE{exp_option(exp)}")
    remarks = ["Its folder in exp/ was given: steps that were never done are not known of."]
    results = Results([])
    if (folder / RESULTS).is_file():
        results = comparison.read(named, exp)
    else:
        remarks.append("It has no results.json yet.")
    return Source(named, named, results, pieces, remarks)


def _title(link: Path, stamp: Stamp) -> str:
    """What the step is to the recipe that links to it.

    The stamp tells what it was to the recipe that made the artifact: maybe a step of another
    fold, or of none.
    """
    if in_links(stamp.title) == link.name:
        return stamp.title
    return " ".join(link.name.split("-", 2))


def _of_results(named: str, exp: Path) -> Source:
    results = comparison.read(named, exp)
    told = "Only its results.json was given: no training curves, no codebook, no alignments."
    if not (Path(named).exists() or (exp / named).is_dir()):
        told = "Several runs joined: to see their trainings and alignments, name them apart."
    return Source(named, named, results, [], [told, *results.remarks])


def _tell_apart(sources: Sequence[Source]) -> None:
    """Give each source a name of its own, which its rows bear as well."""
    comparison.tell_apart({source.named: source.results for source in sources})
    for source in sources:
        if source.rows:
            source.name = str(source.rows[0]["recipe"])
    names = [source.name for source in sources]
    for source in sources:
        if names.count(source.name) > 1:
            source.name = f"{source.name} ({source.named})"
