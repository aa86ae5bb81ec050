"""The synthetic corpus: what is unseen is unseen, and more of one thing changes no other."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import UserError
from stages.prepare.corpora import synthetic
from stages.prepare.corpora.synthetic import Settings, load, splits
from stages.prepare.espeak import RATE_HZ, Voice


def settings(**changes: Any) -> Settings:
    counts = {"train_sentences": 60, "dev_sentences": 20, "test_sentences": 30}
    return Settings(**({"lm_sentences": 300} | counts | changes))


def test_no_sentence_of_dev_or_test_is_in_train_or_in_the_lm_text() -> None:
    made = splits(Settings())
    lm = synthetic.lm_text(Settings(seed=7))  # even of another seed
    assert lm is not None and len(lm) == 10_000
    seen = {s.transcript for s in made["train"]} | set(lm)
    for split in ("dev", "test/test"):
        assert not {s.transcript for s in made[split]} & seen
    assert not {s.transcript for s in made["dev"]} & {s.transcript for s in made["test/test"]}


def test_every_sentence_of_a_split_stands_there_once() -> None:
    for sources in splits(Settings()).values():
        assert len({s.transcript for s in sources}) == len(sources)
        assert len({s.id for s in sources}) == len(sources)
        assert [s.id for s in sources] == sorted(s.id for s in sources)


def test_train_and_lm_text_hold_every_word_of_test() -> None:
    made = splits(Settings())
    words = {split: {w for s in made[split] for w in str(s.transcript).split()} for split in made}
    assert words["test/test"] <= words["train"]
    assert words["train"] <= {w for s in synthetic.lm_text(Settings()) or [] for w in s.split()}


def test_default_splits_share_no_speaker_and_no_voice_variant() -> None:
    made = splits(Settings())
    variants = [{Voice.parse(s.parameters["voice"]).variant for s in made[split]} for split in made]
    speakers = [{s.speaker for s in made[split]} for split in made]
    assert [len(s) for s in speakers] == [47, 3, 5]
    for sets in (variants, speakers):
        assert len(set().union(*sets)) == sum(map(len, sets))


def test_more_sentences_leave_the_first_as_they_were() -> None:
    small, large = splits(settings()), splits(settings(train_sentences=130, test_sentences=70))
    for split, sources in small.items():
        assert large[split][: len(sources)] == sources
    few, many = synthetic.lm_text(settings()), synthetic.lm_text(settings(lm_sentences=500))
    assert few is not None and many is not None
    assert many[:300] == few


def test_another_test_set_changes_no_other_split() -> None:
    voices = settings().test_voices
    more = splits(settings(test_voices=voices | {"robots": ["en-us+klatt@50"]}))
    before = splits(settings())
    assert {name: more[name] for name in before} == before
    assert {s.speaker for s in more["test/robots"]} == {"en-us-klatt-50"}


def test_a_seed_decides_everything() -> None:
    assert splits(settings()) == splits(settings())
    assert splits(settings(seed=2)) != splits(settings())


def test_samples_are_bitwise_the_same_in_any_order() -> None:
    sources = splits(settings())["train"][:8]
    first = [load(s).samples.tobytes() for s in sources]
    again = [load(s).samples.tobytes() for s in reversed(sources)]
    assert first == again[::-1]
    assert len(set(first)) == len(first)


def test_pauses_are_noise_of_the_level_told() -> None:
    source = splits(settings(snr_db=(35, 35)))["train"][0]
    loaded = load(source)
    pad = round(synthetic.PAD_SECONDS * RATE_HZ)
    silence, speech = loaded.samples[:pad], loaded.samples[pad:-pad]
    ratio_db = 10 * np.log10(np.mean(speech**2) / np.mean(silence**2))
    assert ratio_db == pytest.approx(35, abs=0.6)
    assert loaded.made and loaded.rate_hz == RATE_HZ
    assert np.count_nonzero(loaded.samples) > 0.999 * len(loaded.samples)


def test_the_rate_of_speech_stays_in_its_range() -> None:
    rates = {s.parameters["words_per_minute"] for s in splits(Settings())["train"]}
    assert min(rates) == 150 and max(rates) == 190


@pytest.mark.parametrize(
    "changes",
    [
        {"train_voices": ["en-us@50", "en-us+m3@20"]},  # m3 of test, at another pitch
        {"dev_voices": ["en-us@40"]},
        {"dev_voices": ["en-us+m3@45"]},
        {"dev_voices": ["en-us+f2"]},
        {"test_voices": {"a/b": ["en-us+m3@50"]}},
        {"words_per_minute": (190, 150)},
        {"words_per_minute": (10, 150)},
        {"train_sentences": 0},
        {"unheard_of": 1},
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**changes)


def test_shared_voices_are_allowed_only_by_name() -> None:
    shared = {"dev_voices": ["en-us@40"], "allow_shared_speakers": True}
    assert {s.speaker for s in splits(settings(**shared))["dev"]} == {"en-us-40"}


def test_an_unknown_voice_is_refused_before_anything_is_spoken() -> None:
    with pytest.raises(UserError, match="no voice variant 'nobody'"):
        splits(settings(dev_voices=["en-us+nobody@50"]))


def test_too_few_sentences_in_the_grammar_are_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / synthetic.GRAMMAR).write_text("sentence = one dog | two dogs | three dogs\n")
    monkeypatch.setattr(synthetic, "DATA", tmp_path)
    with pytest.raises(UserError, match="too few sentences"):
        splits(settings())
