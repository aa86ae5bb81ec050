"""Stage 6 `decode`: log-probabilities to words, with weights tuned on dev and nowhere else.

`run_dev` and `run_test` are the two kinds of step. Both write their hypotheses (see `written`)
and weights.json, on dev with every trial, and keep their log-probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.recipe import DecodeSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.acoustic.decoding import Outputs
    from stages.acoustic.search import Decoded, Search

    Cached = Mapping[str, NDArray[np.float32]]

VERSION = 4
WEIGHTS = "weights.json"


def decode_dev(ctx: StepContext, *, settings: DecodeSettings) -> None:
    """Stage 6 on dev: log-probabilities, then the search for decoder weights."""
    from pipeline.manifest import Manifest
    from stages.acoustic.finetune import compute_log_probs

    log_probs = cached_log_probs(ctx, lambda: compute_log_probs(ctx, ctx.inputs))
    run_dev(ctx, settings, log_probs, Manifest.load(ctx.inputs["manifest"]))


def decode_test(ctx: StepContext, *, settings: DecodeSettings) -> None:
    """Stage 6 on a test set, with the weights found on dev."""
    from pipeline.manifest import Manifest
    from stages.acoustic.finetune import compute_log_probs

    log_probs = cached_log_probs(ctx, lambda: compute_log_probs(ctx, ctx.inputs))
    run_test(ctx, settings, log_probs, Manifest.load(ctx.inputs["manifest"]))


def cached_log_probs(
    ctx: StepContext, compute: Callable[[], Outputs]
) -> dict[str, NDArray[np.float32]]:
    """The step's log-probabilities by utterance: those of a killed run, else what is computed.

    The step's folder belongs to one set of inputs, so what lies there is what would be computed.

    Raises:
        RunError: NaN among what was computed.
    """
    from safetensors import SafetensorError

    from stages.acoustic import decoding

    cache = ctx.folder / decoding.LOG_PROBS
    if cache.is_file():
        try:
            return decoding.read_log_probs(cache)
        except SafetensorError as error:
            ctx.say(f"{cache.name} of an earlier run is damaged ({error}); computed again")
    decoding.write_log_probs(cache, compute())
    return decoding.read_log_probs(cache)


def run_dev(
    ctx: StepContext, settings: DecodeSettings, log_probs: Cached, manifest: Manifest
) -> None:
    """Tune the weights of every decoder on dev; inputs `lm` and `text` are folders of 4 and 0.

    Writes weights.json with every trial, and dev's hypotheses.

    Args:
        log_probs: what `cached_log_probs` gave; processes read its file.

    Raises:
        pipeline.errors.UserError: an unknown decoder, or a dev utterance without transcript.
        RunError: log-probabilities with NaN or of other utterances, or a process died.
    """
    from stages.acoustic import decoding, scoring, tuning
    from stages.acoustic import search as searching

    references = scoring.check_references({u.id: u.transcript for u in manifest})
    decoding.check_matches(log_probs, manifest)
    told: dict[str, Any] = {}
    for name in settings.decoders:
        with _search(ctx, settings, name, log_probs) as search:
            tunable = search.desk.decoder.tunable
            points = tuning.grid(settings) if tunable else [(0.0, 0.0)]
            work = len(points) * len(tuning.parts_of(references))
            with ctx.progress(work, f"tune {name}", "parts") as progress:
                trials = tuning.tune(search, references, points, progress.update)
            chosen = tuning.best(trials)
            weights = chosen.lm_weight, chosen.word_score
            found = searching.decode_split(search, weights, settings.nbest, lambda _: None)
        told[name] = {
            "lm_weight": chosen.lm_weight,
            "word_score": chosen.word_score,
            "dev_wer": chosen.wer,
            "at_edge": tuning.at_edge(chosen, settings) if tunable else [],
            "trials": [[t.lm_weight, t.word_score, t.wer, t.errors] for t in trials],
        }
        _write(ctx, name, found, manifest)
        ctx.say(_line(name, told[name], tunable))
    facts = {
        "dev_seconds": manifest.seconds,
        "dev_utterances": len(manifest),
        "dev_in_lm_text": _in_lm_text(ctx, manifest),
        "decoders": told,
    }
    (ctx.folder / WEIGHTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def run_test(
    ctx: StepContext,
    settings: DecodeSettings,
    log_probs: Cached,
    manifest: Manifest,
    tuned: Path | None = None,
) -> None:
    """Decode a test set with the weights of the dev step (folder `tuned`, else that input).

    Args:
        log_probs: what `cached_log_probs` gave.

    Raises:
        RunError: log-probabilities with NaN or of other utterances, or no weights for a decoder.
    """
    from stages.acoustic import decoding
    from stages.acoustic import search as searching

    decoding.check_matches(log_probs, manifest)
    facts = json.loads(((tuned or ctx.inputs["tuned"]) / WEIGHTS).read_text("utf-8"))
    for name in settings.decoders:
        weights = facts["decoders"].get(name)
        if weights is None:
            raise RunError(
                f"The dev step holds no weights for the decoder '{name}'.",
                found=", ".join(facts["decoders"]),
                remedy="run stage 6 with --force",
            )
        pair = weights["lm_weight"], weights["word_score"]
        parts = len(searching.in_parts(list(log_probs)))
        with (
            _search(ctx, settings, name, log_probs) as search,
            ctx.progress(parts, f"decode {name}", "parts") as progress,
        ):
            found = searching.decode_split(search, pair, settings.nbest, progress.update)
        _write(ctx, name, found, manifest)
        weights.pop("trials")
    facts["test_in_lm_text"] = _in_lm_text(ctx, manifest)
    (ctx.folder / WEIGHTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def _search(ctx: StepContext, settings: DecodeSettings, name: str, log_probs: Cached) -> Search:
    from stages.acoustic import decoding, search

    job = search.Job(name, ctx.inputs["lm"], settings, ctx.folder / decoding.LOG_PROBS)
    return search.Search(job, log_probs, search.allowed())


def _in_lm_text(ctx: StepContext, manifest: Manifest) -> int | None:
    """None where the n-gram was given: the text that it has read is not here."""
    from stages.acoustic.lm_stage import LM_FACTS, LM_TEXT
    from stages.acoustic.overlap import in_text

    facts = ctx.inputs["lm"] / LM_FACTS
    if facts.is_file() and json.loads(facts.read_text("utf-8")).get("sentences", 0) is None:
        return None
    return in_text(manifest, ctx.inputs["text"] / LM_TEXT)


def _write(ctx: StepContext, name: str, found: Mapping[str, Decoded], manifest: Manifest) -> None:
    from stages.acoustic import decoding, written

    filled = decoding.read_filled(ctx.folder / decoding.LOG_PROBS)
    written.write(ctx.folder, name, found, manifest, filled)
    share = decoding.empty_share({i: decoded.text for i, decoded in found.items()})
    if share > decoding.BLANK_SHARE:
        ctx.say(
            f"WARNING: the model emits only blanks: {share:.0%} of the {name} hypotheses are "
            "empty. It needs more updates (finetune.updates) or more labels."
        )


def _line(name: str, told: Mapping[str, Any], tunable: bool) -> str:
    line = f"{name}: {told['dev_wer']:.1%} WER on dev"
    if tunable:
        line += f" with lm_weight {told['lm_weight']:g} and word_score {told['word_score']:g}"
    if told["at_edge"]:
        line += f" (best at the edge of decode.{' and decode.'.join(told['at_edge'])})"
    return line
