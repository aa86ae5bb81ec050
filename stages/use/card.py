"""The model card: what the model is, how well it does, how it was trained, how it is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline import audio, plugins
from pipeline.recipe import FRONT_ENDS
from pipeline.runner import Run
from pipeline.stage import Step
from stages.use.chosen import Chosen
from stages.use.folder import GREEDY, Hearing

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
Without vqasr, with torch, transformers and soundfile alone (`torch>=2.10`, `transformers>=5.0,<6`):
greedily, speech of 16 kHz. This runs `modeling_vqasr.py` of this folder, a copy of the file in
vqasr's repository; read it first.

```python
from transformers import AutoModel
model = AutoModel.from_pretrained("DIR", trust_remote_code=True)
print(model.transcribe("recording.wav"))
```

Its words are those of vqasr's greedy search"""
IN_FP32 = """\
, but for a few: vqasr computes the units of this model in bf16, as in its training
(`unit_precision` in `preprocessor_config.json`), and this file in fp32, where the unit of a frame
may be another."""
RECIPE = """\
<details><summary>The recipe, with all its settings</summary>

```yaml
{}```

</details>"""


def text(chosen: Chosen, job: Run, results: Results, hearing: Hearing, modelling: bool) -> str:
    """README.md of the exported folder; `modelling`: there is a modelling file in it."""
    parts = [HEAD + _title(chosen, job), _what(chosen, job, hearing), USE]
    parts.append(without_vqasr(hearing) if modelling else NOT_WITHOUT)
    parts += _errors(results)
    parts += ["## How it was trained", _training(chosen, job), RECIPE.format(_recipe(chosen))]
    parts.append(_versions(chosen, job))
    return "\n\n".join(parts) + "\n"


def without_vqasr(hearing: Hearing) -> str:
    """How the folder's modelling file is used, and whether its units are quite vqasr's."""
    return WITHOUT + (IN_FP32 if hearing.unit_precision == "bf16" else ".")


def _facts(step: Step, job: Run, name: str = "summary.json") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((job.store.path(step) / name).read_text("utf-8"))
    return told


def _title(chosen: Chosen, job: Run) -> str:
    minutes = _facts(chosen.model.inputs["budget"], job)["speech_seconds"] / 60
    place = [f"budget `{chosen.model.budget}`"]
    place += [f"fold {chosen.model.fold}"] if chosen.model.fold else []
    return (
        f"# {chosen.recipe.name}: speech recognition, trained on {minutes:.1f} min of transcribed "
        f"speech ({', '.join(place)})"
    )


def _what(chosen: Chosen, job: Run, hearing: Hearing) -> str:
    """What it is made of, what it hears, and what it can write."""
    recipe = chosen.recipe
    module = plugins.find(FRONT_ENDS, recipe.frontend_name, "front-end")
    described = (module.__doc__ or "").partition("\n")[0].rstrip(".")
    if described[1:2].islower():  # else it starts with an acronym
        described = described[0].lower() + described[1:]
    kind = f"A CTC model on the front-end `{recipe.frontend_name}`"
    band = ""
    if hearing.bandwidth_hz is not None:
        band = f"; what lies above {hearing.bandwidth_hz} Hz is taken away"
    seconds = hearing.longest_samples / audio.SAMPLE_RATE_HZ
    heard = (
        f"It hears one channel at 16 kHz, to which vqasr brings any recording{band}. Recordings "
        f"longer than {seconds:.1f} s are cut in pauses."
    )
    lm = _facts(chosen.lm, job, "lm.json")
    vocabulary = lm["vocabulary"]
    decoders = [name for name in recipe.decode.decoders if name != GREEDY]
    written = "It writes lower case without punctuation. "
    if recipe.text.units == "words":
        written += f"It knows {vocabulary} words and can write no other."
    elif decoders:
        written += (
            f"Words are found by `{decoders[0]}` with a {lm['order']}-gram and a lexicon of "
            f"{vocabulary:,} words, beyond which it writes none; or greedily, which spells freely."
        )
    else:
        written += "Words are spelt greedily."
    model = f"{kind}: {described}. Made by vqasr after [Discrete BERT](https://arxiv.org/abs/1911.03912)."
    return "\n\n".join([model, f"{heard} {written}"])


def _errors(results: Results) -> list[str]:
    from stages.acoustic.notes import notes
    from stages.acoustic.report import sizes
    from stages.acoustic.summary import summarise, systems
    from stages.acoustic.tables import compare, format_table

    parts = ["## Word error rate in %", format_table(compare([results]), "md")]
    for test_set in dict.fromkeys(row["test_set"] for row in results.rows):
        mine = [row for row in results.rows if row["test_set"] == test_set]
        parts.append(f"Test set `{test_set}`. {sizes(mine)}")
    parts.append(notes(results.rows, [summarise(system) for system in systems([results])]))
    return parts


def _training(chosen: Chosen, job: Run) -> str:
    """Hours, words and seeds, a line each."""
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
            "Speech that was heard without transcripts: "
            f"{_hours([_facts(s, job) for s in chosen.pretraining])}"
        )
    budget = _facts(chosen.model.inputs["budget"], job)
    lines.append(
        f"Speech with transcripts: {budget['speech_seconds'] / 60:.1f} min, "
        f"{budget['utterances']} utterances, {budget['speakers']} speakers"
    )
    lm = _facts(chosen.lm, job, "lm.json")
    size = "given" if lm["words"] is None else f"{lm['words']:,} words of text"
    lines.append(f"Language model: {size} ({lm['lm_text']})")
    seeds = {"pretraining": chosen.recipe.seed, "fine-tuning": chosen.model.seed}
    lines.append("Seeds: " + ", ".join(f"{name} {seed}" for name, seed in seeds.items()))
    return "\n".join(f"- {line}." for line in lines)


def _hours(summaries: Sequence[dict[str, Any]]) -> str:
    seconds = sum(told["seconds"] for told in summaries)
    speakers = sum(told["speakers"] for told in summaries)
    length = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
    counted = " (counted per split)" if len(summaries) > 1 else ""
    return f"{length}, {speakers} speakers{counted}"


def _recipe(chosen: Chosen) -> str:
    """What results depend on, as YAML: no paths, devices or numbers of threads.

    Sections that this model is not made with are left out.
    """
    recipe, sections = chosen.recipe, ["corpus"]
    sections += ["quantizer"] if chosen.quantizer is not None else []
    sections += ["discretize"] if chosen.vocabulary is not None else []
    sections += ["bert"] if "bert" in chosen.model.inputs else []
    sections += ["text", "lm", "frontend", "decode"]
    told: dict[str, Any] = {"name": recipe.name, "budget": chosen.model.budget}
    told["seed"] = recipe.seed
    told |= {name: getattr(recipe, name).signed() for name in sections}
    told["finetune"] = dict(chosen.model.settings)
    return yaml.dump(
        _without_folders(told), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


class _Dumper(yaml.SafeDumper):
    """Lists of numbers or names on a line."""


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(value, dict | list) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flat)


_Dumper.add_representer(list, _list)


def _without_folders(value: Any) -> Any:
    """Files and folders of the training machine by their names alone; keys as in a recipe."""
    if isinstance(value, dict):
        return {key.rstrip("_"): _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return Path(value).name if is_path else value


def _versions(chosen: Chosen, job: Run) -> str:
    stamp = job.store.stamp(chosen.model)
    told = stamp.versions if stamp else {}
    listed = ", ".join(f"{name} {version}" for name, version in told.items())
    return f"Made with {listed}."
