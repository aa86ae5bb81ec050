"""A finished model with all that it takes to use it, in one folder of HuggingFace's form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.model_folder import BERT_KEYS, CONFIG, WEIGHTS
from pipeline.runner import Run
from pipeline.store import PARTIAL, STAMP, sync
from stages.use import folder as places
from stages.use.chosen import Chosen
from stages.use.folder import Decoding, Hearing

UNFINISHED = "unfinished-export"  # in a .partial folder: it is ours, and may go
LM_FILES = ("targets.json", "pieces.model", "lexicon.txt", "lm.bin", "lm.json")


def export(chosen: Chosen, job: Run, folder: Path) -> None:
    """Write `folder`, which appears when it is whole.

    Args:
        job: the recipe's run, as `vqasr run` would make it.

    Raises:
        UserError: there is something in `folder` already, or it cannot be made.
        RunError: an artifact is damaged.
    """
    for step in chosen.copied:
        rebuild = f"{job.command} --stage {step.number} --stop-stage {step.number} --force"
        job.store.verify(step, rebuild)
    with _whole_or_not_at_all(folder) as partial:
        _write(chosen, job, partial)


def refuse_folder(folder: Path) -> None:
    """Raise UserError if `folder` is not free to be written."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is there, and no folder.", remedy="give another folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"{folder} holds something already.",
            constraint="a folder that is empty or not there",
            remedy="give another folder, or empty it",
        )


@contextmanager
def _whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write in, which gets its name at the end."""
    refuse_folder(folder)
    folder = folder.resolve()
    partial = folder.with_name(folder.name + PARTIAL)
    if partial.exists() and not (partial / UNFINISHED).is_file():
        raise UserError(f"{partial} is in the way.", remedy="move it, or give another folder")
    try:
        if partial.exists():
            shutil.rmtree(partial)  # of an export that was killed
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}.") from error
    (partial / UNFINISHED).touch()
    try:
        yield partial
        (partial / UNFINISHED).unlink()
        partial.rename(folder)  # over an empty folder, if there is one
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(chosen: Chosen, job: Run, folder: Path) -> None:
    from stages.acoustic import publish, results
    from stages.acoustic.model import read
    from stages.acoustic.windows import refuse_few_positions
    from stages.use import card

    store = job.store
    _copy_model(store.path(chosen.model), folder)
    refuse_few_positions(read(folder))
    if chosen.quantizer is not None:
        source = store.path(chosen.quantizer)
        _copy(source, folder / places.QUANTIZER, {"config.json", "codebook.json"}, ".safetensors")
        (folder / places.QUANTIZER / "predictor.safetensors").unlink(missing_ok=True)
    if chosen.vocabulary is not None:
        source = store.path(chosen.vocabulary)
        names = {path.name for path in source.glob("*.json")} - {STAMP}
        _copy(source, folder / places.UNITS, names, ".safetensors")
    _copy(store.path(chosen.lm), folder / places.LM, set(LM_FILES))
    _decoding(chosen, job).write(folder)
    hearing = _hearing(chosen, job)
    hearing.write(folder)
    scored = results.gather(publish.scored(chosen.recipe, s, store) for s in chosen.scores)
    text = json.dumps(scored.rows, ensure_ascii=False, indent=1) + "\n"
    (folder / results.RESULTS).write_text(text, "utf-8")
    modelling = (folder / places.MODELLING).exists()
    told = card.text(chosen, job, scored, hearing, modelling)
    (folder / places.CARD).write_text(told, "utf-8")


def _copy(source: Path, to: Path, names: set[str], suffix: str | None = None) -> None:
    to.mkdir()
    for path in sorted(source.iterdir()):
        if path.name in names or (suffix and path.suffix == suffix):
            shutil.copyfile(path, to / path.name)


def _copy_model(source: Path, to: Path) -> None:
    """The weights as they are; of the config what decides numbers, and no path of this machine."""
    shutil.copyfile(source / WEIGHTS, to / WEIGHTS)
    told = json.loads((source / CONFIG).read_text("utf-8"))
    if places.has_modelling_file(told):
        shutil.copyfile(Path(__file__).with_name(places.MODELLING), to / places.MODELLING)
        module = Path(places.MODELLING).stem
        told["architectures"] = ["VqasrModel"]
        told["auto_map"] = {
            "AutoConfig": f"{module}.VqasrConfig",
            "AutoModel": f"{module}.VqasrModel",
        }
    (to / CONFIG).write_text(json.dumps(_bare(told), indent=1, sort_keys=True) + "\n", "utf-8")


def _bare(told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    kept = {}
    for name, inner in told.items():
        if name == "bert" and isinstance(inner, dict):
            inner = {key: value for key, value in inner.items() if key in BERT_KEYS}
        if name != "_name_or_path":
            kept[name] = _bare(inner)
    return kept


def _decoding(chosen: Chosen, job: Run) -> Decoding:
    """The recipe's first decoder with a language model, or else greedy."""
    from stages.acoustic.decode_stage import WEIGHTS as TUNED

    told = json.loads((job.store.path(chosen.tuned) / TUNED).read_text("utf-8"))["decoders"]
    settings = chosen.recipe.decode
    name = next((n for n in settings.decoders if n != places.GREEDY), places.GREEDY)
    weights = told[name]
    return Decoding(
        decoder=name,
        lm_weight=float(weights["lm_weight"]),
        word_score=float(weights["word_score"]),
        beam=weights["beam"] or max(settings.beam),  # greedy has none
        beam_threshold=settings.beam_threshold,
        dev_wer=weights["dev_wer"],
    )


def _hearing(chosen: Chosen, job: Run) -> Hearing:
    precision = "fp32"
    if chosen.units is not None:
        from stages.units.corpus import read_facts

        facts = read_facts(job.store.path(chosen.units))
        precision = str(facts.get("precision", precision))
    bandwidth_hz = chosen.recipe.corpus.test_bandwidth_hz
    return Hearing(bandwidth_hz=bandwidth_hz, unit_precision=precision)
