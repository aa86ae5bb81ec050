"""Speech from espeak-ng, driven through ctypes; a sample depends on the arguments alone.

espeak-ng keeps state from one utterance to the next: the phase of its flutter, filters, its own
random numbers and C's. Measured: the same sentence three times in a process gives three different
waveforms, and `espeak_Terminate` resets too little. Unloading the library resets all, so each
utterance gets a freshly loaded one; that costs 4 ms, and memory does not grow. Its random numbers
(the breath noise) then start from the clock, and C's (the breath of Klatt voices) from wherever
the process left them: both are seeded.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RunError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.audio import Samples

RATE_HZ = 22_050
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000  # without it the library ends the process when its data is missing
_UTF8 = 1
_WORDS_PER_MINUTE, _PITCH = 1, 3  # numbers of espeak's parameters
_ALIASES = {"en-gb": "en"}  # British English answers to its file's name only
_LONGEST_PATH = 140  # espeak-ng keeps its folder in 160 characters, and appends to it

_NAME = re.compile(r"([A-Za-z0-9-]+)(?:\+([A-Za-z0-9]+))?@(\d{1,2})")
_only_one = threading.Lock()
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker: a language, a variant of the voice (or none) and a pitch from 0 to 99."""

    language: str
    variant: str
    pitch: int

    @classmethod
    def parse(cls, name: str) -> Voice:
        """The voice of a name such as `en-us+f2@55` or `en-gb@50`.

        Raises:
            ValueError: another form.
        """
        match = _NAME.fullmatch(name)
        if not match:
            raise ValueError(f"'{name}' is not LANGUAGE+VARIANT@PITCH, such as en-us+f2@55")
        return cls(match[1], match[2] or "", int(match[3]))

    @property
    def timbre(self) -> str:
        """The voice without its pitch, which alone makes nobody another speaker."""
        return f"{self.language}+{self.variant}" if self.variant else self.language

    @property
    def speaker(self) -> str:
        """A name fit for ids and files."""
        return f"{self.timbre.replace('+', '-')}-{self.pitch}"


def check_voice(voice: Voice) -> None:
    """Refuse a voice that espeak-ng has not: it would speak with another one, silently.

    Raises:
        UserError: unknown language or variant; lists those there are.
    """
    if voice.language not in _languages():
        english = [name for name in _languages() if name.startswith("en")]
        raise UserError(
            f"espeak-ng has no language '{voice.language}'.",
            remedy=nearest(voice.language, english),
        )
    if voice.variant and voice.variant not in _variants():
        raise UserError(
            f"espeak-ng has no voice variant '{voice.variant}'.",
            remedy=nearest(voice.variant, _variants()),
        )


@cache
def _languages() -> frozenset[str]:
    files = (_data_folder() / "lang").rglob("*")
    return frozenset({p.name.lower() for p in files if p.is_file()} | _ALIASES.keys())


@cache
def _variants() -> frozenset[str]:
    return frozenset(p.name for p in (_data_folder() / "voices" / "!v").iterdir())


def synthesize(text: str, voice: Voice, words_per_minute: int, seed: int) -> Samples:
    """Speak `text`: float32 samples at 22,050 Hz, bitwise the same for the same arguments.

    Args:
        words_per_minute: espeak's rate, 80 to 449.
        seed: of the voice's own noise.

    Raises:
        UserError: espeak-ng has no such voice.
        RunError: espeak-ng cannot be loaded or makes no sound.
    """
    import numpy as np

    check_voice(voice)
    with _only_one:
        pcm = b"".join(_speak(text, voice, words_per_minute, seed))
    if not pcm:
        raise RunError(f"espeak-ng made no sound of '{text}' with {voice.timbre}.")
    return np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)


def _speak(text: str, voice: Voice, words_per_minute: int, seed: int) -> list[bytes]:
    pieces: list[bytes] = []

    def collect(wave: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if wave and count:
            pieces.append(ctypes.string_at(wave, count * 2))
        return 0

    callback = _CALLBACK(collect)  # this name keeps it alive while C may call it
    ctypes.CDLL(None).srand(seed & 0x7FFFFFFF)
    with _fresh_library() as library:
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed & 0x7FFFFFFF))
        name = _ALIASES.get(voice.language, voice.language)
        name += f"+{voice.variant}" if voice.variant else ""
        _expect_ok(library.espeak_SetVoiceByName(name.encode()), f"the voice {name}")
        _expect_ok(library.espeak_SetParameter(_WORDS_PER_MINUTE, words_per_minute, 0), "the rate")
        _expect_ok(library.espeak_SetParameter(_PITCH, voice.pitch, 0), "the pitch")
        words = text.encode()
        size = ctypes.c_size_t(len(words) + 1)
        _expect_ok(library.espeak_Synth(words, size, 0, 1, 0, _UTF8, None, None), "the text")
    return pieces


@contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    """Yield one newly loaded, initialised espeak-ng, and unload it afterwards."""
    import espeakng_loader

    loader = ctypes.CDLL(None)
    loader.dlopen.restype = ctypes.c_void_p
    path = espeakng_loader.get_library_path().encode()
    if loader.dlopen(path, os.RTLD_NOW | os.RTLD_NOLOAD):
        raise RunError(
            "espeak-ng is already loaded in this process.",
            constraint="a fresh copy for each utterance, for samples that can be repeated",
            remedy="synthesise in a process that uses espeak-ng for nothing else",
        )
    handle = loader.dlopen(path, os.RTLD_NOW | os.RTLD_LOCAL)
    if not handle:
        raise RunError(f"Cannot load {os.fsdecode(path)}", remedy="run make setup again")
    library = ctypes.CDLL(None, handle=handle)
    try:
        _initialise(library)
        yield library
    finally:
        library.espeak_Terminate()
        loader.dlclose(ctypes.c_void_p(handle))


def _initialise(library: ctypes.CDLL) -> None:
    folder = min(str(_data_folder()), os.path.relpath(_data_folder()), key=len)
    if len(folder) > _LONGEST_PATH:
        raise RunError(
            "espeak-ng's data lies in a folder whose path is too long for it.",
            constraint=f"at most {_LONGEST_PATH} characters",
            found=folder,
            remedy="put the virtual environment somewhere with a shorter path",
        )
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, folder.encode(), _DO_NOT_EXIT)
    if rate_hz != RATE_HZ:
        raise RunError(f"espeak-ng does not start with its data in {folder} (answer {rate_hz}).")


def _data_folder() -> Path:
    import espeakng_loader

    return Path(espeakng_loader.get_data_path())


def _expect_ok(status: int, what: str) -> None:
    if status != 0:
        raise RunError(f"espeak-ng refused {what} (error {status}).")
