"""Stage 6 on made-up log-probabilities: cache, tuning, hypotheses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RunError, UserError
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import DecodeSettings, LmSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import decode_stage, decoding, finetune, lm_stage, scoring
from stages.acoustic.targets import Targets

LINES = ["turn left", "turn right", "go now", "turn left now", "go right", "stop now"]
SETTINGS = DecodeSettings(lm_weights=[0.0, 0.5, 1.0], word_scores=[-1.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, folder = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("lm")
    (source / "lm_text.txt").write_text("\n".join(LINES) + "\n")
    (source / "lm_text.json").write_text('{"name": "toy", "sentences": 6}')
    Manifest([], source).write()
    ctx = StepContext(folder, {"text": source, "dev": source}, "cpu", folder)
    lm_stage.make_ngram(ctx, TextSettings(), LmSettings(order=2))
    (folder / "lm_text.txt").write_text((source / "lm_text.txt").read_text())
    return folder


def manifest(folder: Path, transcripts: list[str]) -> Manifest:
    return Manifest(
        [
            Utterance(f"u{i}", f"s{i % 2}", f"{i}.wav", True, 16_000, 1.0, text)
            for i, text in enumerate(transcripts)
        ],
        folder,
    )


def spoken(lm: Path, transcripts: list[str], noise: float = 0.0) -> dict[str, np.ndarray]:
    """Log-probabilities that spell the transcripts, more or less clearly."""
    targets, draw = Targets.load(lm), np.random.default_rng(0)
    outputs = {}
    for i, text in enumerate(transcripts):
        path = [v for t in targets.encode(text) for v in (t, t, 0)] or [0]
        logits = draw.normal(size=(len(path), len(targets))) * noise
        logits[np.arange(len(path)), path] += 6.0
        outputs[f"u{i}"] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return outputs


def outputs(log_probs: dict[str, Any]) -> decoding.Outputs:
    return decoding.Outputs(log_probs, {i: float(len(found)) for i, found in log_probs.items()})


def context(folder: Path, lm: Path) -> StepContext:
    folder.mkdir()
    inputs = {"lm": lm, "text": lm}
    inputs |= {x: folder.with_name(f"{folder.name}-{x}") for x in ("log_probs", "manifest")}
    return StepContext(folder, inputs, "cpu", folder)


def give(ctx: StepContext, log_probs: Any, of: Manifest) -> None:
    """What the step reads of a split."""
    for name in ("log_probs", "manifest"):
        ctx.inputs[name].mkdir()
    decoding.write_log_probs(ctx.inputs["log_probs"] / decoding.LOG_PROBS, outputs(log_probs))
    Manifest(list(of), ctx.inputs["manifest"]).write()


def run_dev(ctx: StepContext, settings: DecodeSettings, log_probs: Any, of: Manifest) -> None:
    give(ctx, log_probs, of)
    decode_stage.decode_dev(ctx, settings=settings)


def run_test(
    ctx: StepContext, settings: DecodeSettings, log_probs: Any, of: Manifest, tuned: Path
) -> None:
    give(ctx, log_probs, of)
    inputs = {**ctx.inputs, "tuned": tuned}
    decode_stage.decode_test(replace(ctx, inputs=inputs), settings=settings)


def rows(folder: Path, decoder: str) -> list[dict[str, object]]:
    return [json.loads(x) for x in (folder / f"{decoder}.jsonl").read_text().splitlines()]


def test_log_probabilities_survive_their_cache_bit_for_bit(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        i: draw.normal(size=(t, 5)).astype(np.float32)
        for i, t in (("b/2", 3), ("a 1", 0), ("é", 7))
    }
    decoding.write_log_probs(tmp_path / "first", outputs(arrays))
    decoding.write_log_probs(tmp_path / "second", outputs(dict(reversed(arrays.items()))))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    back = decoding.read_log_probs(tmp_path / "first")
    assert list(back) == ["a 1", "b/2", "é"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    assert decoding.read_filled(tmp_path / "first") == {"a 1": 0.0, "b/2": 3.0, "é": 7.0}
    assert not (tmp_path / "first.part").exists()


def test_nan_is_refused_by_utterance(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="u7"):
        decoding.write_log_probs(tmp_path / "x", outputs({"u7": np.array([[0.0, np.nan]])}))


def test_clear_speech_is_written_as_said(tmp_path: Path, lm: Path) -> None:
    said = ["turn left", "go right", "stop now"]
    ctx = context(tmp_path / "dev", lm)
    run_dev(ctx, SETTINGS, spoken(lm, said), manifest(tmp_path, said))
    for decoder in ("greedy", "lexicon_beam"):
        assert [row["hyp"] for row in rows(ctx.folder, decoder)] == said
        trn = (ctx.folder / f"{decoder}.trn").read_text().splitlines()
        assert trn == [f"{text} (u{i})" for i, text in enumerate(said)]
    weights = json.loads((ctx.folder / "weights.json").read_text())
    beam = weights["decoders"]["lexicon_beam"]
    assert (beam["lm_weight"], beam["word_score"], beam["dev_wer"]) == (0, 0, 0)
    assert len(beam["trials"]) == 9
    assert len(weights["decoders"]["greedy"]["trials"]) == 1
    assert (weights["dev_seconds"], weights["dev_utterances"]) == (3.0, 3)


def test_words_are_written_with_their_times(tmp_path: Path, lm: Path) -> None:
    """A letter or boundary takes two frames and a blank: 300 ms, where a second has ten frames."""
    ctx = context(tmp_path / "dev", lm)
    log_probs = spoken(lm, ["go now"])
    assert len(log_probs["u0"]) == 18
    of = Manifest([Utterance("u0", "s", "0.wav", True, 28_800, 1.0, "go now")], tmp_path)
    run_dev(ctx, SETTINGS, log_probs, of)
    for decoder in ("greedy", "lexicon_beam"):
        first, second = (
            x.split() for x in (ctx.folder / f"{decoder}.ctm").read_text().split("\n")[:2]
        )
        assert first[:5] == ["u0", "1", "0.000", "0.500", "go"]
        assert second[:5] == ["u0", "1", "0.900", "0.800", "now"]
        assert 0.9 < float(first[5]) <= 1


@pytest.mark.case(24)
def test_sentences_in_the_text_of_the_language_model_are_counted(tmp_path: Path, lm: Path) -> None:
    said = ["turn left", "go left", "turn left", "stop now"]
    dev = context(tmp_path / "dev", lm)
    run_dev(dev, SETTINGS, spoken(lm, said), manifest(tmp_path, said))
    test = context(tmp_path / "test", lm)
    run_test(test, SETTINGS, spoken(lm, said[1:3]), manifest(tmp_path, said[1:3]), dev.folder)
    facts = json.loads((test.folder / "weights.json").read_text())
    assert (facts["dev_in_lm_text"], facts["test_in_lm_text"]) == (3, 1)


def test_as_many_hypotheses_are_written_as_asked_for(tmp_path: Path, lm: Path) -> None:
    said = ["turn left now", "go right"]
    ctx = context(tmp_path / "dev", lm)
    settings = SETTINGS.model_copy(update={"nbest": 3})
    run_dev(ctx, settings, spoken(lm, said, noise=2.0), manifest(tmp_path, said))
    weights = json.loads((ctx.folder / "weights.json").read_text())["decoders"]["lexicon_beam"]
    for decoder, count in (("greedy", 1), ("lexicon_beam", 3)):
        best = [row["hyp"] for row in rows(ctx.folder, decoder)]
        lists = rows(ctx.folder, f"{decoder}.nbest")
        assert [row["utt_id"] for row in lists] == ["u0", "u1"]
        for row, text in zip(lists, best, strict=True):
            found: Any = row["nbest"]
            assert found[0]["hyp"] == text
            assert len({h["hyp"] for h in found}) == len(found) == count
            totals = [h["total"] for h in found]
            assert totals == sorted(totals, reverse=True)
            for h in found:
                total = h["acoustic"] + weights["word_score"] * h["words"]
                total += weights["lm_weight"] * h["lm"] if h["lm"] is not None else 0.0
                if decoder == "lexicon_beam":
                    assert h["total"] == pytest.approx(total, abs=1e-4)
                assert h["words"] == len(h["hyp"].split())


def test_test_sets_use_the_weights_of_dev(tmp_path: Path, lm: Path) -> None:
    said = ["turn left", "go right"]
    log_probs = spoken(lm, said, noise=2.5)
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    results = {}
    for word_score in (0.0, -50.0):
        weights = {"lm_weight": 0.5, "word_score": word_score, "beam": 50}
        weights |= {"dev_wer": 0.1, "trials": []}
        told = {"dev_seconds": 9.0, "dev_utterances": 9, "decoders": {"lexicon_beam": weights}}
        (tuned / "weights.json").write_text(json.dumps(told))
        ctx = context(tmp_path / f"test{word_score}", lm)
        settings = SETTINGS.model_copy(update={"decoders": ["lexicon_beam"]})
        run_test(ctx, settings, log_probs, manifest(tmp_path, said), tuned)
        results[word_score] = [row["hyp"] for row in rows(ctx.folder, "lexicon_beam")]
    assert results[0.0] == said
    assert results[-50.0] == ["", ""]  # no word is worth its price


def test_another_run_gives_the_same_bytes(tmp_path: Path, lm: Path) -> None:
    said = ["turn left now", "go right", "turn right"]
    folders = []
    for name in ("first", "second"):
        ctx = context(tmp_path / name, lm)
        log_probs = spoken(lm, said, noise=3.0)
        run_dev(ctx, SETTINGS, log_probs, manifest(tmp_path, said))
        folders.append(ctx.folder)
    for path in sorted(folders[0].iterdir()):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_swapped_log_probabilities_are_wrong(tmp_path: Path, lm: Path) -> None:
    said = ["turn left", "go right now", "stop"]
    log_probs = spoken(lm, said)
    swapped = {f"u{i}": log_probs[f"u{(i + 1) % 3}"] for i in range(3)}
    ctx = context(tmp_path / "dev", lm)
    run_dev(ctx, SETTINGS, swapped, manifest(tmp_path, said))
    weights = json.loads((ctx.folder / "weights.json").read_text())
    assert weights["decoders"]["lexicon_beam"]["dev_wer"] > 0.8


@pytest.mark.case(29)
def test_a_model_of_only_blanks_is_called_one(
    tmp_path: Path, lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["turn left", "go right"]
    ctx = context(tmp_path / "dev", lm)
    settings = SETTINGS.model_copy(update={"decoders": ["greedy"]})
    run_dev(ctx, settings, spoken(lm, ["", ""]), manifest(tmp_path, said))
    assert "emits only blanks: 100%" in capsys.readouterr().out
    assert (ctx.folder / "greedy.trn").read_text() == "(u0)\n(u1)\n"


def test_log_probabilities_of_other_utterances_are_refused(tmp_path: Path, lm: Path) -> None:
    ctx = context(tmp_path / "dev", lm)
    log_probs = spoken(lm, ["turn left", "go"])
    with pytest.raises(RunError, match="u1"):
        run_dev(ctx, SETTINGS, log_probs, manifest(tmp_path, ["turn left"]))


def test_an_unknown_decoder_lists_those_there_are(tmp_path: Path, lm: Path) -> None:
    settings = SETTINGS.model_copy(update={"decoders": ["lexicon_bean"]})
    with pytest.raises(UserError, match=r"(?s)lexicon_bean.*did you mean lexicon_beam"):
        run_dev(
            context(tmp_path / "dev", lm), settings, spoken(lm, ["go"]), manifest(tmp_path, ["go"])
        )


def test_dev_without_transcripts_is_refused(tmp_path: Path, lm: Path) -> None:
    with pytest.raises(UserError, match="u0"):
        run_dev(
            context(tmp_path / "dev", lm), SETTINGS, spoken(lm, ["go"]), manifest(tmp_path, [""])
        )


def test_the_step_of_log_probabilities_keeps_what_the_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lm: Path
) -> None:
    said = outputs(spoken(lm, ["turn left"]))
    inputs = {"model": tmp_path}
    monkeypatch.setattr(finetune, "compute_log_probs", lambda ctx, read: said if read else None)
    decode_stage.compute(StepContext(tmp_path, inputs, "cpu", tmp_path))
    kept = decoding.read_log_probs(tmp_path / decoding.LOG_PROBS)
    np.testing.assert_array_equal(kept["u0"], said.log_probs["u0"].astype(np.float32))


def test_the_beam_that_dev_chose_is_used_on_test(tmp_path: Path, lm: Path) -> None:
    """Of noisy speech a beam of one loses words that a wider one keeps."""
    said = LINES
    noisy = spoken(lm, said, noise=3.5)
    settings = DecodeSettings(
        decoders=["lexicon_beam"], lm_weights=[0.5], word_scores=[0.0], beam=[1, 50]
    )
    dev = context(tmp_path / "dev", lm)
    run_dev(dev, settings, noisy, manifest(tmp_path, said))
    told = json.loads((dev.folder / "weights.json").read_text())["decoders"]["lexicon_beam"]
    by_beam = {trial["beam"]: trial["errors"] for trial in told["trials"]}
    assert by_beam[50] < by_beam[1]
    assert (told["beam"], told["beam_tuned"], told["at_edge"]) == (50, True, ["beam"])
    for beam, errors in by_beam.items():
        (dev.folder / "weights.json").write_text(
            json.dumps({"dev_in_lm_text": 0, "decoders": {"lexicon_beam": {**told, "beam": beam}}})
        )
        test = context(tmp_path / f"test{beam}", lm)
        run_test(test, settings, noisy, manifest(tmp_path, said), dev.folder)
        heard = {str(row["utt_id"]): str(row["hyp"]) for row in rows(test.folder, "lexicon_beam")}
        references = {f"u{i}": text for i, text in enumerate(said)}
        assert scoring.count_words(references, heard).errors == errors
