"""The HX711 clocked by an SPI bus: MOSI drives PD_SCK, MISO reads DOUT, SCLK and the select line stay unconnected.

Law: each AA byte on MOSI is four pulses, so six of them and one 80 are exactly 25; at 500 kHz a pulse is high for 2 us,
whatever Python does meanwhile. DOUT changes at a pulse's rising edge, so a bit stands in the odd positions of MISO. A
byte of zeros makes no pulse and shows whether the chip is ready. Nothing else may be on that bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S
from gateway.sensors.drivers import DriverError, Supervised
from gateway.sensors.drivers.pins import shared_factory
from gateway.sensors.shelf.drivers.hx711 import SETTLING_FRAMES, SILENT_NS, signed_24, silent
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings

FRAME = (0xAA,) * 6 + (0x80,)
NO_PULSE = (0x00,)
READY_MAX_NS = NS_PER_S
ASLEEP_SHARE = 0.7
POLLS_A_PERIOD = 40


def word_of(answer: Sequence[int]) -> tuple[int, bool]:
    """Return the value in a frame's answer, and whether DOUT was high after the 25th pulse, as it must be."""
    word = 0
    for byte in answer[:6]:
        for position in (7, 5, 3, 1):
            word = word << 1 | (byte >> position & 1)
    return signed_24(word), bool(answer[6] & 1)


class Hx711SpiDriver(Supervised):
    """A `Driver` for one converter on an SPI bus; `factory` is a gpiozero pin factory, by default the process's.

    With a factory given, gpiozero's software SPI is accepted; else the bus must be the hardware's, or its pulses would
    be as long as Python likes.
    """

    def __init__(self, settings: ShelfSettings, clock: Clock, factory: Any | None = None) -> None:
        super().__init__(settings.id, clock)
        self.settings = settings
        self.factory = factory
        self._counters = {"frames": 0, "frames_out_of_step": 0, "frames_settling": 0, "ready_timeouts": 0}

    def counted(self) -> Mapping[str, int]:
        return dict(self._counters)

    def _open(self) -> Any:
        factory = shared_factory() if self.factory is None else self.factory
        from gpiozero.exc import GPIOPinInUse
        from gpiozero.pins.spi import SPISoftware

        bus = self.settings.bus or 0
        try:
            spi: Any = factory.spi(port=bus, device=0)
        except GPIOPinInUse as error:
            raise DriverError("pin_in_use", f"a pin of SPI bus {bus} is used by another sensor ({error})") from error
        except Exception as error:  # lgpio raises its own class, which cannot be named before it is imported
            raise DriverError("pin_unavailable", f"SPI bus {bus} cannot be opened ({error})") from error
        is_software: bool = isinstance(spi, SPISoftware)
        if self.factory is None and is_software:
            spi.close()
            detail = f"SPI bus {bus} is not enabled; enable it (raspi-config, or dtparam=spi=on) and start again"
            raise DriverError("pin_unavailable", detail)
        return spi

    def work(self) -> None:
        self.alive()
        spi = self._open()
        try:
            period_s = 1 / self.settings.rate_hz
            settling = SETTLING_FRAMES
            waited_from_ns = heard_ns = self.clock.now().boot_ns
            while not self.stopping.is_set():
                self.alive()
                at = self.clock.now()
                if spi.transfer(NO_PULSE)[0] & 1:
                    if at.boot_ns - waited_from_ns >= READY_MAX_NS:
                        waited_from_ns = at.boot_ns
                        self._counters["ready_timeouts"] += 1
                        if at.boot_ns - heard_ns >= SILENT_NS:
                            heard_ns = at.boot_ns
                            self.emit(silent(self.settings.id, at))
                    self.stopping.wait(period_s / POLLS_A_PERIOD)
                    continue
                waited_from_ns = at.boot_ns
                counts, ended_high = word_of(spi.transfer(FRAME))
                self._counters["frames"] += 1
                if not ended_high:
                    self._counters["frames_out_of_step"] += 1
                    settling = 1
                elif settling:
                    settling -= 1
                    self._counters["frames_settling"] += 1
                else:
                    heard_ns = at.boot_ns
                    self.emit(ScaleSampled(self.settings.id, at, counts))
                    # After the sample, so that the recovery it tells never comes before its own proof.
                    self.good()
                self.stopping.wait(period_s * ASLEEP_SHARE)
        finally:
            spi.close()
