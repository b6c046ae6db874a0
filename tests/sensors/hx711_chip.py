"""An HX711 as two pins of gpiozero's MockFactory: conversions, shifting, power-down, settling, channel and gain.

The part as its datasheet has it: PD_SCK's rising edge shifts DOUT; 25, 26 or 27 pulses choose A x 128, B x 32 or
A x 64 for the next conversion; PD_SCK high for more than 60 us powers it down, the falling edge resets it; four
conversions settle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpiozero.pins.mock import MockFactory, MockPin

POWER_DOWN_NS = 60_000
SETTLING = 4
UNSETTLED = 0x155555
GAINS = {25: "A128", 26: "B32", 27: "A64"}


class Time:
    """A clock that each look moves on by a microsecond, as code does."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        self.ns += 1_000
        return self.ns


class Chip:
    """The converter; `value(n)` is its n-th conversion since it was made.

    `stalls` maps a frame's number to (pulse, ns): for so long Python sleeps while PD_SCK is high. `lost_pulses` are
    frames of which one rising edge does not arrive.
    """

    def __init__(self, value: Callable[[int], int], now_ns: Callable[[], int], period_ns: int = 100_000_000) -> None:
        self.value = value
        self.now_ns = now_ns
        self.period_ns = period_ns
        self.time = now_ns if isinstance(now_ns, Time) else None
        self.frames = 0
        self.resets = 0
        self.pulses = 0
        self.gain = "A128"
        self.stalls: dict[int, tuple[int, int]] = {}
        self.lost_pulses: set[int] = set()
        self.level = False
        self._conversions = 0
        self._settling = SETTLING
        self._word = 0
        self._bit = 0
        self._rose_ns = 0
        self._ready_ns = now_ns() + period_ns
        self._is_down = False

    def clock(self, level: bool) -> None:
        """PD_SCK changes."""
        if level == self.level:
            return
        now_ns = self.now_ns()
        self.level = level
        if level:
            self._rose_ns = now_ns
            self._rise(now_ns)
            pulse, stalled_ns = self.stalls.get(self.frames, (0, 0))
            if self.time is not None and pulse and pulse == self._bit:
                self.time.ns += stalled_ns
                del self.stalls[self.frames]
        elif now_ns - self._rose_ns > POWER_DOWN_NS:
            self.resets += 1
            self._settling, self._bit, self.gain = SETTLING, 0, "A128"
            self._ready_ns = now_ns + self.period_ns

    def dout(self) -> bool:
        """DOUT: the bit that is shifted out, else low when a conversion is ready."""
        now_ns = self.now_ns()
        if self.level and now_ns - self._rose_ns > POWER_DOWN_NS:
            return True
        if self._bit and self._bit <= 24:
            return bool(self._word >> (24 - self._bit) & 1)
        if self._bit > 24:
            self._finish_if_quiet(now_ns)
            return True if self._bit else now_ns < self._ready_ns
        return now_ns < self._ready_ns

    def _rise(self, now_ns: int) -> None:
        self._finish_if_quiet(now_ns)
        if self._bit == 0:
            if now_ns < self._ready_ns:
                return
            self._word = (UNSETTLED if self._settling else self.value(self._conversions)) & 0xFFFFFF
            self._conversions += 1
            self._settling = max(0, self._settling - 1)
        if self._bit == 12 and self.frames in self.lost_pulses:
            self.lost_pulses.discard(self.frames)
            return
        self._bit += 1
        self.pulses += 1
        if self._bit == 25:
            self.frames += 1
            self._ready_ns = now_ns + self.period_ns
        if self._bit >= 25:
            self.gain = GAINS.get(self._bit, "error")

    def _finish_if_quiet(self, now_ns: int) -> None:
        if self._bit >= 25 and now_ns >= self._ready_ns:
            self._bit = 0


class ClockPin(MockPin):
    """PD_SCK, driven by the program."""

    chip: Chip

    def _set_state(self, value: int) -> None:
        super()._set_state(value)  # type: ignore[no-untyped-call]
        self.chip.clock(bool(value))
        self.states.clear()


class DataPin(MockPin):
    """DOUT, read by it."""

    chip: Chip

    def _get_state(self) -> bool:
        return self.chip.dout()


def wired(chip: Chip, clock_pin: int = 6, data_pin: int = 5) -> Any:
    """Return a pin factory of a Pi with the chip on these pins."""
    factory = MockFactory()
    factory.pin(clock_pin, pin_class=ClockPin).chip = chip
    factory.pin(data_pin, pin_class=DataPin).chip = chip
    return factory
