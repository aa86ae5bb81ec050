"""An n-gram and a lexicon that are given: taken over, or refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import kenlm
import pytest

from pipeline.errors import UserError
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import LmSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import lm_stage
from stages.acoustic.lexicon import read_lexicon
from stages.acoustic.targets import Targets

TEXT = ["turn left now"] * 5 + ["turn right", "go left", "don't go", "stop now", "go now"] * 3
LETTERS = TextSettings()


def make(tmp_path: Path, name: str, text: TextSettings = LETTERS, **lm: Any) -> Path:
    source, folder = tmp_path / "text", tmp_path / name
    source.mkdir(exist_ok=True)
    folder.mkdir()
    (source / "lm_text.txt").write_text("".join(f"{line}\n" for line in TEXT))
    (source / "lm_text.json").write_text('{"name": "toy"}')
    Manifest([Utterance("d", "s", "x", True, 16_000, 1.0, "turn left zebra")], source).write()
    ctx = StepContext(folder, {"text": source, "dev": source}, "cpu", tmp_path)
    lm_stage.make_ngram(ctx, text, LmSettings(**lm))
    return folder


def facts(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "lm.json").read_text())
    return told


def words(folder: Path) -> list[str]:
    return list(read_lexicon(folder, Targets.load(folder)))


def in_capitals(arpa: Path, target: Path) -> Path:
    """As the official models are: words in capitals, blanks and gzip."""
    lines = arpa.read_text().splitlines()
    raised = [
        line if line.startswith(("\\", "ngram")) else line.upper().replace("<UNK>", "<unk>")
        for line in lines
    ]
    text = "\n".join(["", *raised]).replace("<S>", "<s>").replace("</S>", "</s>")
    target.write_bytes(gzip.compress(text.encode()))
    return target


def test_a_given_n_gram_scores_as_the_one_that_it_is(tmp_path: Path) -> None:
    trained = make(tmp_path, "trained", order=3)
    path = in_capitals(trained / "lm.arpa", tmp_path / "official.arpa.gz")
    given = make(tmp_path, "given", order=2, arpa=path)
    ours, theirs = (kenlm.Model(str(f / "lm.bin")) for f in (trained, given))
    assert theirs.order == 3
    for sentence in ("turn left now", "go now", "don't stop zebra", "now now now"):
        assert theirs.score(sentence) == pytest.approx(ours.score(sentence), abs=1e-6)
    assert words(given) == words(trained) == sorted({w for line in TEXT for w in line.split()})
    told = facts(given)
    assert (told["lm_text"], told["order"]) == ("file official.arpa.gz", 3)
    assert told["sentences"] is None
    assert told["ngrams"][0] == len(words(given)) + 3  # <s>, </s>, <unk>
    assert told["dev_perplexity"] == pytest.approx(facts(trained)["dev_perplexity"])


def test_a_lexicon_says_which_words_there_are(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("TURN\tT ER1 N\nLEFT  L EH1 F T\nTURN\tT ER2 N\nDON'T\tD\nX-RAY X\nZEBRA Z\n\n")
    bounded = make(tmp_path, "trained", lexicon=path)
    assert words(bounded) == ["don't", "left", "turn", "zebra"]
    assert facts(bounded)["lexicon_left_out"] == 1  # x-ray would be two words
    lm = kenlm.Model(str(bounded / "lm.bin"))
    assert "left" in lm and "right" not in lm and "zebra" not in lm
    arpa = in_capitals(make(tmp_path, "whole") / "lm.arpa", tmp_path / "x.arpa.gz")
    given = make(tmp_path, "given", arpa=arpa, lexicon=path)
    assert words(given) == words(bounded)
    assert facts(given)["lexicon_unknown_to_lm"] == 1
    assert "right" in kenlm.Model(str(given / "lm.bin"))


def test_the_vocabulary_may_be_the_most_frequent_words(tmp_path: Path) -> None:
    folder = make(tmp_path, "lm", vocabulary=3)
    assert words(folder) == ["go", "left", "now"]  # 9, 8 and 11 times; turn 8 too
    lm = kenlm.Model(str(folder / "lm.bin"))
    assert all((w in lm) == (w in words(folder)) for line in TEXT for w in line.split())
    running = [w for line in TEXT for w in line.split()]
    outside = sum(w not in ("go", "left", "now") for w in running) / len(running)
    assert facts(folder)["text_outside_vocabulary"] == pytest.approx(outside, abs=1e-6)
    every = make(tmp_path, "every", vocabulary=1000)
    assert (every / "lm.bin").read_bytes() == (make(tmp_path, "free") / "lm.bin").read_bytes()


def test_whole_words_as_targets_have_no_others_in_the_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("turn\nzebra\n")
    assert words(make(tmp_path, "lm", TextSettings(units="words"), lexicon=path)) == ["turn"]


ARPA = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<s>\t-0.3
-1.0\t</s>
-0.5\tturn\t-0.3
-0.7\tleft

\\2-grams:
-0.2\t<s> turn
-0.3\tturn left

\\end\\
"""


def changed(old: str, new: str) -> str:
    assert old in ARPA
    return ARPA.replace(old, new)


def test_an_n_gram_without_an_unknown_word_or_back_offs_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.arpa"
    path.write_text(ARPA)
    given = make(tmp_path, "given", arpa=path)
    lm = kenlm.Model(str(given / "lm.bin"))
    assert lm.score("turn left", eos=False) == pytest.approx(-0.5)
    assert words(given) == ["left", "turn"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no n-gram at all", r"line 1.*\\data\\"),
        ("", r"line 0.*\\data\\"),
        (changed("ngram 2=2", "ngram 2=3"), r"2 words"),
        (changed("ngram 1=4", "ngram 1=3"), r"line 10.*\\2-grams:"),
        (changed("ngram 2=2\n", ""), r"order 2 or more"),
        (changed("ngram 2=2", "ngram 3=2"), r"ngram 2="),
        (changed("turn left", "turn right"), r"line 14.*unlike 'right'"),
        (changed("-0.7\tleft", "x\tleft"), r"line 10.*log10, 1 words"),
        (changed("</s>", "stop"), r"</s> among"),
        (changed("\\end\\", ""), r"\\end\\"),
        (changed("left\n\n", "TURN\n\n"), r"turn and TURN .* both become turn"),
        (changed("turn", "12").replace("left", "34"), r"can spell no word"),
        (ARPA[: ARPA.index("-0.3\tturn left")], r"2 words"),
    ],
)
def test_what_is_no_whole_arpa_file_is_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "x.arpa"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"(?s)lm\.arpa: .*{told}"):
        make(tmp_path, "given", arpa=path)


def test_damaged_and_mismatched_files_are_refused(tmp_path: Path) -> None:
    path, lexicon = tmp_path / "x.arpa.gz", tmp_path / "lexicon.txt"
    path.write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(UserError, match=r"lm\.arpa: .*x\.arpa\.gz"):
        make(tmp_path, "cut", arpa=path)
    path.write_bytes(gzip.compress(ARPA.encode()))
    lexicon.write_text("zebra\nhorse\n")
    with pytest.raises(UserError, match=r"(?s)no word in common.*x\.arpa\.gz: turn, left; lexicon"):
        make(tmp_path, "other", arpa=path, lexicon=lexicon)
    for content in (b"", b"123 one\n"):
        lexicon.write_bytes(content)
        with pytest.raises(UserError, match=r"lm\.lexicon: .*no word that text\.alphabet"):
            make(tmp_path, f"empty{len(content)}", lexicon=lexicon)
    lexicon.write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match=r"lm\.lexicon: .*cannot be read"):
        make(tmp_path, "latin", lexicon=lexicon)


def test_a_lexicon_and_a_number_of_words_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"lm\.vocabulary chooses words too"):
        LmSettings(vocabulary=5, lexicon=Path("x"))
