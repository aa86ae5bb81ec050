"""A recipe of which everything is done: scores by the real scorer, trainings made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.freshness import StepState, examine
from pipeline.recipe import Recipe, ScoreSettings
from pipeline.runner import Run
from pipeline.stage import Step, StepContext
from pipeline.store import STAMP, Store, hash_outputs
from stages.acoustic import score_stage
from stages.acoustic.publish import publish, unfinished
from stages.acoustic.summary import Metric
from stages.plan import published
from stages.quantizer import health
from stages.quantizer.history import History, columns
from stages.report.collect import collect
from stages.report.page import render

HOSTILE = "</span><script>alert('said')</script>&amp;\"x\""
REFERENCES = {
    "utt-0": "turn left",
    "utt-1": "go right now",
    "utt-2": "stop",
    "utt-3": f"turn {HOSTILE} right",
    "utt-4": "go home now",
}
HYPOTHESES = {
    "greedy": {
        "utt-0": "tun left",
        "utt-1": "go now",
        "utt-2": "stop it",
        "utt-3": "<img src=x onerror=alert(1)> right",
        "utt-4": "go home now",
    },
    "lexicon_beam": {
        "utt-0": "turn left",
        "utt-1": "go now",
        "utt-2": "stop",
        "utt-3": "turn right right",
        "utt-4": "go home now",
    },
}
SPEAKERS = ["ann", "ann", "bob", "bob", "<b>eve</b>"]


def codebook(folder: Path) -> None:
    """As stage 1 leaves it, by its own functions, of 100 updates on random codes."""
    rng = np.random.default_rng(0)
    history = History(8)
    for update in range(1, 101):
        codes_NG = torch.from_numpy(rng.integers(0, 8, (40, 2)))
        history.add(update, {"loss_bits": 3.0 - update / 100, "temperature": 1.0}, codes_NG)
    records = history.records()
    found = health.report(rng.integers(0, 8, (500, 2)), 8)
    told = {"updates": 100, "loss_bits": records[-1]["loss_bits"], "chance_bits": 3.459432}
    told |= {"repairs": [{"update": 50}], "history": columns(records)}
    content = {"quantizer": "gumbel", **found, **told}
    (folder / "codebook.json").write_text(json.dumps(content))
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))


def trained(last: int, **figures: float) -> list[dict[str, float]]:
    """The history of a training: each figure times the share of what is left."""
    return [
        {"update": u, **{name: round(v * (1.1 - u / last), 5) for name, v in figures.items()}}
        for u in range(25, last + 1, 25)
    ]


def decoded(folder: Path) -> None:
    weights = {"lm_weight": 1.5, "word_score": -0.5, "dev_wer": 0.25}
    decoders = dict.fromkeys(HYPOTHESES, weights)
    decoders["lexicon_beam"] = weights | {"beam": 50}
    told = {"dev_seconds": 90.0, "dev_utterances": 30, "decoders": decoders}
    told |= {"dev_in_lm_text": 0, "test_in_lm_text": 0}
    (folder / "weights.json").write_text(json.dumps(told))
    for name, texts in HYPOTHESES.items():
        lines = [
            json.dumps({"utt_id": i, "speaker": s, "seconds": 1.5, "ref": r, "hyp": texts[i]})
            for (i, r), s in zip(REFERENCES.items(), SPEAKERS, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def work(ctx: StepContext, *, title: str) -> None:
    """What the step `title` leaves that the report reads."""
    number, stage, *rest = title.split(" ")
    (ctx.folder / "out.txt").write_text(title)
    if number == "0":
        seconds = {"2s": 2.0, "all": 5.5}.get(rest[-1].rpartition("/")[2], 100.0)
        told = {"speech_seconds": seconds, "rejected": 0}
        (ctx.folder / "summary.json").write_text(json.dumps(told))
    elif stage == "quantizer":
        codebook(ctx.folder)
    elif stage == "bert":
        facts = {"kept_back_loss": 2.0, "kept_back_accuracy": 0.5, "kept_back_mask_loss": 2.125}
        facts |= {"kept_back_mask_accuracy": 0.3125, "kept_back_mask_accuracy_nearest": 0.25}
        facts |= {"kept_back_mask_accuracy_most_frequent": 0.0625}
        facts |= {"kept_back_utterances": 3}
        history = trained(200, loss=3.0, accuracy=0.5)
        (ctx.folder / "pretraining.json").write_text(json.dumps(facts | {"history": history}))
    elif title == "4 lm ngram":
        lm = {"lm_text": "the grammar", "order": 2, "dev_perplexity": 12.5, "sentences": 99}
        (ctx.folder / "lm.json").write_text(json.dumps({**lm, "vocabulary": 150}))
    elif stage == "finetune":
        history = trained(100, loss=4.0, dev_wer=0.9)
        (ctx.folder / "training.json").write_text(json.dumps({"history": history}))
    elif stage == "decode":
        decoded(ctx.folder)
    elif stage == "score":
        score_stage.run(ctx, ScoreSettings(bootstrap_samples=200))


@dataclass
class Made:
    """A recipe that ran with made-up trainings.

    Attributes:
        file, recipe: the recipe. changes: of `--set`.
        rows: of its results.json; none where it is not finished.
    """

    file: Path
    exp: Path
    recipe: Recipe
    rows: list[dict[str, Any]]
    changes: Sequence[str]

    steps: Sequence[Step]

    @property
    def folder(self) -> Path:
        return self.exp / self.recipe.name

    def states(self) -> list[StepState]:
        return examine(self.steps, Store(self.exp / "store"), self.folder)

    def page(self, *named: object, changes: Sequence[str] = (), metric: Metric = "wer") -> str:
        """The report of this recipe, or of what is named."""
        if not named:
            named, changes = (self.file,), [*self.changes, *changes]
        return render(collect([str(name) for name in named], self.exp, changes), metric)


@pytest.fixture
def make(
    make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], tmp_path: Path
) -> Callable[..., Made]:
    """`make("section.key=value", ..., last=7)`: run the small recipe up to stage `last`."""

    def made(*changes: str, last: int = 7) -> Made:
        recipe, exp = make_recipe(*changes), tmp_path / "exp"
        steps: dict[int, Step] = {}
        for step in make_plan(recipe):
            inputs = {role: steps[id(source)] for role, source in step.inputs.items()}
            run = partial(work, title=step.title)
            steps[id(step)] = replace(step, inputs=inputs, run=run)
        every = list(steps.values())
        store, links = Store(exp / "store"), exp / recipe.name
        job = Run(every, store, links, None, last, False, "cpu", "vqasr run tiny.yaml")
        job.carry_out()
        rows = []
        if not unfinished(job.examine(), published(every)):
            publish(recipe, every, store, links)
            rows = json.loads((links / "results.json").read_text("utf-8"))
        return Made(tmp_path / "tiny.yaml", exp, recipe, rows, changes, every)

    return made


@pytest.fixture
def restamp() -> Callable[[Path], None]:
    """`restamp(artifact)`: let its stamp tell what its files are now."""

    def stamp(artifact: Path) -> None:
        path = artifact / STAMP
        told = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(told | {"outputs": hash_outputs(artifact)}), "utf-8")

    return stamp


@pytest.fixture
def references() -> dict[str, tuple[str, str]]:
    """By utterance, who speaks, and what was said in `make`."""
    told = zip(REFERENCES.items(), SPEAKERS, strict=True)
    return {name: (speaker, text) for (name, text), speaker in told}


@pytest.fixture
def heard() -> dict[str, dict[str, str]]:
    """By decoder and utterance, what was heard in `make`."""
    return HYPOTHESES


_WHOLE: list[Made] = []


@pytest.fixture
def whole(make: Callable[..., Made]) -> Made:
    """The recipe with all steps done; made once, for tests that only read it."""
    if not _WHOLE:
        _WHOLE.append(make())
    return _WHOLE[0]


class Page(HTMLParser):
    """What a browser sees: the cells of each table, all text, and every element.

    Attributes:
        tables: by caption, rows of the texts of cells; what stands below a figure is apart.
        elements: (tag, attributes) of each.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._rows: list[list[str]] = []
        self._open: list[str] = []
        self._caption = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.elements.append((tag, told))
        self._open.append(tag)
        if tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "small" and self._rows and self._rows[-1]:
            self._rows[-1][-1] += " "
        self._caption = tag == "p" and told.get("class") == "caption"

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:  # elements without an end
            pass
        self._caption = False

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data
        elif self._caption:  # it stands before its table
            self._rows = self.tables[data.strip()] = []

    def table(self, start: str) -> list[list[str]]:
        """The table whose caption starts so."""
        return next(rows for caption, rows in self.tables.items() if caption.startswith(start))


@pytest.fixture
def parse() -> Callable[[str], Page]:
    """`parse(page)`: the page as a browser reads it."""
    return Page
