"""Two worlds for the sensors: one to develop against, one for the table. Numbers only, each with its reason.

Law: nothing in `gateway` was chosen by looking at results in `TABLE`, whose seeds (`first_seed`) and parameters are its
own. Neither is the world of `gateway/simulated/physics.py`: people here have a trunk and two hands, scales creep
and warm up with the day, the radio has other losses. What works in one of three only was tuned, not understood.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Walking:
    """People in a doorway. Widths in metres, speeds in metres a second (log-normal), the beams `gap_m` apart."""

    speed_mps: float
    speed_sigma: float
    trunk_m: tuple[float, float]
    swing_m: tuple[float, float]  # amplitude of a hand, ahead and behind
    hand_m: tuple[float, float]
    stride_hz: tuple[float, float]
    arms_share: float  # whose arms swing through the beams' height; others carry, push or hold
    gap_m: float
    apart_m: float
    chatter_share: float  # of edges; a relay's contacts, clothes
    latency_s: float  # of the receiver: 0.5 to 5 ms, another for each edge


@dataclass(frozen=True, slots=True)
class Weighing:
    """A shelf on a scale. `noise_grams` is one sample's deviation at 10 a second."""

    counts_per_gram: float
    offset_counts: float
    noise_counts: float
    settling_s: float
    ringing_hz: float
    spread_share: tuple[float, float]  # one sigma of an item's weight, of its weight
    gain_error: float  # calibration, and where on the board it lies
    zero_grams_per_kelvin: float
    gain_per_kelvin: float
    kelvin_a_day: float  # peak to peak
    creep_share: float  # of the load, within half an hour
    spikes: float


@dataclass(frozen=True, slots=True)
class Radio:
    """The air. Losses in dB, distances in metres."""

    exponent: float
    measured_dbm: int
    shadow_db: float
    shadow_lasts_s: float
    fading_k: float  # Rice: the direct path over the scattered ones
    lost_share: float
    sensitivity_dbm: float


@dataclass(frozen=True, slots=True)
class World:
    name: str
    first_seed: int
    walking: Walking
    weighing: Weighing
    radio: Radio
    unit_grams: tuple[float, ...] = field(default=())


TUNING = World(
    name="tuning",
    first_seed=1,
    walking=Walking(
        speed_mps=1.16,
        speed_sigma=0.30,
        trunk_m=(0.22, 0.35),
        swing_m=(0.18, 0.30),
        hand_m=(0.07, 0.10),
        stride_hz=(0.75, 1.0),
        arms_share=0.35,
        gap_m=0.08,
        apart_m=0.45,
        chatter_share=0.30,
        latency_s=0.002,
    ),
    weighing=Weighing(
        counts_per_gram=21.5,
        offset_counts=84_213.0,
        noise_counts=30.0,
        settling_s=0.12,
        ringing_hz=6.0,
        spread_share=(0.004, 0.012),
        gain_error=0.001,
        zero_grams_per_kelvin=0.5,
        gain_per_kelvin=2e-5,
        kelvin_a_day=10.0,
        creep_share=0.0003,
        spikes=0.0005,
    ),
    radio=Radio(2.3, -59, 3.5, 6.0, 4.0, 0.08, -95.0),
    unit_grams=(330.0, 500.0, 212.0),
)
TABLE = World(
    name="table",
    first_seed=70_001,
    walking=Walking(
        speed_mps=1.05,
        speed_sigma=0.26,
        trunk_m=(0.20, 0.32),
        swing_m=(0.15, 0.34),
        hand_m=(0.06, 0.11),
        stride_hz=(0.7, 1.1),
        arms_share=0.50,
        gap_m=0.06,
        apart_m=0.38,
        chatter_share=0.20,
        latency_s=0.004,
    ),
    weighing=Weighing(
        counts_per_gram=-38.0,  # another cell, its wires swapped
        offset_counts=-112_400.0,
        noise_counts=45.0,
        settling_s=0.20,
        ringing_hz=3.8,
        spread_share=(0.003, 0.018),
        gain_error=0.002,
        zero_grams_per_kelvin=0.8,
        gain_per_kelvin=3e-5,
        kelvin_a_day=10.0,
        creep_share=0.0005,
        spikes=0.002,
    ),
    radio=Radio(2.0, -62, 4.5, 9.0, 2.5, 0.15, -97.0),
    unit_grams=(410.0, 275.0, 120.0),
)
WORLDS = {world.name: world for world in (TUNING, TABLE)}
