"""Signal equations against numbers worked out by hand and by a simulation of the magnetisation."""

from __future__ import annotations

import math

import pytest

from dicom_ai_node.phantom.mr_sequence import MrSequence

SPIN_ECHO = MrSequence("t1", "SE", 500.0, 15.0)


def relaxed(along: float, time: float, t1: float) -> float:
    """Longitudinal magnetisation after a time without pulses (Bloch)."""
    return 1.0 + (along - 1.0) * math.exp(-time / t1)


def simulated(sequence: MrSequence, t1: float, t2: float) -> float:
    """Steady state of a train of 180 (for an inversion), 90 and refocusing pulses, step by step."""
    along = 1.0
    heard = 0.0
    waiting = sequence.inversion_ms or 0.0
    for _ in range(60):
        if sequence.inversion_ms is not None:
            along = relaxed(-along, sequence.inversion_ms, t1)
        heard = along * math.exp(-sequence.echo_ms / t2)
        along = relaxed(0.0, 0.5 * sequence.echo_ms, t1)
        along = relaxed(-along, sequence.repetition_ms - waiting - 0.5 * sequence.echo_ms, t1)
    return heard


@pytest.mark.parametrize(("t1", "t2"), [(250.0, 60.0), (1000.0, 40.0), (4000.0, 1500.0)])
@pytest.mark.parametrize(
    "sequence",
    [
        SPIN_ECHO,
        MrSequence("t2", "SE", 3500.0, 100.0),
        MrSequence("stir", "IR", 4000.0, 45.0, inversion_ms=160.0),
    ],
    ids=["t1", "t2", "stir"],
)
def test_signals_are_those_of_the_magnetisation_followed_pulse_by_pulse(
    sequence: MrSequence, t1: float, t2: float
) -> None:
    assert sequence.signal(t1, t2, 20.0) == pytest.approx(simulated(sequence, t1, t2), abs=0.004)


def test_an_inversion_silences_the_tissue_whose_time_it_is() -> None:
    silent = MrSequence("stir", "IR", 20000.0, 30.0, inversion_ms=250.0 * math.log(2.0))
    assert silent.signal(250.0, 80.0, 40.0) == pytest.approx(0.0, abs=1e-6)
    assert silent.signal(1000.0, 80.0, 40.0) < -0.1


def test_a_gradient_echo_is_brightest_at_the_ernst_angle() -> None:
    angle = math.degrees(math.acos(math.exp(-8.0 / 900.0)))

    def at(flip: float) -> float:
        return MrSequence("localizer", "GR", 8.0, 3.0, flip_deg=flip).signal(900.0, 50.0, 20.0)

    assert at(angle) > max(at(angle - 2.0), at(angle + 2.0))


def test_fat_shifts_by_its_frequency_over_the_bandwidth() -> None:
    # 3.4 ppm are 217 Hz at 1.5 T (Bernstein 2004, ch. 1).
    assert MrSequence("t1", "SE", 500.0, 15.0, bandwidth_hz=108.6).fat_shift_px(1.5) == pytest.approx(
        2.0, 0.01
    )
    assert SPIN_ECHO.fat_shift_px(3.0) == pytest.approx(2 * SPIN_ECHO.fat_shift_px(1.5))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < TE < TR"):
        MrSequence("t1", "SE", 10.0, 20.0)
    with pytest.raises(ValueError, match="inversion"):
        MrSequence("stir", "IR", 4000.0, 45.0)
    with pytest.raises(ValueError, match="inversion"):
        MrSequence("t1", "SE", 500.0, 15.0, inversion_ms=160.0)
