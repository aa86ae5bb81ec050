import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.quantizer_settings import AugmentSettings, QuantizerSettings
from stages.quantizer import augment

RATE_HZ = 16_000
NOTHING = AugmentSettings(speed=0.0, response_db=0.0, noise_probability=0.0)


def tone(hz: float, samples: int = RATE_HZ) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hz * np.arange(samples) / RATE_HZ).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def peak_hz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax()) * RATE_HZ / len(samples)


def test_with_nothing_to_change_the_speech_stays_as_it_was() -> None:
    speech = rng().standard_normal(RATE_HZ).astype(np.float32)
    assert np.allclose(augment.changed(speech, rng(), NOTHING), speech, atol=1e-5)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_a_faster_voice_is_higher_by_the_same_factor(speed: float) -> None:
    made = augment.resampled(tone(500.0, round(RATE_HZ * speed)), speed, RATE_HZ)
    assert made.shape == (RATE_HZ,)
    assert peak_hz(made) == pytest.approx(500 * speed, abs=2)


def test_the_noise_has_the_level_that_was_asked_for() -> None:
    settings = AugmentSettings(
        speed=0.0, response_db=0.0, noise_probability=1.0, snr_db=(10.0, 10.0)
    )
    speech = rng().standard_normal(RATE_HZ).astype(np.float32)
    noise = augment.changed(speech, rng(1), settings) - speech
    snr_db = 10 * np.log10(np.square(speech).sum() / np.square(noise).sum())
    assert snr_db == pytest.approx(10, abs=0.5)


def test_bands_that_the_recording_leaves_empty_stay_empty() -> None:
    settings = AugmentSettings(speed=0.0, response_db=6.0, noise_probability=1.0)
    spectrum = np.fft.rfft(rng().standard_normal(RATE_HZ))
    spectrum[4000:] = 0
    band_limited = np.fft.irfft(spectrum).astype(np.float32)
    made = np.abs(np.fft.rfft(augment.changed(band_limited, rng(1), settings)))
    assert made[4001:].max() < 1e-4 * made[:4000].max()


def test_the_response_deviates_by_what_was_asked_for() -> None:
    settings = AugmentSettings(speed=0.0, response_db=4.0, noise_probability=0.0)
    click = np.zeros(RATE_HZ, np.float32)
    click[0] = 1.0
    told_db = [
        20 * np.log10(np.abs(np.fft.rfft(augment.changed(click, rng(seed), settings)))[[100, 8000]])
        for seed in range(300)
    ]
    assert np.std(told_db) == pytest.approx(4.0, rel=0.15)
    assert np.mean(told_db) == pytest.approx(0.0, abs=0.6)


def test_the_same_draw_gives_the_same_speech_and_another_draw_another() -> None:
    speech, settings = tone(300.0), AugmentSettings()
    first, again = (augment.changed(speech, rng(3), settings) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, augment.changed(speech, rng(4), settings), atol=1e-3)


def test_speeds_stay_within_the_share_and_spread_over_it() -> None:
    draw = rng()
    speeds = [augment.speed_of(draw, AugmentSettings(speed=0.2)) for _ in range(500)]
    assert 0.8 <= min(speeds) < 0.82 and 1.18 < max(speeds) <= 1.2


def test_without_it_the_signature_is_as_if_there_were_no_such_setting() -> None:
    assert "augment" not in QuantizerSettings().signed()
    assert QuantizerSettings(augment=AugmentSettings()).signed()["augment"]["speed"] == 0.1


def test_noise_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="the smaller first"):
        AugmentSettings(snr_db=(30.0, 5.0))
