"""The model card: what the model is, how well it does, how it was trained, how it is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.runner import Run
from pipeline.stage import Step
from stages.use.chosen import Chosen

if TYPE_CHECKING:
    from stages.acoustic.results import Results

HEAD = """\
---
# Choose a licence for the weights; that of your training speech and text may bind you.
license:
library_name: vqasr
pipeline_tag: automatic-speech-recognition
tags: [speech, ctc, discrete-bert, vqasr]
---
"""
USE = """\
## Use

```sh
vqasr transcribe DIR recording.flac        # or a folder; --format text, json or srt
```

```python
from stages.use.transcriber import Transcriber
transcriber = Transcriber.load("DIR")
print(transcriber.transcribe("recording.flac").text)
```

vqasr reads the folder as data and runs no code of it."""
NOT_WITHOUT = "It cannot be used without vqasr: there is no modelling file for its front-end."
WITHOUT = """\
Without vqasr, with torch, transformers and soundfile alone: greedily, speech of 16 kHz. This runs
`modeling_vqasr.py` of this folder, a copy of the file in vqasr's repository; read it first.

```python
from transformers import AutoModel
model = AutoModel.from_pretrained("DIR", trust_remote_code=True)
print(model.transcribe("recording.wav"))
```"""


def text(chosen: Chosen, job: Run, results: Results, modelling: bool) -> str:
    """README.md of the exported folder; `modelling`: there is a modelling file in it."""
    parts = [HEAD + _title(chosen), _what(chosen), USE, WITHOUT if modelling else NOT_WITHOUT]
    parts += _errors(results)
    parts += ["## How it was trained", _training(chosen, job), "The recipe, with all its settings:"]
    parts += [f"```yaml\n{_recipe(chosen)}```", _versions(chosen, job)]
    return "\n\n".join(parts) + "\n"


def _title(chosen: Chosen) -> str:
    place = [f"{chosen.model.budget} of labels"]
    place += [f"fold {chosen.model.fold}"] if chosen.model.fold else []
    return f"# {chosen.recipe.name}: speech recognition from {', '.join(place)}"


def _what(chosen: Chosen) -> str:
    from stages.use.folder import GREEDY

    decoders = [name for name in chosen.recipe.decode.decoders if name != GREEDY]
    words = (
        f"Words are found by {decoders[0]} with a {chosen.recipe.lm.order}-gram, or greedily."
        if decoders
        else "Words are found greedily."
    )
    return (
        f"A CTC model on the front-end `{chosen.recipe.frontend_name}` of "
        "[Discrete BERT](https://arxiv.org/abs/1911.03912) as vqasr trains it. Speech of any "
        f"sample rate is taken to 16 kHz, one channel. {words}"
    )


def _errors(results: Results) -> list[str]:
    from stages.acoustic.notes import notes
    from stages.acoustic.report import sizes
    from stages.acoustic.summary import summarise, systems
    from stages.acoustic.tables import compare, format_table

    parts = ["## Word error rate in %", format_table(compare([results]), "md")]
    for test_set in dict.fromkeys(row["test_set"] for row in results.rows):
        mine = [row for row in results.rows if row["test_set"] == test_set]
        parts.append(f"{test_set}. {sizes(mine)}")
    parts.append(notes(results.rows, [summarise(system) for system in systems([results])]))
    return parts


def _training(chosen: Chosen, job: Run) -> str:
    """Hours, words and seeds, a line each."""

    def facts(step: Step, name: str = "summary.json") -> dict[str, Any]:
        told: dict[str, Any] = json.loads((job.store.path(step) / name).read_text("utf-8"))
        return told

    lines = []
    recipe, taken_over = chosen.recipe, []
    if chosen.quantizer is not None and recipe.quantizer.from_ is not None:
        taken_over.append("the quantizer")
    if "bert" in chosen.model.inputs and recipe.bert.from_ is not None:
        taken_over.append("the BERT")
    if taken_over:
        lines.append(f"Pretrained elsewhere and taken over: {', '.join(taken_over)}")
    if chosen.pretraining and "the quantizer" not in taken_over:
        lines.append(
            f"Speech without transcripts: {_hours([facts(s) for s in chosen.pretraining])}"
        )
    budget = facts(chosen.model.inputs["budget"])
    lines.append(
        f"Speech with transcripts: {budget['speech_seconds'] / 60:.1f} min, "
        f"{budget['utterances']} utterances, {budget['speakers']} speakers"
    )
    lm = facts(chosen.lm, "lm.json")
    lines.append(f"Language model: {lm['words']:,} words of text ({lm['lm_text']})")
    seeds = {"pretraining": chosen.recipe.seed, "fine-tuning": chosen.model.seed}
    lines.append("Seeds: " + ", ".join(f"{name} {seed}" for name, seed in seeds.items()))
    return "\n".join(f"- {line}." for line in lines)


def _hours(summaries: Sequence[dict[str, Any]]) -> str:
    seconds = sum(told["seconds"] for told in summaries)
    speakers = sum(told["speakers"] for told in summaries)
    return f"{seconds / 3600:.2f} h, {speakers} speakers (counted per split)"


def _recipe(chosen: Chosen) -> str:
    """What results depend on, as YAML: no paths, devices or numbers of threads."""
    recipe = chosen.recipe
    sections = ("corpus", "quantizer", "discretize", "bert", "text", "lm", "frontend", "decode")
    told: dict[str, Any] = {"name": recipe.name, "budget": chosen.model.budget}
    told["seed"] = recipe.seed
    told |= {name: getattr(recipe, name).signed() for name in sections}
    told["finetune"] = dict(chosen.model.settings)
    return yaml.safe_dump(_without_folders(told), sort_keys=False, allow_unicode=True, width=100)


def _without_folders(value: Any) -> Any:
    """Files and folders of the training machine by their names alone."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return Path(value).name if is_path else value


def _versions(chosen: Chosen, job: Run) -> str:
    stamp = job.store.stamp(chosen.model)
    told = stamp.versions if stamp else {}
    listed = ", ".join(f"{name} {version}" for name, version in told.items())
    return f"Made with {listed}."
