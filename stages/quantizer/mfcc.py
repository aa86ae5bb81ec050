"""Mel-frequency cepstra and their slopes: what recognisers heard before networks learnt to hear.

13 cepstra of 40 mel bands, their slopes over time and the slopes of those, each dimension brought
to mean 0 and variance 1 within the utterance: loudness, microphone and a part of the voice drop
out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pipeline.audio import Samples

WINDOW_SAMPLES = 400  # 25 ms
MEL_BINS = 40
CEPSTRA = 13
DIM = 3 * CEPSTRA
SLOPE_FRAMES = 5  # a slope is fitted over so many frames, as HTK does
PREEMPHASIS = 0.97
FLOOR = 1e-10


def mfcc(samples_S: Samples, *, hop_samples: int, highest_hz: int) -> NDArray[np.float32]:
    """Normalised cepstra with slopes and their slopes, (F, 39), F = S // hop_samples + 1.

    Args:
        hop_samples: from frame to frame; windows of 25 ms are centred on its multiples.
        highest_hz: upper edge of the mel bands.
    """
    from scipy.fft import dct
    from scipy.signal import savgol_filter
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    energies_MF = spectrogram(
        samples_S,
        window=window_function(WINDOW_SAMPLES, "hann"),
        frame_length=WINDOW_SAMPLES,
        hop_length=hop_samples,
        power=2.0,
        preemphasis=PREEMPHASIS,
        mel_filters=mel_filter_bank(
            num_frequency_bins=WINDOW_SAMPLES // 2 + 1,
            num_mel_filters=MEL_BINS,
            min_frequency=0.0,
            max_frequency=float(highest_hz),
            sampling_rate=SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        ),
        mel_floor=FLOOR,
        log_mel="log",
    )
    cepstra_FC = dct(energies_MF.T.astype(np.float64), axis=1, norm="ortho")[:, :CEPSTRA]
    # A straight line through five frames: its slope is HTK's delta.
    slopes_FC = savgol_filter(cepstra_FC, SLOPE_FRAMES, 1, deriv=1, axis=0, mode="nearest")
    bends_FC = savgol_filter(slopes_FC, SLOPE_FRAMES, 1, deriv=1, axis=0, mode="nearest")
    feats_FD = np.concatenate([cepstra_FC, slopes_FC, bends_FC], axis=1)
    centred_FD = feats_FD - feats_FD.mean(axis=0)
    return np.asarray(centred_FD / (feats_FD.std(axis=0) + 1e-5), dtype=np.float32)
