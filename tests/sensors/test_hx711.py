"""The HX711's drivers against a model of the chip: what is read is true, and what is doubtful is never read."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from gpiozero.devices import Device

from gateway.machine.clock import SystemClock
from gateway.model import DriverFailed, DriverRecovered, Instant, Reading
from gateway.sensors.shelf.drivers.chosen import driver_for
from gateway.sensors.shelf.drivers.hx711 import Converter, Hx711Driver, read_frame, signed_24
from gateway.sensors.shelf.drivers.hx711_iio import Hx711IioDriver
from gateway.sensors.shelf.drivers.hx711_spi import Hx711SpiDriver, word_of
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings
from tests.sensors.hx711_chip import UNSETTLED, Chip, Time, wired

WITHIN_S = 10.0


class Heard:
    """Collects what a driver emits; `wait` returns when enough readings are there."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self._heard = threading.Condition()

    def __call__(self, reading: Reading) -> None:
        with self._heard:
            self.readings.append(reading)
            self._heard.notify_all()

    def wait(self, count: int, kind: type[Reading] = Reading) -> list[Any]:
        with self._heard:
            enough = self._heard.wait_for(lambda: len(self._of(kind)) >= count, WITHIN_S)
        assert enough, self.readings
        return self._of(kind)

    def _of(self, kind: type[Reading]) -> list[Reading]:
        return [reading for reading in self.readings if isinstance(reading, kind)]


class QuickClock(SystemClock):
    """A clock that runs `times` as fast, so that no test waits for seconds."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.boot_ns * self.times, now.wall_ns, now.clock)


class Bench:
    """A converter on simulated pins, in simulated time."""

    def __init__(self, values: list[int]) -> None:
        self.time = Time()
        self.chip = Chip(lambda n: values[(n - 4) % len(values)], self.time)
        self.factory = wired(self.chip)
        self.clock_pin, self.data_pin = self.factory.pin(6), self.factory.pin(5)
        self.clock_pin.output_with_state(False)
        self.counters = dict.fromkeys(
            ("frames", "frames_spoiled", "frames_out_of_step", "frames_settling", "resets", "high_max_us"), 0
        )
        self.converter = Converter(self.write, lambda: self.data_pin.state, self.time, self.counters)
        self.converter.reset_begin()
        self.time.ns += 12_000_000
        self.converter.reset_end()

    def write(self, state: int) -> None:
        self.clock_pin.state = state

    def takes(self, count: int) -> list[int | None]:
        taken = []
        for _ in range(count):
            while not self.converter.is_ready():
                self.time.ns += 1_000_000
            taken.append(self.converter.take())
        return taken


def test_four_frames_settle_and_then_every_word_is_true() -> None:
    chance = random.Random(1)
    values = [0, -1, 1, 0x7FFFFF, -0x800000, *(chance.randint(-0x800000, 0x7FFFFF) for _ in range(200))]
    bench = Bench(values)
    taken = bench.takes(4 + len(values))
    assert taken[:4] == [None] * 4
    assert taken[4:] == values
    assert bench.chip.gain == "A128"
    assert bench.chip.pulses == 25 * (4 + len(values))


@pytest.mark.parametrize("pulse", [1, 12, 24])
def test_a_pulse_that_powers_the_chip_down_costs_its_frame_and_the_next_four(pulse: int) -> None:
    bench = Bench([1000])
    bench.takes(5)
    bench.chip.stalls[bench.chip.frames] = (pulse, 70_000)
    taken = bench.takes(6)
    assert bench.chip.resets == 2, "the reset at the start, and this one"
    assert taken == [None] * 5 + [1000]
    assert UNSETTLED not in bench.takes(20)
    assert bench.counters["frames_spoiled"] == 1


def test_a_doubtful_pulse_is_discarded_though_the_chip_survived_it() -> None:
    bench = Bench([1000])
    bench.takes(5)
    bench.chip.stalls[bench.chip.frames] = (7, 49_000)
    assert bench.takes(6) == [None] * 5 + [1000]
    assert bench.chip.resets == 1
    assert bench.counters["high_max_us"] >= 50


def test_a_lost_pulse_is_seen_by_the_25th_bit_or_resynchronised() -> None:
    bench = Bench([0x2AAAAA])
    bench.takes(5)
    bench.chip.lost_pulses.add(bench.chip.frames)
    taken = []
    for _ in range(12):
        for _ in range(1000):
            if bench.converter.is_ready():
                break
            bench.time.ns += 1_000_000
        taken.append(bench.converter.take())
        if bench.converter.must_reset:
            bench.converter.reset_begin()
            bench.time.ns += 12_000_000
            bench.converter.reset_end()
    assert {value for value in taken if value is not None} == {0x2AAAAA}
    assert bench.counters["frames_out_of_step"] >= 1


def test_no_word_is_ever_wrong_under_a_busy_machine() -> None:
    chance = random.Random(2)
    values = [chance.randint(-0x400000, 0x3FFFFF) | 1 for _ in range(50)]
    bench = Bench(values)
    for frame in range(3, 400, 2):
        if chance.random() < 0.15:
            bench.chip.stalls[frame] = (
                chance.randint(1, 24),
                chance.choice([10_000, 45_000, 55_000, 65_000, 5_000_000]),
            )
    taken = [value for value in bench.takes(400) if value is not None]
    assert set(taken) <= set(values)
    assert len(taken) > 100


def test_the_driver_emits_what_the_chip_converts() -> None:
    converted: list[int] = []

    def convert(n: int) -> int:
        converted.append(84_213 + n)
        return converted[-1]

    chip = Chip(convert, time.monotonic_ns, period_ns=2_000_000)
    heard = Heard()
    driver = Hx711Driver(ShelfSettings("aisle-3", data_pin=5, clock_pin=6, rate_hz=80), SystemClock(), wired(chip))
    driver.start(heard)
    samples = heard.wait(5, ScaleSampled)
    driver.close()
    assert {sample.counts for sample in samples} <= set(converted)
    assert {sample.sensor for sample in samples} == {"aisle-3"}
    assert driver.counters()["frames"] >= 9
    assert driver.progress_ns() is not None


def test_a_missing_converter_is_reset_and_waited_for_not_read() -> None:
    chip = Chip(lambda n: 1, time.monotonic_ns, period_ns=10**15)
    heard = Heard()
    factory = wired(chip)
    driver = Hx711Driver(ShelfSettings("s", data_pin=5, clock_pin=6, rate_hz=80), QuickClock(4), factory)
    driver.start(heard)
    until_ns = time.monotonic_ns() + int(WITHIN_S * 1e9)
    while not driver.counters()["ready_timeouts"] and time.monotonic_ns() < until_ns:
        threading.Event().wait(0.02)
    driver.close()
    assert driver.counters()["ready_timeouts"] >= 1
    assert not heard.readings


def test_a_converter_that_never_answers_is_told_silent_once_in_five_seconds() -> None:
    chip = Chip(lambda n: 1, time.monotonic_ns, period_ns=10**15)
    heard = Heard()
    driver = Hx711Driver(ShelfSettings("s", data_pin=5, clock_pin=6, rate_hz=80), QuickClock(20), wired(chip))
    driver.start(heard)
    failed = heard.wait(1, DriverFailed)
    driver.close()
    assert failed[0].reason == "silent"
    assert not [reading for reading in heard.readings if isinstance(reading, ScaleSampled)]


def test_two_shelves_on_one_pin_the_second_fails_by_name() -> None:
    chip = Chip(lambda n: 1, time.monotonic_ns, period_ns=2_000_000)
    factory = wired(chip)
    first, second = Heard(), Heard()
    one = Hx711Driver(ShelfSettings("one", data_pin=5, clock_pin=6, rate_hz=80), SystemClock(), factory, Time())
    two = Hx711Driver(ShelfSettings("two", data_pin=7, clock_pin=6, rate_hz=80), SystemClock(), factory, Time())
    one.start(first)
    first.wait(1, ScaleSampled)
    two.start(second)
    (failed,) = second.wait(1)
    assert isinstance(failed, DriverFailed)
    assert failed.reason == "pin_in_use"
    assert "clock_pin = 6" in failed.detail
    one.close()
    two.close()


def test_the_pins_are_given_back() -> None:
    chip = Chip(lambda n: 1, time.monotonic_ns, period_ns=2_000_000)
    factory = wired(chip)
    for _ in range(2):
        heard = Heard()
        driver = Hx711Driver(ShelfSettings("s", data_pin=5, clock_pin=6, rate_hz=80), SystemClock(), factory, Time())
        driver.start(heard)
        heard.wait(1, ScaleSampled)
        driver.close()
    assert factory.pin(6).function == "input"


def test_the_bus_clocks_the_chip_with_exactly_25_pulses() -> None:
    chance = random.Random(3)
    for value in (0, -1, 0x7FFFFF, -0x800000, *(chance.randint(-0x800000, 0x7FFFFF) for _ in range(50))):
        bits = "".join(f"{bit}0" for bit in f"{value & 0xFFFFFF:024b}") + "11111111"
        answer = [int(bits[at : at + 8], 2) for at in range(0, 56, 8)]
        assert word_of(answer) == (value, True)
    assert word_of([0] * 7) == (0, False)


def test_the_spi_driver_reads_the_chip_over_its_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(lambda n: -84_213 - n, Time(), period_ns=200_000)
    factory = wired(chip, clock_pin=10, data_pin=9)
    monkeypatch.setattr(Device, "pin_factory", factory)  # gpiozero's software SPI takes the process's factory
    heard = Heard()
    driver = Hx711SpiDriver(ShelfSettings("s", driver="hx711-spi", rate_hz=80), SystemClock(), factory)
    driver.start(heard)
    samples = heard.wait(3, ScaleSampled)
    driver.close()
    assert all(-84_213 - 1000 < sample.counts <= -84_213 for sample in samples)
    assert chip.gain == "A128"


def test_the_kernels_driver_is_read_as_offset_binary(tmp_path: Path) -> None:
    folder = tmp_path / "iio:device0"
    folder.mkdir()
    (folder / "name").write_text("hx711\n")
    (folder / "in_voltage0_raw").write_text(f"{(-84_213 & 0xFFFFFF) ^ 0x800000}\n")
    heard = Heard()
    driver = Hx711IioDriver(ShelfSettings("s", driver="hx711-iio", rate_hz=80), SystemClock(), tmp_path)
    driver.start(heard)
    assert heard.wait(2, ScaleSampled)[0].counts == -84_213
    driver.close()


def test_the_kernels_driver_where_it_is_not_fails_by_name(tmp_path: Path) -> None:
    heard = Heard()
    driver = Hx711IioDriver(ShelfSettings("s", driver="hx711-iio", device=3), SystemClock(), tmp_path)
    driver.start(heard)
    (failed,) = heard.wait(1)
    driver.close()
    assert (failed.reason, "iio:device3" in failed.detail) == ("driver_missing", True)
    assert not isinstance(failed, DriverRecovered)


def test_each_driver_is_found_by_its_name() -> None:
    clock = SystemClock()
    assert isinstance(driver_for(ShelfSettings("s", data_pin=5, clock_pin=6), clock), Hx711Driver)
    assert isinstance(driver_for(ShelfSettings("s", driver="hx711-spi"), clock), Hx711SpiDriver)
    assert isinstance(driver_for(ShelfSettings("s", driver="hx711-iio"), clock), Hx711IioDriver)


def test_words_are_twos_complement() -> None:
    assert [signed_24(word) for word in (0, 1, 0x7FFFFF, 0x800000, 0xFFFFFF)] == [0, 1, 0x7FFFFF, -0x800000, -1]
    assert read_frame(lambda state: None, lambda: 1, Time()).counts == -1
