"""espeak-ng: the same arguments give the same samples, whatever was said before."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from stages.prepare import espeak
from stages.prepare.espeak import Voice, synthesize

# Each of them failed with one way of resetting the library: plain, breath, flutter, echo, Klatt
# with breath.
VOICES = ["en-us@50", "en-us+f2@50", "en-gb+f1@50", "en-us+f4@50", "en-gb-x-rp+Reed@40"]
TEXT = "the yellow box is behind the kettle"

ANOTHER_PROCESS = """
import hashlib, sys, time
from stages.prepare.espeak import Voice, synthesize
time.sleep(1.1)  # the library would seed itself from the clock's seconds
synthesize("something else was said before", Voice.parse("en-us+f3@50"), 180, 5)
for name in sys.argv[2:]:
    samples = synthesize(sys.argv[1], Voice.parse(name), 170, 3)
    print(hashlib.sha256(samples.tobytes()).hexdigest())
"""


def sha(voice: str) -> str:
    return hashlib.sha256(synthesize(TEXT, Voice.parse(voice), 170, 3).tobytes()).hexdigest()


@pytest.mark.parametrize("voice", VOICES)
def test_samples_do_not_depend_on_what_was_said_before(voice: str) -> None:
    first = sha(voice)
    synthesize("who found the ticket", Voice.parse("en-gb+f5@60"), 150, 9)
    assert sha(voice) == first


def test_another_process_makes_the_same_samples_in_another_order() -> None:
    order = VOICES[::-1]
    root = Path(espeak.__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS, TEXT, *order],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [sha(v) for v in order]


def test_voice_rate_pitch_and_seed_are_heard() -> None:
    def said(voice: str, rate: int = 170, seed: int = 3) -> bytes:
        return synthesize(TEXT, Voice.parse(voice), rate, seed).tobytes()

    base = said("en-us+f2@50")
    assert said("en-us+f2@70") != base
    assert said("en-us+m3@50") != base
    assert said("en-gb+f2@50") != base
    assert said("en-us+f2@50", seed=4) != base
    assert len(said("en-us+f2@50", rate=120)) > 1.2 * len(base)


def test_speech_is_float_in_range_and_as_long_as_its_words() -> None:
    samples = synthesize(TEXT, Voice.parse("en-us@50"), 170, 0)
    assert samples.dtype == np.float32
    assert 1.5 < len(samples) / espeak.RATE_HZ < 4
    assert 0.1 < np.abs(samples).max() <= 1


@pytest.mark.parametrize("voice", ["xx@50", "en-us+nobody@50", "en-us+m99@50"])
def test_an_unknown_voice_is_refused_although_espeak_would_speak(voice: str) -> None:
    with pytest.raises(UserError, match="espeak-ng has no"):
        synthesize(TEXT, Voice.parse(voice), 170, 0)


@pytest.mark.parametrize("name", ["en-us", "en-us+f2", "en-us@101", "en us@50", "../x@50", ""])
def test_a_voice_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="LANGUAGE"):
        Voice.parse(name)
