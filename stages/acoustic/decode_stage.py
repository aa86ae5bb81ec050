"""Stage 6 `decode`: log-probabilities to words, with weights tuned on dev and nowhere else.

`run_dev` and `run_test` are the two kinds of step. Both write, per decoder, `<decoder>.trn`
(`words (utterance-id)`) and `<decoder>.jsonl` (utt_id, speaker, seconds, ref, hyp), and
weights.json; both keep their log-probabilities.
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

    LogProbs = Mapping[str, NDArray[np.floating[Any]]]
    Cached = Mapping[str, NDArray[np.float32]]

VERSION = 2
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
    ctx: StepContext, compute: Callable[[], LogProbs]
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
    """Tune the weights of every decoder on dev; input `lm` is the folder of stage 4.

    Writes weights.json with every trial, and dev's hypotheses.

    Args:
        log_probs: what `cached_log_probs` gave; the trials read its file.

    Raises:
        pipeline.errors.UserError: an unknown decoder, or a dev utterance without transcript.
        RunError: log-probabilities with NaN or of other utterances.
    """
    from stages.acoustic import decoding, scoring, tuning

    references = scoring.check_references({u.id: u.transcript for u in manifest})
    decoding.check_matches(log_probs, manifest)
    told: dict[str, Any] = {}
    for name in settings.decoders:
        decoder = decoding.build(name, ctx.inputs["lm"], settings)
        points = tuning.grid(settings) if decoder.tunable else [(0.0, 0.0)]
        cache = ctx.folder / decoding.LOG_PROBS
        job = tuning.Job(name, ctx.inputs["lm"], settings, cache, references, points)
        with ctx.progress(len(points), f"tune {name}", "trials") as progress:
            trials = tuning.tune(job, progress.update)
        chosen = tuning.best(trials)
        told[name] = {
            "lm_weight": chosen.lm_weight,
            "word_score": chosen.word_score,
            "dev_wer": chosen.wer,
            "at_edge": _at_edge(chosen, settings) if decoder.tunable else [],
            "trials": [[t.lm_weight, t.word_score, t.wer, t.errors] for t in trials],
        }
        texts = decoding.decode_all(decoder, log_probs, (chosen.lm_weight, chosen.word_score))
        _write(ctx, name, texts, manifest)
        ctx.say(_line(name, told[name], decoder.tunable))
    facts = {"dev_seconds": manifest.seconds, "dev_utterances": len(manifest), "decoders": told}
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
        decoder = decoding.build(name, ctx.inputs["lm"], settings)
        with ctx.progress(len(log_probs), f"decode {name}", "utterances") as progress:
            pair = weights["lm_weight"], weights["word_score"]
            texts = decoding.decode_all(decoder, log_probs, pair, progress.update)
        _write(ctx, name, texts, manifest)
        weights.pop("trials")
    (ctx.folder / WEIGHTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def _write(ctx: StepContext, name: str, texts: Mapping[str, str], manifest: Manifest) -> None:
    from stages.acoustic import decoding

    trn = [f"{texts[u.id]} ({u.id})\n".lstrip() for u in manifest]
    (ctx.folder / f"{name}.trn").write_text("".join(trn), "utf-8")
    rows = [
        {
            "utt_id": u.id,
            "speaker": u.speaker,
            "seconds": u.seconds,
            "ref": u.transcript,
            "hyp": texts[u.id],
        }
        for u in manifest
    ]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (ctx.folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    share = decoding.empty_share(texts)
    if share > decoding.BLANK_SHARE:
        ctx.say(
            f"WARNING: the model emits only blanks: {share:.0%} of the {name} hypotheses are "
            "empty. It needs more updates (finetune.updates) or more labels."
        )


def _at_edge(chosen: Any, settings: DecodeSettings) -> list[str]:
    """The weights whose best value is the grid's largest or smallest: a wider grid may help."""
    edges = []
    for key, value, tried in (
        ("lm_weights", chosen.lm_weight, settings.lm_weights),
        ("word_scores", chosen.word_score, settings.word_scores),
    ):
        outer = {max(tried)} if min(tried) == 0 else {min(tried), max(tried)}
        if len(set(tried)) > 1 and value in outer:
            edges.append(key)
    return edges


def _line(name: str, told: Mapping[str, Any], tunable: bool) -> str:
    line = f"{name}: {told['dev_wer']:.1%} WER on dev"
    if tunable:
        line += f" with lm_weight {told['lm_weight']:g} and word_score {told['word_score']:g}"
    if told["at_edge"]:
        line += f" (best at the edge of decode.{' and decode.'.join(told['at_edge'])})"
    return line
