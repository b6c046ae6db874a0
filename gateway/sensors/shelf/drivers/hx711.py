"""The HX711 bit-banged over two pins, every pulse timed.

Law (datasheet, AVIA Semiconductor, "Serial Interface"): DOUT low says that a conversion is ready; 25 pulses of PD_SCK
shift out 24 bits, two's complement, most significant first, and choose channel A, gain 128, for the next; after the
25th DOUT is high. PD_SCK high for more than 60 us powers the chip down, and it then needs four conversions to settle.
Python cannot promise 60 us: so each high phase is timed, a frame with one of 50 us or more is discarded, and so are the
next four. A doubtful frame is never a reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, DriverFailed, Instant
from gateway.sensors.drivers import Supervised
from gateway.sensors.drivers.pins import Claim, reader, writer
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings, pins_of

PULSES = 25
HIGH_MAX_NS = 50_000
SETTLING_FRAMES = 4
RESET_S = 0.012
"""The kernel's driver found the first value after a reset of less than 10 ms unreliable."""
READY_MAX_NS = NS_PER_S
ASLEEP_SHARE = 0.7
POLLS_A_PERIOD = 40
OUT_OF_STEP_MAX = 3


SILENT_NS = 5 * NS_PER_S


def silent(sensor: str, at: Instant) -> DriverFailed:
    """Return the failure of a converter that does not answer; the sample that ends it needs no other word."""
    detail = "the converter gives no sample: it is not powered, or its clock or data wire is broken"
    return DriverFailed(sensor, at, "silent", detail)


def signed_24(word: int) -> int:
    """Return the two's complement value of a 24-bit word."""
    return word - 0x1000000 if word & 0x800000 else word


@dataclass(frozen=True, slots=True)
class Frame:
    """What one readout gave: its value, the longest high phase (an upper bound), and DOUT after the last pulse."""

    counts: int
    high_max_ns: int
    ended_high: bool

    @property
    def is_spoiled(self) -> bool:
        """The chip may have powered down in between."""
        return self.high_max_ns >= HIGH_MAX_NS


def read_frame(write: Callable[[int], Any], read: Callable[[], Any], now_ns: Callable[[], int]) -> Frame:
    """Clock one frame out of a chip that is ready.

    The time between before the write of 1 and after the write of 0 bounds the high phase from above. The bit is read
    while PD_SCK is low: it stands until the next rising edge, and the high phase stays short.
    """
    word = high_max_ns = 0
    ended_high = False
    for pulse in range(PULSES):
        before_ns = now_ns()
        write(1)
        write(0)
        high_max_ns = max(high_max_ns, now_ns() - before_ns)
        bit = 1 if read() else 0
        if pulse < PULSES - 1:
            word = word << 1 | bit
        else:
            ended_high = bool(bit)
    return Frame(signed_24(word), high_max_ns, ended_high)


class Hx711Driver(Supervised):
    """A `Driver` for one converter on two pins; `factory` and `pulse_ns` are arguments for a simulated chip."""

    def __init__(
        self,
        settings: ShelfSettings,
        clock: Clock,
        factory: Any | None = None,
        pulse_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(settings.id, clock)
        self.settings = settings
        self.factory = factory
        self.pulse_ns = pulse_ns
        self._counters = {
            "frames": 0,
            "frames_spoiled": 0,
            "frames_out_of_step": 0,
            "frames_settling": 0,
            "ready_timeouts": 0,
            "resets": 0,
            "high_max_us": 0,
        }

    def counted(self) -> Mapping[str, int]:
        return dict(self._counters)

    def work(self) -> None:
        self.alive()
        with Claim(self.settings.id, pins_of(self.settings), self.factory) as claim:
            clock_pin = claim.output("clock_pin", False)
            # Pulled up, a missing converter reads as never ready instead of as noise.
            data_pin = claim.input("data_pin", "up")
            converter = Converter(writer(clock_pin), reader(data_pin), self.pulse_ns, self._counters)
            self.stopping.wait(converter.reset_begin())
            converter.reset_end()
            period_s = 1 / self.settings.rate_hz
            waited_from_ns = heard_ns = self.clock.now().boot_ns
            while not self.stopping.is_set():
                self.alive()
                at = self.clock.now()
                if not converter.is_ready():
                    if at.boot_ns - waited_from_ns >= READY_MAX_NS:
                        waited_from_ns = at.boot_ns
                        self._counters["ready_timeouts"] += 1
                        if at.boot_ns - heard_ns >= SILENT_NS:
                            heard_ns = at.boot_ns
                            self.emit(silent(self.settings.id, at))
                        self.stopping.wait(converter.reset_begin())
                        converter.reset_end()
                    self.stopping.wait(period_s / POLLS_A_PERIOD)
                    continue
                waited_from_ns = at.boot_ns
                counts = converter.take()
                if counts is not None:
                    heard_ns = at.boot_ns
                    self.emit(ScaleSampled(self.settings.id, at, counts))
                    # After the sample, so that the recovery it tells never comes before its own proof.
                    self.good()
                if converter.must_reset:
                    self.stopping.wait(converter.reset_begin())
                    converter.reset_end()
                self.stopping.wait(period_s * ASLEEP_SHARE)


class Converter:
    """The readout of one chip, without threads: `take` gives a value that can be trusted, or None and counts why."""

    def __init__(
        self,
        write: Callable[[int], Any],
        read: Callable[[], Any],
        now_ns: Callable[[], int],
        counters: dict[str, int],
    ) -> None:
        self.write = write
        self.read = read
        self.now_ns = now_ns
        self.counters = counters
        self.must_reset = False
        self._settling = 0
        self._out_of_step = 0

    def is_ready(self) -> bool:
        """DOUT is low: a conversion waits."""
        return not self.read()

    def reset_begin(self) -> float:
        """Power the chip down; return for how many seconds before `reset_end`."""
        self.write(1)
        return RESET_S

    def reset_end(self) -> None:
        """Power the chip up: it begins anew on channel A, gain 128, and its first conversions do not count."""
        self.write(0)
        self.must_reset = False
        self._out_of_step = 0
        self._settling = SETTLING_FRAMES
        self.counters["resets"] += 1

    def take(self) -> int | None:
        """Clock out a frame; return its value where nothing speaks against it."""
        frame = read_frame(self.write, self.read, self.now_ns)
        self.counters["frames"] += 1
        self.counters["high_max_us"] = max(self.counters["high_max_us"], frame.high_max_ns // 1000)
        if frame.is_spoiled:
            self.counters["frames_spoiled"] += 1
            self._settling = SETTLING_FRAMES
            return None
        if not frame.ended_high:
            # A pulse too many or too few: the next words would be shifted as well.
            self.counters["frames_out_of_step"] += 1
            self._out_of_step += 1
            self._settling = max(self._settling, 1)
            self.must_reset = self._out_of_step >= OUT_OF_STEP_MAX
            return None
        self._out_of_step = 0
        if self._settling:
            self._settling -= 1
            self.counters["frames_settling"] += 1
            return None
        return frame.counts
