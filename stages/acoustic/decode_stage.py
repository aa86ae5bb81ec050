"""Stage 6 `decode`: log-probabilities to words, with weights tuned on dev and nowhere else.

Of each split there is a step for the log-probabilities, so that other decoders and weights need no
network again. `decode_dev` and `decode_test` read them. Both write their hypotheses (see `written`)
and weights.json, on dev with every trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.manifest import Manifest
from pipeline.recipe import DecodeSettings
from pipeline.stage import StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.acoustic.search import Decoded, Search

    Cached = Mapping[str, NDArray[np.float32]]

VERSION = 5
LOG_PROBS_VERSION = 1
WEIGHTS = "weights.json"


def compute(ctx: StepContext) -> None:
    """The log-probabilities of a split; inputs as of `finetune.compute_log_probs`.

    Raises:
        RunError: NaN among them.
    """
    from stages.acoustic import decoding
    from stages.acoustic.finetune import compute_log_probs

    decoding.write_log_probs(ctx.folder / decoding.LOG_PROBS, compute_log_probs(ctx, ctx.inputs))


def decode_dev(ctx: StepContext, *, settings: DecodeSettings) -> None:
    """Tune the weights of every decoder on dev.

    Inputs are dev's `log_probs` and `manifest`, and the folders `lm` and `text` of stages 4 and 0.
    Writes weights.json with every trial, and dev's hypotheses.

    Raises:
        pipeline.errors.UserError: an unknown decoder, or a dev utterance without transcript.
        RunError: log-probabilities of other utterances, or a process died.
    """
    from stages.acoustic import decoding, scoring, tuning
    from stages.acoustic import search as searching

    manifest, log_probs = _read(ctx)
    references = scoring.check_references({u.id: u.transcript for u in manifest})
    told: dict[str, Any] = {}
    for name in settings.decoders:
        with _search(ctx, settings, name, log_probs) as search:
            tunable = search.desk.decoder.tunable
            points = tuning.grid(settings) if tunable else [decoding.NO_WEIGHTS]
            work = len(points) * len(tuning.parts_of(references))
            with ctx.progress(work, f"tune {name}", "parts") as progress:
                trials = tuning.tune(search, references, points, progress.update)
            chosen = tuning.best(trials)
            found = searching.decode_split(search, chosen.weights, settings.nbest, lambda _: None)
        told[name] = {
            **chosen.weights._asdict(),
            "beam_tuned": tunable and len(settings.beam) > 1,
            "dev_wer": chosen.wer,
            "at_edge": tuning.at_edge(chosen, settings) if tunable else [],
            "trials": [
                {**t.weights._asdict(), "dev_wer": t.wer, "errors": t.errors} for t in trials
            ],
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


def decode_test(ctx: StepContext, *, settings: DecodeSettings) -> None:
    """Decode a test set with the weights of the dev step, the input `tuned`.

    The other inputs are those of `decode_dev`, of the test set.

    Raises:
        RunError: log-probabilities of other utterances, or no weights for a decoder.
    """
    from stages.acoustic import decoding
    from stages.acoustic import search as searching

    manifest, log_probs = _read(ctx)
    facts = json.loads((ctx.inputs["tuned"] / WEIGHTS).read_text("utf-8"))
    for name in settings.decoders:
        weights = facts["decoders"].get(name)
        if weights is None:
            raise RunError(
                f"The dev step holds no weights for the decoder '{name}'.",
                found=", ".join(facts["decoders"]),
                remedy="run stage 6 with --force",
            )
        point = decoding.Weights(*(weights[key] for key in decoding.Weights._fields))
        parts = len(searching.in_parts(list(log_probs)))
        with (
            _search(ctx, settings, name, log_probs) as search,
            ctx.progress(parts, f"decode {name}", "parts") as progress,
        ):
            found = searching.decode_split(search, point, settings.nbest, progress.update)
        _write(ctx, name, found, manifest)
        weights.pop("trials")
    facts["test_in_lm_text"] = _in_lm_text(ctx, manifest)
    (ctx.folder / WEIGHTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def _read(ctx: StepContext) -> tuple[Manifest, Cached]:
    """The split's utterances and their log-probabilities."""
    from pipeline.manifest import Manifest
    from stages.acoustic import decoding

    manifest = Manifest.load(ctx.inputs["manifest"])
    log_probs = decoding.read_log_probs(ctx.inputs["log_probs"] / decoding.LOG_PROBS)
    decoding.check_matches(log_probs, manifest)
    return manifest, log_probs


def _search(ctx: StepContext, settings: DecodeSettings, name: str, log_probs: Cached) -> Search:
    from stages.acoustic import decoding, search

    job = search.Job(name, ctx.inputs["lm"], settings, ctx.inputs["log_probs"] / decoding.LOG_PROBS)
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

    filled = decoding.read_filled(ctx.inputs["log_probs"] / decoding.LOG_PROBS)
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
    if told["beam_tuned"]:
        line += f", beam {told['beam']}"
    if told["at_edge"]:
        line += f" (best at the edge of decode.{' and decode.'.join(told['at_edge'])})"
    return line
