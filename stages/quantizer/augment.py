"""Speech made to sound otherwise, so that units tell less of voice, microphone and room.

Three changes, in this order: the speed, and with it pitch and formants, as if another person
spoke; the frequency response, as if through another microphone; and steady noise with the
spectrum of the speech itself, which leaves bands empty that the recording leaves empty. Time-domain
augmentation helps contrastive predictive coding (Kharitonov et al. 2020, arXiv 2007.00991).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pipeline.audio import Samples
    from pipeline.quantizer_settings import AugmentSettings

BANDS = 8  # in which a response is drawn; between them it is smooth
LOWEST_HZ, HIGHEST_HZ = 100.0, 8000.0


def speed_of(rng: np.random.Generator, settings: AugmentSettings) -> float:
    """A speed: 1.1 is faster and higher by a tenth."""
    return 1.0 + settings.speed * float(rng.uniform(-1, 1))


def changed(samples_S: Samples, rng: np.random.Generator, settings: AugmentSettings) -> Samples:
    """The samples through another microphone, and in noise; a pure function of all three."""
    from scipy.fft import irfft, rfft  # keeps float32, which is twice as fast

    spectrum_K = rfft(samples_S) * _response(len(samples_S), rng, settings.response_db)
    if rng.random() < settings.noise_probability:
        snr_db = rng.uniform(*settings.snr_db)
        level_K = np.abs(spectrum_K)
        noise_2K = rng.standard_normal((2, len(level_K)), np.float32)
        noise_2K *= level_K * _response(len(samples_S), rng, settings.response_db)
        power = float(np.square(noise_2K).sum()) + 1e-20
        scale = np.sqrt(float(np.square(level_K).sum()) / power) * 10 ** (-snr_db / 20)
        spectrum_K += np.float32(scale) * (noise_2K[0] + 1j * noise_2K[1])
    return np.asarray(irfft(spectrum_K, len(samples_S)), dtype=np.float32)


def resampled(samples_S: Samples, speed: float, length: int) -> Samples:
    """`length` samples of the speech at another speed."""
    import soxr

    made = soxr.resample(samples_S, speed, 1.0, quality="MQ")
    short = length - len(made)
    return np.asarray(np.pad(made, (0, short)) if short > 0 else made[:length], np.float32)


def _response(samples: int, rng: np.random.Generator, deviation_db: float) -> NDArray[np.float32]:
    """A smooth random frequency response for the spectrum of so many samples, as factors."""
    edges_hz = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS)
    gains_db = deviation_db * rng.standard_normal(BANDS)
    bins_hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    gains_db_K = np.interp(bins_hz, edges_hz, gains_db).astype(np.float32)
    return np.asarray(np.exp(gains_db_K * np.float32(math.log(10) / 20)), np.float32)
