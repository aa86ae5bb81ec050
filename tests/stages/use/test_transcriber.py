"""Recordings to text: the hypotheses of stage 6, at any length, in any batch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline import audio, cuts
from pipeline.audio import BadAudio
from pipeline.errors import UserError
from stages.acoustic import search
from stages.acoustic.search_ahead import SearchAhead
from stages.use.folder import Hearing
from stages.use.transcriber import Transcriber
from stages.use.transcript import Failure, Transcript

Finish = Callable[..., Any]


def texts(folder: Path, recordings: dict[str, Path], **options: Any) -> dict[str, str]:
    found = Transcriber.load(folder, device="cpu", **options).transcribe_all(recordings.values())
    told = {}
    for name, transcript in zip(recordings, found, strict=True):
        assert isinstance(transcript, Transcript)
        told[name] = transcript.text
    return told


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, make_speech: Callable[..., Any]) -> Path:
    """A recording of 20 s, where the folder `often_cut` takes 4 s at once."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, make_speech(20.0, 77), 16_000, "FLOAT")
    return path


@pytest.mark.parametrize("decoder", ["greedy", "lexicon_beam"])
@pytest.mark.parametrize("split", ["test", "dev"])
def test_hypotheses_are_those_of_stage_6_word_for_word(
    exported: Path, finished: Any, decoder: str, split: str
) -> None:
    expected = finished.hypotheses(decoder, f"{split}/all")
    recordings = finished.audio({"test": "test/test", "dev": "dev"}[split])
    assert texts(exported, recordings, greedy=decoder == "greedy") == expected
    assert all(expected.values())
    assert len(set(expected.values())) > 1


def test_words_have_the_times_of_stage_6(exported: Path, finished: Any) -> None:
    lines = (
        finished.store.path(finished.step("decode", "test/all")) / "lexicon_beam.ctm"
    ).read_text()
    transcriber = Transcriber.load(exported, device="cpu")
    found = []
    for name, path in finished.audio().items():
        for word in transcriber.transcribe(path).words:
            lasts = word.end - word.start
            found.append(f"{name} 1 {word.start:.3f} {lasts:.3f} {word.word} {word.confidence:.3f}")
    assert found == lines.splitlines()


FRONT_ENDS = [
    ("log_mel", []),
    ("units", []),
    pytest.param("mfcc", [], marks=pytest.mark.slow),
    pytest.param("kmeans_mfcc", [], marks=pytest.mark.slow),
    pytest.param("vq_wav2vec", [], marks=pytest.mark.slow),
    pytest.param("wav2vec", ["quantizer.type=none"], marks=pytest.mark.slow),
    pytest.param(
        "cpc",
        ["quantizer.type=none", "quantizer.aggregator=gru", "quantizer.infonce=true"],
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("frontend", "changes"), FRONT_ENDS)
def test_every_front_end_transcribes_as_stage_6(
    finish: Finish, tmp_path: Path, frontend: str, changes: list[str]
) -> None:
    done = finish(f"frontend={frontend}", "budgets=[all]", f"name={frontend}", *changes)
    folder = done.export(tmp_path / "model")
    recordings = done.audio()
    assert any(done.hypotheses("greedy").values())
    assert texts(folder, recordings, greedy=True) == done.hypotheses("greedy")
    assert texts(folder, recordings) == done.hypotheses("lexicon_beam")
    card = (folder / "README.md").read_text()
    assert (folder / "modeling_vqasr.py").exists() == (frontend == "units")
    assert ("cannot be used without vqasr" in card) == (frontend != "units")


@pytest.mark.parametrize("greedy", [True, False])
def test_the_text_of_a_long_recording_is_that_of_its_pieces(
    often_cut: Path, long: Path, tmp_path: Path, greedy: bool
) -> None:
    samples, _ = audio.read(long)
    spans = cuts.pieces(samples, Hearing.read(often_cut).longest_samples, 16_000)
    assert len(spans) >= 5
    recordings = {}
    for number, (start, end) in enumerate(spans):
        recordings[f"{number}"] = tmp_path / f"{number:02}.wav"
        soundfile.write(recordings[f"{number}"], samples[start:end], 16_000, "FLOAT")
    apart = texts(often_cut, recordings, greedy=greedy)
    whole = Transcriber.load(often_cut, device="cpu", greedy=greedy).transcribe(long)
    assert [piece.text for piece in whole.pieces] == list(apart.values())
    assert whole.text == " ".join(text for text in apart.values() if text)
    assert [(p.start, p.end) for p in whole.pieces] == [(a / 16_000, b / 16_000) for a, b in spans]
    assert whole.seconds == 20.0
    within = 1e-9  # rounding
    assert all(p.start <= w.start < w.end <= p.end + within for p in whole.pieces for w in p.words)


def test_the_batch_changes_no_word(often_cut: Path, finished: Any, long: Path) -> None:
    recordings = {**finished.audio(), "long": long, **finished.audio("dev")}
    one, some, all_ = (
        list(
            Transcriber.load(often_cut, device="cpu", batch_seconds=seconds).transcribe_all(
                recordings.values()
            )
        )
        for seconds in (1, 7, 1000)
    )
    for a, b, c in zip(one, some, all_, strict=True):
        assert isinstance(a, Transcript) and isinstance(b, Transcript) and isinstance(c, Transcript)
        assert [w.word for w in a.words] == [w.word for w in b.words] == [w.word for w in c.words]
        times = [[(w.start, w.end, w.confidence) for w in x.words] for x in (a, b, c)]
        np.testing.assert_allclose(times[0], times[1], atol=1e-4)
        np.testing.assert_allclose(times[0], times[2], atol=1e-4)


def test_processes_change_nothing(
    often_cut: Path, finished: Any, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the words, their times or their order, nor what is said of a bad recording."""
    (tmp_path / "bad.wav").write_text("no audio")
    recordings = [*finished.audio().values(), long, tmp_path / "bad.wav"]
    recordings += finished.audio("dev").values()
    here = list(Transcriber.load(often_cut, device="cpu").transcribe_all(recordings))
    monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", 0.0)
    transcriber = Transcriber.load(often_cut, device="cpu", batch_seconds=7, processes=2)
    pools = []
    begin = SearchAhead.begin

    def noted(self: SearchAhead, log_probs_TV: Any) -> Any:
        result = begin(self, log_probs_TV)
        pools.append(self.pool)
        return result

    monkeypatch.setattr(SearchAhead, "begin", noted)
    found = list(transcriber.transcribe_all(recordings))
    assert None not in pools and len(pools) > 10
    assert [type(x) for x in found] == [type(x) for x in here]
    for one, other in zip(here, found, strict=True):
        if isinstance(one, Failure) or isinstance(other, Failure):
            assert one == other
            continue
        assert [w.word for w in one.words] == [w.word for w in other.words]
        starts = [[w.start for w in x.words] for x in (one, other)]
        np.testing.assert_allclose(*starts, atol=1e-4)


def test_a_batch_holds_no_more_than_asked_for(
    often_cut: Path, finished: Any, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding included; a longer piece stands alone."""
    transcriber = Transcriber.load(often_cut, device="cpu", greedy=True, batch_seconds=6)
    work, sizes = transcriber._opened.log_probs, []

    def noted(utterances: Any) -> Any:
        sizes.append(len(utterances) * max((len(u) for u in utterances), default=0))
        return work(utterances)

    monkeypatch.setattr(type(transcriber._opened), "log_probs", lambda _, u: noted(u))
    list(transcriber.transcribe_all([long, *finished.audio().values()]))
    assert max(sizes) <= 6 * 16_000
    assert len(sizes) < 12  # of 5 pieces or more and four recordings, some are together


def test_bad_recordings_are_named_and_the_others_are_transcribed(
    exported: Path, finished: Any, tmp_path: Path, make_speech: Callable[..., Any]
) -> None:
    good = list(finished.audio().values())
    soundfile.write(tmp_path / "cut.wav", make_speech(9.0, 1), 16_000)
    data = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    soundfile.write(tmp_path / "short.wav", make_speech(0.09, 1), 16_000)
    (tmp_path / "text.wav").write_text("no audio")
    transcriber = Transcriber.load(exported, device="cpu", greedy=True)
    bad = [tmp_path / f"{name}.wav" for name in ("cut", "short", "text", "absent")]
    found = list(transcriber.transcribe_all([bad[0], good[0], *bad[1:], good[1]]))
    assert [type(x).__name__ for x in found] == [
        *("Failure", "Transcript", "Failure", "Failure", "Failure", "Transcript"),
    ]
    assert [x.audio for x in found] == [str(p) for p in (bad[0], good[0], *bad[1:], good[1])]
    reasons = [x.reason for x in found if isinstance(x, Failure)]
    for reason, told in zip(reasons, ("truncated", "shorter than 0.1 s", "", ""), strict=True):
        assert told in reason
    expected = list(finished.hypotheses("greedy").values())
    assert [x.text for x in found if isinstance(x, Transcript)] == expected[:2]
    with pytest.raises(BadAudio, match=r"short\.wav: shorter than"):
        transcriber.transcribe(bad[1])


def test_a_recording_of_another_rate_gives_the_words_of_what_stage_0_makes_of_it(
    exported: Path, tmp_path: Path, make_speech: Callable[..., Any]
) -> None:
    stereo = np.stack([make_speech(2.0, 5, 44_100), make_speech(2.0, 6, 44_100)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100)
    samples, rate_hz = audio.read(tmp_path / "a.wav")
    audio.write(tmp_path / "stored.flac", audio.resample(samples, rate_hz))
    found = texts(exported, {n: tmp_path / n for n in ("a.wav", "stored.flac")})
    assert found["a.wav"] == found["stored.flac"] != ""


BLOCKED = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
"""


def test_greedy_needs_neither_fairseq_nor_kenlm(exported: Path, finished: Any) -> None:
    names = ("fairseq", "kenlm", "flashlight", "jiwer", "hydra", "omegaconf", "matplotlib")
    code = BLOCKED.format(names=names) + (
        "from stages.use.transcriber import Transcriber\n"
        "transcriber = Transcriber.load(sys.argv[1], greedy=True, device='cpu')\n"
        "print(json.dumps([transcriber.transcribe(p).text for p in sys.argv[2:]]))\n"
    )
    files = [str(path) for path in finished.audio().values()]
    command = [sys.executable, "-c", code, str(exported), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(finished.hypotheses("greedy").values())


def test_a_device_that_is_not_there_is_refused(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="cuda"):
        Transcriber.load(exported, device="cuda")


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_five_minutes(
    exported: Path, tmp_path: Path, make_speech: Callable[..., Any]
) -> None:
    """An hour at 16 kHz is 230 MB of samples."""
    code = (
        "import resource, sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from stages.use.transcriber import Transcriber\n"
        "transcriber = Transcriber.load(sys.argv[1], greedy=True, device='cpu', batch_seconds=10)\n"
        "found = transcriber.transcribe(sys.argv[2])\n"
        "print(found.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    minute, peaks_kib = make_speech(60.0, 3), {}
    for minutes in (5, 60):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        command = [sys.executable, "-c", code, str(exported), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, peak = done.stdout.split()
        assert float(seconds) == 60 * minutes
        peaks_kib[minutes] = int(peak)
    assert peaks_kib[60] - peaks_kib[5] < 60_000
