"""Stage 0 on files of every kind: what comes through, what is rejected and why, and resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline import audio
from pipeline.errors import UserError
from pipeline.manifest import Manifest, Utterance, audio_place, original_id
from pipeline.recipe import Recipe
from pipeline.stage import Step, StepContext
from pipeline.store import hash_outputs
from stages.prepare import stage
from stages.prepare.corpora import synthetic, tsv
from stages.prepare.corpus import Source
from stages.prepare.journal import NAME as JOURNAL
from stages.prepare.lm_text import write_text
from stages.prepare.sources import COPY_VERSION, with_copies

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
NOISE = (0.1 * np.random.RandomState(0).standard_normal(16_000)).astype(np.float32)
MakeContext = Callable[..., StepContext]


def source(root: Path, name: str, transcript: str | None = "turn left", **named: Any) -> Source:
    return Source(name.partition(".")[0], "anna", transcript, root, (name,), **named)


def write_split(ctx: StepContext, sources: list[Source], transcribed: bool = True) -> Manifest:
    stage.write_split(ctx, corpus=tsv, sources=sources, alphabet=ALPHABET, transcribed=transcribed)
    place = "".join(audio_place(sources[0].root, {s.id: s.files[0] for s in sources}))
    (ctx.folder / "audio_root.txt").write_text(place)
    return Manifest.load(ctx.folder)


def rejected(ctx: StepContext) -> dict[str, str]:
    header, *lines = (ctx.folder / "rejected.tsv").read_text("utf-8").splitlines()
    assert header == "utt_id\treason"
    return dict(line.split("\t") for line in lines)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "scratch" not in p.parts
    }


def bad_files(root: Path) -> list[Source]:
    """One good recording, and one of each kind that nobody should train on."""

    def write(name: str, samples: Any, kind: str = "PCM_16") -> None:
        soundfile.write(root / name, samples, 16_000, kind)

    write("good.wav", NOISE)
    write("truncated.wav", NOISE)
    (root / "truncated.wav").write_bytes((root / "truncated.wav").read_bytes()[:9000])
    write("nan.wav", np.append(NOISE, np.float32(np.nan)), "FLOAT")
    write("huge.wav", np.append(NOISE, np.float32(1e29)), "FLOAT")
    write("silent.wav", 0 * NOISE)
    write("empty.wav", NOISE[:0])
    write("short.wav", NOISE[:1000])
    write("wordless.wav", NOISE)
    (root / "garbage.wav").write_bytes(b"garbage" * 100)
    names = ["good", "truncated", "nan", "huge", "silent", "empty", "short", "garbage", "missing"]
    made = [source(root, f"{name}.wav") for name in names]
    return [*made, source(root, "wordless.wav", "123 !?")]


def test_every_damaged_file_is_rejected_by_name_with_its_reason(
    context: MakeContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = context("train")
    manifest = write_split(ctx, bad_files(tmp_path))
    assert [u.id for u in manifest] == ["good"]
    reasons = {
        "truncated": "truncated: ",
        "nan": "not finite: ",
        "huge": "implausible: ",
        "silent": "silent: ",
        "empty": "empty: ",
        "short": "shorter than 0.1 s: 1000 samples",
        "garbage": "unreadable: ",
        "missing": "no such audio file: missing.wav",
        "wordless": "nothing left of the transcript in the alphabet",
    }
    told = rejected(ctx)
    assert sorted(told) == sorted(reasons)
    for name, reason in reasons.items():
        assert told[name].startswith(reason)
    facts = json.loads((ctx.folder / "summary.json").read_text())
    assert (facts["utterances"], facts["rejected"]) == (1, 9)
    assert facts["characters_outside_alphabet"] == 5
    assert "9 rejected" in capsys.readouterr().out


def test_a_split_without_a_usable_utterance_is_an_error(
    context: MakeContext, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"(?s)No utterance of 1 .*a: no such audio file: a\.wav"):
        write_split(context("train"), [source(tmp_path, "a.wav")])


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels", "kind", "stored"),
    [
        ("a.wav", 16_000, 1, "PCM_16", False),
        ("a.wav", 16_000, 1, "PCM_24", False),
        ("a.wav", 16_000, 2, "PCM_16", False),
        ("a.wav", 8_000, 1, "PCM_16", True),
        ("a.flac", 44_100, 2, "PCM_24", True),
    ],
)
def test_other_formats_are_converted_to_16_khz_mono(
    context: MakeContext,
    tmp_path: Path,
    name: str,
    rate_hz: int,
    channels: int,
    kind: str,
    stored: bool,
) -> None:
    times = np.arange(rate_hz) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * 500 * times)
    soundfile.write(tmp_path / name, np.tile(tone[:, None], channels), rate_hz, kind)
    manifest = write_split(context("train"), [source(tmp_path, name)])
    utterance = manifest["a"]
    assert (utterance.stored, utterance.samples) == (stored, 16_000)
    assert utterance.path == ("audio/a.flac" if stored else "")
    expected = 0.3 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)
    samples = manifest.samples(utterance)
    np.testing.assert_allclose(samples[1000:-1000], expected[1000:-1000], atol=0.003)


def test_transcripts_are_normalised(context: MakeContext, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000)
    manifest = write_split(context("train"), [source(tmp_path, "a.wav", "  Turn  LEFT, s'il ")])
    assert manifest["a"].transcript == "turn left s'il"


def test_unlabelled_speech_has_no_transcript_and_may_be_band_limited(
    context: MakeContext, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000)
    told = source(tmp_path, "a.wav", parameters={"bandwidth_hz": 4000})
    manifest = write_split(context("unlabelled"), [told], transcribed=False)
    assert manifest["a"].transcript is None
    assert manifest["a"].stored
    spectrum = np.abs(np.fft.rfft(manifest.samples(manifest["a"])))
    assert spectrum[4400:].max() < 0.01 * spectrum[:3600].max()


def test_ids_that_are_no_file_names_get_one_each(context: MakeContext, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE[:8000], 8_000)
    ids = ["../../etc", "a/b", "a_b", "a b", "ä" * 90, "x" * 200]
    rows = [Source(i, "anna", "go", tmp_path, ("a.wav",)) for i in ids]
    ctx = context("train")
    manifest = write_split(ctx, rows)
    paths = [manifest.audio_path(u).resolve() for u in manifest]
    assert len(set(paths)) == len(ids)
    assert all(p.is_relative_to(ctx.folder.resolve() / "audio") and p.is_file() for p in paths)


def test_what_a_split_holds_does_not_tell_the_names_of_files_left_in_place(
    context: MakeContext, tmp_path: Path
) -> None:
    """Else a rebuilt split of a renamed corpus would train everything again."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / f"{name}.wav", NOISE, 16_000)
        (tmp_path / name / f"{name}-bad.wav").write_bytes(b"garbage" * 100)
        told = Source("a", "anna", "go", tmp_path / name, (f"{name}.wav",))
        bad = replace(told, id="b", files=(f"{name}-bad.wav",))
        ctx = context(f"split-{name}")
        manifest = write_split(ctx, [told, bad])
        assert len(manifest.samples(manifest["a"])) == 16_000
        assert list(rejected(ctx)) == ["b"]
        shutil.rmtree(ctx.scratch)
    assert hash_outputs(tmp_path / "split-one") == hash_outputs(tmp_path / "split-other")


def many(root: Path) -> list[Source]:
    rows = bad_files(root)
    for number in range(6):
        soundfile.write(root / f"low{number}.wav", NOISE[: 4000 + number], 8_000)
        rows.append(source(root, f"low{number}.wav", "größe ʼn links"))
    return rows


@pytest.mark.parametrize("after", [0, 1, 5, 12, 15])
def test_a_killed_step_goes_on_and_writes_the_same_bytes(
    context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    rows = many(tmp_path)
    whole, killed = context("whole"), context("killed")
    write_split(whole, rows)
    prepare, prepared = stage._prepare, []

    def until(folder: Path, load: Any, row: Source, *rest: Any) -> dict[str, Any]:
        if len(prepared) == after:
            raise KeyboardInterrupt
        prepared.append(row.id)
        return prepare(folder, load, row, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_prepare", until)
        with pytest.raises(KeyboardInterrupt):
            write_split(killed, rows)
    with monkeypatch.context() as patch:
        again: list[str] = []

        def counted(folder: Path, load: Any, row: Source, *rest: Any) -> dict[str, Any]:
            again.append(row.id)
            return prepare(folder, load, row, *rest)

        patch.setattr(stage, "_prepare", counted)
        write_split(killed, rows)
    assert again == sorted(r.id for r in rows)[after:]
    assert contents(killed.folder) == contents(whole.folder)


@pytest.mark.parametrize("cut", [1, 3, 40])
def test_a_journal_that_ends_in_half_a_line_is_gone_on_with(
    context: MakeContext, tmp_path: Path, cut: int
) -> None:
    rows = many(tmp_path)
    whole, killed = context("whole"), context("killed")
    write_split(whole, rows)
    write_split(killed, rows)
    journal = killed.scratch / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:-cut])
    (killed.folder / "manifest.jsonl").unlink()
    write_split(killed, rows)
    assert contents(killed.folder) == contents(whole.folder)


def test_a_journal_cut_within_a_character_is_gone_on_with(
    context: MakeContext, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000)
    rows = [Source(i, "anna", "go", tmp_path, ("a.wav",)) for i in ("a", "ü")]
    whole, killed = context("whole"), context("killed")
    write_split(whole, rows)
    write_split(killed, rows)
    journal = killed.scratch / JOURNAL
    content = journal.read_bytes()
    journal.write_bytes(content[: content.rindex("ü".encode()) + 1])
    write_split(killed, rows)
    assert contents(killed.folder) == contents(whole.folder)


def lose_a_file(ctx: StepContext) -> None:
    """A power cut leaves the name of a file that was not synced, and nothing in it."""
    (ctx.folder / "audio" / "low2.flac").write_bytes(b"")


def lose_the_folder(ctx: StepContext) -> None:
    shutil.rmtree(ctx.folder / "audio")


def keep_the_size(ctx: StepContext) -> None:
    path = ctx.folder / "audio" / "low2.flac"
    path.write_bytes(bytes(path.stat().st_size))


def damage_lines(ctx: StepContext, old: bytes, new: bytes) -> None:
    path = ctx.scratch / JOURNAL
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def zeros_in_a_line(ctx: StepContext) -> None:
    damage_lines(ctx, b'"id": "low2", "speaker": "anna"', bytes(31))


def another_transcript(ctx: StepContext) -> None:
    damage_lines(ctx, b"links", b"lenks")


def not_utf8(ctx: StepContext) -> None:
    damage_lines(ctx, b"links", b"l\xffnks")


def no_row(ctx: StepContext) -> None:
    damage_lines(ctx, (ctx.scratch / JOURNAL).read_bytes(), b"\n[]\n{}\nnull\n7 8\n" * 3)


@pytest.mark.case(1)
@pytest.mark.parametrize(
    "damage",
    [
        lose_a_file,
        lose_the_folder,
        keep_the_size,
        zeros_in_a_line,
        another_transcript,
        not_utf8,
        no_row,
    ],
)
def test_what_a_power_cut_took_of_finished_rows_is_made_again(
    context: MakeContext, tmp_path: Path, damage: Callable[[StepContext], None]
) -> None:
    rows = many(tmp_path)
    whole, killed = context("whole"), context("killed")
    write_split(whole, rows)
    write_split(killed, rows)
    damage(killed)
    for _ in range(2):  # and once more, on the journal of the second run
        write_split(killed, rows)
        assert contents(killed.folder) == contents(whole.folder)


def test_synthetic_speech_is_made_once_and_stored(context: MakeContext) -> None:
    settings = synthetic.Settings(train_sentences=2, dev_sentences=1, test_sentences=1)
    rows = synthetic.splits(settings)["train"]
    digests = []
    for name in ("one", "two"):
        ctx = context(name)
        stage.write_split(ctx, corpus=synthetic, sources=rows, alphabet=ALPHABET, transcribed=True)
        manifest = Manifest.load(ctx.folder)
        assert [u.transcript for u in manifest] == [r.transcript for r in rows]
        assert all(u.stored and len(manifest.samples(u)) == u.samples for u in manifest)
        digests.append(contents(ctx.folder))
    assert digests[0] == digests[1]


def test_budgets_are_written_as_ids(context: MakeContext, tmp_path: Path) -> None:
    rows = [Utterance(f"u{n}", f"s{n % 2}", "x", True, 16_000, 1.0, "go") for n in range(8)]
    Manifest(rows, tmp_path).write()
    ctx = context("budget", {"train": tmp_path})
    stage.write_budget(ctx, budget="4s")
    ids = (ctx.folder / "ids.txt").read_text().splitlines()
    assert len(ids) == 4
    assert ids == sorted(ids)
    facts = json.loads((ctx.folder / "summary.json").read_text())
    sizes = {"budget": "4s", "utterances": 4, "speakers": 2, "speech_seconds": 4.0}
    assert facts == sizes | {"copies": 0}


def test_text_is_normalised_and_never_of_dev(context: MakeContext, tmp_path: Path) -> None:
    folders = {}
    for name, words in (("train", ["turn left", None]), ("dev", ["go home"])):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        rows = [
            Utterance(f"u{n}", "s", "x", True, 16_000, 1.0, text) for n, text in enumerate(words)
        ]
        Manifest(rows, folders[name]).write()
    for sentences, kept in (
        (None, ["turn left"]),
        (["Drei, zwei!", "  ", "123"], ["drei zwei"]),
    ):
        ctx = context(f"text-{sentences is None}", folders)
        write_text(ctx, sentences=sentences, name="a text", alphabet=ALPHABET)
        assert (ctx.folder / "lm_text.txt").read_text().splitlines() == kept
        assert not (ctx.folder / "dev_text.txt").exists()
        facts = json.loads((ctx.folder / "lm_text.json").read_text())
        assert facts == {"name": "a text", "sentences": 1, "words": 2}


def test_a_text_of_nothing_is_refused(context: MakeContext, tmp_path: Path) -> None:
    Manifest([], tmp_path).write()
    with pytest.raises(UserError, match=r"a text.*is empty"):
        write_text(
            context("text", {"dev": tmp_path}), sentences=["1"], name="a text", alphabet=ALPHABET
        )


def test_the_shortest_utterance_is_longer_than_any_receptive_field() -> None:
    assert stage.SHORTEST_SECONDS * audio.SAMPLE_RATE_HZ > 465


def test_renamed_audio_is_found_in_each_of_two_copies_of_a_corpus(
    corpus: Path,
    tmp_path: Path,
    make_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    fakes: Any,
) -> None:
    """The same content in another layout: nothing runs, and later stages find what they read."""
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    (copy / "audio").rename(copy / "renamed")
    for name in ("train", "dev", "test"):
        text = (copy / f"{name}.tsv").read_text("utf-8")
        (copy / f"{name}.tsv").write_text(text.replace("audio/", "renamed/"), "utf-8")
    ran = []
    for root in (corpus, copy, corpus):
        steps = make_plan(make_recipe(f"corpus.root={root}"))
        ran.append(fakes.run(steps, last=0).carry_out())
        manifest = Manifest.load(fakes.run(steps).store.path(steps[0]))
        for utterance in manifest:
            assert len(manifest.samples(utterance)) == utterance.samples
            assert manifest.audio_path(utterance).is_relative_to(root)
    assert ran == [6, 0, 0]


def with_copies_of(ctx: StepContext, root: Path) -> Manifest:
    soundfile.write(root / "a.wav", NOISE, 16_000)
    soundfile.write(root / "b.wav", NOISE[:8000], 16_000)
    both = [source(root, "a.wav"), source(root, "b.wav", "turn right")]
    return write_split(ctx, with_copies(both, [0.5, 1.25]))


def test_copies_at_other_speeds_are_shorter_or_longer_by_that_factor(
    context: MakeContext, tmp_path: Path
) -> None:
    manifest = with_copies_of(context("train"), tmp_path)
    assert [(u.id, u.samples) for u in manifest] == [
        ("a", 16_000),
        ("a@speed-0.5", 32_000),
        ("a@speed-1.25", 12_800),
        ("b", 8_000),
        ("b@speed-0.5", 16_000),
        ("b@speed-1.25", 6_400),
    ]
    assert len(manifest.samples(manifest["a@speed-1.25"])) == 12_800


def test_copies_join_their_originals_in_a_budget_and_count_for_nothing(
    context: MakeContext, tmp_path: Path
) -> None:
    train = context("train")
    with_copies_of(train, tmp_path)
    ctx = context("budget", {"train": train.folder})
    stage.write_budget(ctx, budget="1.2s")
    told = json.loads((ctx.folder / "summary.json").read_text("utf-8"))
    ids = (ctx.folder / "ids.txt").read_text("utf-8").split()
    (first,) = {original_id(i) for i in ids}
    assert ids == [first, f"{first}@speed-0.5", f"{first}@speed-1.25"]
    assert told["utterances"] == 1 and told["copies"] == 2
    assert told["speech_seconds"] == {"a": 1.0, "b": 0.5}[first]


def test_copies_put_no_sentence_into_the_text_twice(context: MakeContext, tmp_path: Path) -> None:
    train = context("train")
    with_copies_of(train, tmp_path)
    ctx = context("text", {"train": train.folder})
    write_text(ctx, sentences=None, name="train", alphabet=ALPHABET)
    assert (ctx.folder / "lm_text.txt").read_text("utf-8") == "turn left\nturn right\n"


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_a_faster_copy_stays_within_half_the_rate_of_its_recording(
    context: MakeContext, tmp_path: Path, rate_hz: int
) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile(NOISE, 2), rate_hz)
    manifest = write_split(context("train"), with_copies([source(tmp_path, "a.wav")], [0.8, 1.25]))
    power = {u.id: np.abs(np.fft.rfft(manifest.samples(u))) ** 2 for u in manifest}
    hertz = {name: np.linspace(0, 8000, len(p)) for name, p in power.items()}

    def share_above(name: str, limit_hz: float) -> float:
        return float(power[name][hertz[name] > limit_hz].sum() / power[name].sum())

    edge_hz = rate_hz / 2
    for name in power:
        assert share_above(name, 1.02 * edge_hz) < 1e-4
    assert share_above("a@speed-1.25", 0.85 * edge_hz) > 0.05  # it fills its band
    assert share_above("a@speed-0.8", 0.82 * edge_hz) < 1e-4  # a slower one has nothing there


def test_copies_are_versioned_and_the_originals_beside_them_are_not(tmp_path: Path) -> None:
    plain = source(tmp_path, "a.wav", parameters={"gain": 1})
    original, copy = with_copies([plain], [0.9])
    assert with_copies([plain], []) == [original] == [plain]
    assert copy.parameters == {"gain": 1, "speed": 0.9, "copy_version": COPY_VERSION}
