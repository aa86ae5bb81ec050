"""Targets, lexicon and n-gram, made by the real programs from small texts."""

from __future__ import annotations

import errno
import json
import math
import random
from collections import Counter
from pathlib import Path

import kenlm
import pytest

from pipeline.errors import RunError, UserError
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import LmSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import lm_stage, ngram
from stages.acoustic.lexicon import read_lexicon
from stages.acoustic.targets import Targets

WORDS = [
    "turn",
    "left",
    "right",
    "go",
    "stop",
    "now",
    "then",
    "the",
    "a",
    "robot",
    "red",
    "green",
    "lamp",
    "please",
    "move",
    "back",
]
LETTERS = TextSettings()
UNIGRAM = TextSettings(units="sentencepiece", pieces=45)
BPE = TextSettings(units="sentencepiece", pieces=45, piece_type="bpe")
WHOLE_WORDS = TextSettings(units="words")


def sentences(count: int = 300) -> list[str]:
    choose = random.Random(3)
    return [" ".join(choose.choices(WORDS, k=choose.randint(2, 6))) for _ in range(count)]


def make(
    tmp_path: Path,
    text: TextSettings = LETTERS,
    lm: LmSettings = LmSettings(),  # noqa: B008  frozen
    lines: list[str] | None = None,
    dev: str = "turn left now\n",
    name: str = "lm",
) -> Path:
    source, folder = tmp_path / f"{name}-text", tmp_path / name
    source.mkdir()
    folder.mkdir()
    lines = sentences() if lines is None else lines
    (source / "lm_text.txt").write_text("".join(f"{x}\n" for x in lines))
    (source / "lm_text.json").write_text(json.dumps({"name": "toy", "sentences": len(lines)}))
    said = [
        Utterance(f"d{n}", "s", "d.wav", True, 16_000, 1.0, line)
        for n, line in enumerate(dev.splitlines())
    ]
    Manifest(said, source).write()
    ctx = StepContext(folder, {"text": source, "dev": source}, "cpu", tmp_path)
    lm_stage.make_ngram(ctx, text, lm)
    return folder


def test_fine_tuning_and_decoding_get_the_same_targets(tmp_path: Path) -> None:
    for text in (LETTERS, UNIGRAM):
        whole = make(tmp_path, text, name=f"lm-{text.units}")
        alone = tmp_path / f"targets-{text.units}"
        alone.mkdir()
        inputs = {"text": tmp_path / f"lm-{text.units}-text"}
        lm_stage.make_targets(StepContext(alone, inputs, "cpu", tmp_path), text)
        names = sorted(p.name for p in alone.iterdir())
        assert "targets.json" in names
        assert [(alone / n).read_bytes() for n in names] == [
            (whole / n).read_bytes() for n in names
        ]


def test_letters_are_blank_boundary_and_the_alphabet(tmp_path: Path) -> None:
    targets = Targets.load(make(tmp_path))
    assert targets.symbols == ("<blank>", "|", *"abcdefghijklmnopqrstuvwxyz'")
    assert targets.blank == 0
    spelt = [targets.symbols[i] for i in targets.encode("turn left")]
    assert spelt == [*"turn", "|", *"left"]


@pytest.mark.parametrize("text", [LETTERS, UNIGRAM, BPE], ids=["letters", "unigram", "bpe"])
def test_every_transcript_survives_the_way_to_targets_and_back(
    tmp_path: Path, text: TextSettings
) -> None:
    targets = Targets.load(make(tmp_path, text))
    assert len(targets) == len(targets.symbols)
    for transcript in ("turn left", "a", "zigzag quay don't", ""):  # words not in the text too
        ids = targets.encode(transcript)
        assert all(0 < i < len(targets) for i in ids)
        assert targets.decode(ids) == transcript


def test_a_letter_outside_the_alphabet_is_refused(tmp_path: Path) -> None:
    for name, text in (("letters", LETTERS), ("pieces", UNIGRAM)):
        targets = Targets.load(make(tmp_path, text, name=name))
        with pytest.raises(RunError, match="room 42"):
            targets.encode("room 42")


@pytest.mark.parametrize("text", [LETTERS, BPE], ids=["letters", "bpe"])
def test_lexicon_spells_every_word_of_the_text(tmp_path: Path, text: TextSettings) -> None:
    folder = make(tmp_path, text)
    targets = Targets.load(folder)
    lexicon = read_lexicon(folder, targets)
    assert sorted(lexicon) == sorted(WORDS) == list(lexicon)
    for word, spelling in lexicon.items():
        end = [1] if text is LETTERS else []
        assert spelling == [*targets.encode(word), *end]


def test_words_are_targets_in_sorted_order_and_the_lexicon_spells_each_as_itself(
    tmp_path: Path,
) -> None:
    folder = make(tmp_path, WHOLE_WORDS)
    targets = Targets.load(folder)
    assert targets.symbols == ("<blank>", *sorted(WORDS))
    said = "turn left turn turn"
    assert [targets.symbols[i] for i in targets.encode(said)] == said.split()
    assert targets.decode(targets.encode(said)) == said
    assert targets.encode("") == []
    assert read_lexicon(folder, targets) == {w: [n + 1] for n, w in enumerate(sorted(WORDS))}


def test_a_word_that_the_text_lacks_is_named_where_words_are_targets(tmp_path: Path) -> None:
    targets = Targets.load(make(tmp_path, WHOLE_WORDS))
    with pytest.raises(RunError, match=r"(?s)turn sideways.*text\.units: words.*sideways.*remedy"):
        targets.encode("turn sideways")


def test_number_of_pieces_is_the_recipes(tmp_path: Path) -> None:
    assert len(Targets.load(make(tmp_path, BPE))) == 45


@pytest.mark.case(8)
def test_a_full_disk_is_not_blamed_on_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path, UNIGRAM)


@pytest.mark.parametrize("text", [UNIGRAM, BPE], ids=["unigram", "bpe"])
def test_pieces_of_a_long_text_are_those_of_the_part_that_is_drawn(
    tmp_path: Path, text: TextSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = sentences()
    part, of = lm_stage.draw(lines, 200)
    assert of == 300
    alone = make(tmp_path, text, lines=part, name="alone")
    monkeypatch.setattr(lm_stage, "PIECES_LEARN_FROM", 200)
    long = make(tmp_path, text, lines=lines, name="long")
    pieces = [(folder / "pieces.model").read_bytes() for folder in (alone, long)]
    assert pieces[0] == pieces[1]
    monkeypatch.setattr(lm_stage, "PIECES_LEARN_FROM", 300)
    whole = make(tmp_path, text, lines=lines, name="whole")
    assert (whole / "pieces.model").read_bytes() != pieces[0]


def test_what_is_drawn_of_a_text_is_spread_over_it_and_keeps_its_order() -> None:
    lines = [f"{n}" for n in range(10_000)]
    assert lm_stage.draw(iter(lines), 10_000) == (lines, 10_000)
    assert lm_stage.draw(iter(()), 5) == ([], 0)
    drawn, of = lm_stage.draw(iter(lines), 1_000)
    places = [int(line) for line in drawn]
    assert (len(set(places)), of) == (1_000, 10_000)
    assert places == sorted(places)
    per_tenth = Counter(place // 1_000 for place in places)  # 100, deviation 9
    assert all(60 < per_tenth[tenth] < 140 for tenth in range(10))


def test_too_few_pieces_for_the_alphabet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)8 pieces.*text\.pieces"):
        make(tmp_path, TextSettings(units="sentencepiece", pieces=8))


@pytest.mark.parametrize("text", [LETTERS, UNIGRAM, BPE], ids=["letters", "unigram", "bpe"])
def test_making_it_again_gives_the_same_bytes_and_holds_no_path(
    tmp_path: Path, text: TextSettings
) -> None:
    first, second = make(tmp_path, text, name="first"), make(tmp_path, text, name="second")
    files = [p.name for p in sorted(first.iterdir()) if p.is_file()]
    assert {"targets.json", "lexicon.txt", "lm.arpa", "lm.bin", "lm.json"} <= set(files)
    for name in files:
        content = (first / name).read_bytes()
        assert content == (second / name).read_bytes(), name
        assert str(tmp_path).encode() not in content, name


def test_perplexity_is_that_of_the_model_by_hand(tmp_path: Path) -> None:
    folder = make(tmp_path, dev="turn left now\ngo zebra\n")
    lm = kenlm.Model(str(folder / "lm.arpa"))
    known = lm.score("turn left now") + lm.score("go zebra", eos=False)
    scores = list(lm.full_scores("go zebra"))
    unknown = scores[1][0]
    told = json.loads((folder / "lm.json").read_text())
    assert told["dev"]["oov"] == 1
    assert told["dev"]["words"] == 5
    assert told["dev_perplexity"] == pytest.approx(10 ** (-(known + scores[2][0]) / 7))
    without = 10 ** (-(known - unknown + scores[2][0]) / 6)
    assert told["dev"]["without_oov"] == pytest.approx(without)
    assert told["lm_text"] == "toy"
    assert (told["sentences"], told["vocabulary"]) == (300, len(WORDS))


def test_an_ngram_is_not_read_whole_to_tell_its_perplexity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of LibriSpeech's text has gigabytes."""
    arpa = tmp_path / "lm.arpa"
    grams = "\\1-grams:\n-1\t<unk>\n-99\t<s>\t-0.2\n-0.5\t</s>\n\n\\2-grams:\n-0.3\t<s> </s>\n"
    arpa.write_text(f"\\data\\\nngram 1=3\nngram 2=1\n\n{grams}\n\\end\\\n")
    opened, asked = kenlm.Model, []

    def model(path: str, config: kenlm.Config) -> kenlm.Model:
        asked.append(config.load_method)
        return opened(path, config)

    monkeypatch.setattr(kenlm, "Model", model)
    found = ngram.perplexity(arpa, [""])
    assert found is not None and found.with_oov == pytest.approx(10**0.3)
    assert asked == [kenlm.LoadMethod.LAZY]


def test_bigram_probability_is_kneser_neys_by_hand(tmp_path: Path) -> None:
    """`b a`, `b a`, `a`: interpolated modified Kneser-Ney (Chen & Goodman 1998).

    Unigrams by continuation counts: a follows {<s>, b}, b follows {<s>}, </s> follows {a}: 4 in
    all, with the fixed discounts 0.5 and 1 for counts of 1 and 2; what these free goes evenly to
    a, b, </s> and <unk>. Bigrams: one seen once, two twice, one three times, so Y = 1 / (1 + 2 * 2)
    and the discounts are D1 = 1 - 2 Y 2/1 and D2 = 2 - 3 Y 1/2.
    """
    lines = ["b a", "b a", "a"]
    folder = make(tmp_path, lm=LmSettings(order=2), lines=lines)
    assert json.loads((folder / "lm.json").read_text())["discount_fallback"] is True
    freed = (1.0 + 0.5 + 0.5) / 4
    uni_a = (2 - 1.0) / 4 + freed / 4
    uni_b = (1 - 0.5) / 4 + freed / 4
    d1, d2 = 0.2, 1.7
    start = 3  # `<s> b` twice, `<s> a` once
    back_off = (d1 + d2) / start
    expected = {
        "b": (2 - d2) / start + back_off * uni_b,
        "a": (1 - d1) / start + back_off * uni_a,
    }
    lm = kenlm.Model(str(folder / "lm.bin"))
    for word, probability in expected.items():
        assert lm.score(word, bos=True, eos=False) == pytest.approx(
            math.log10(probability), abs=1e-4
        )


@pytest.mark.case(24)
def test_fallback_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, lines=["go now"])
    assert "--discount_fallback" in capsys.readouterr().out


def test_no_dev_text_leaves_perplexity_open(tmp_path: Path) -> None:
    told = json.loads((make(tmp_path, dev="") / "lm.json").read_text())
    assert told["dev_perplexity"] is None


def test_a_missing_program_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=r"(?s)lmplz.*make setup"):
        make(tmp_path)


def test_a_failing_program_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="lmplz failed"):
        make(
            tmp_path, lm=LmSettings.model_construct(order=2, text="corpus", prune=[3, 1])
        )  # counts must not fall
