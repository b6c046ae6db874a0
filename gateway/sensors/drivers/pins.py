"""Pins of the header through gpiozero, claimed by one sensor and given back.

Law: what goes wrong is a DriverError with the contract's reason and a sentence that says what to do. One factory serves
the whole process: closing a factory of lgpio's kind closes the pins of all others. Only lgpio is tried: it alone works
on every board, and gpiozero's silent fall-back to another library would hide why it did not.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, Instant
from gateway.sensors.drivers import DriverError
from gateway.sensors.drivers.kernel_edges import open_factory

log = logging.getLogger(__name__)

LATE_MAX_NS = 5 * NS_PER_S
"""An edge that claims to be older was stamped across a suspend, where the kernel's monotonic clock stands still."""

_opening = threading.Lock()


def shared_factory() -> Any:
    """Return the process's pin factory, opened with the first call. DriverError where that cannot be done."""
    try:
        from gpiozero.devices import Device
        from gpiozero.exc import BadPinFactory, PinUnknownPi
    except ImportError as error:
        raise DriverError(
            "driver_missing", f"gpiozero is not installed ({error}); install store-gateway[pi]"
        ) from error
    with _opening:
        if Device.pin_factory is None:
            _check_directory()
            try:
                Device.pin_factory = open_factory()
            except ImportError as error:
                detail = f"lgpio is not installed ({error}); install store-gateway[pi], or python3-lgpio"
                raise DriverError("driver_missing", detail) from error
            except AttributeError as error:
                # The package of version 0.0.0.2 is an empty file under the same name.
                detail = f"lgpio is an empty placeholder ({error}); install python3-lgpio of the distribution"
                raise DriverError("driver_missing", detail) from error
            except (BadPinFactory, PinUnknownPi) as error:
                raise DriverError("pin_unavailable", f"this machine has no header ({error})") from error
            except Exception as error:  # lgpio raises its own class, which cannot be named before it is imported
                detail = f"the GPIO chip cannot be opened ({error}); the service's user must be in the group gpio"
                raise DriverError("pin_unavailable", detail) from error
        return Device.pin_factory


def _check_directory() -> None:
    """`import lgpio` makes a FIFO in the working directory; its LG_WD would move the whole process to another one."""
    if not os.access(os.curdir, os.W_OK):
        detail = (
            f"lgpio needs a writable working directory, not {os.getcwd()}; start in the service's runtime directory"
        )
        raise DriverError("pin_unavailable", detail)


class Claim:
    """Pins that belong to one sensor, by key, until closed. Use as a context."""

    def __init__(self, sensor: str, numbers: Mapping[str, int], factory: Any | None = None) -> None:
        self.sensor = sensor
        self.factory = shared_factory() if factory is None else factory
        self.pins: dict[str, Any] = {}
        from gpiozero.exc import GPIOPinInUse, PinInvalidPin

        for key, number in numbers.items():
            try:
                self.factory.reserve_pins(self, number)
                self.pins[key] = self.factory.pin(number)
            except GPIOPinInUse as error:
                self.close()
                raise DriverError("pin_in_use", f"{key} = {number} is used by another sensor ({error})") from error
            except PinInvalidPin as error:
                self.close()
                raise DriverError("pin_unavailable", f"{key} = {number}: the header has no such pin") from error
            except Exception as error:  # lgpio raises its own class, which cannot be named before it is imported
                self.close()
                raise _refused(f"{key} = {number}", error) from error

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"sensor {self.sensor}"

    def _conflicts_with(self, other: object) -> bool:
        """gpiozero asks this of two that want one pin."""
        return other is not self

    def input(self, key: str, pull: str) -> Any:
        """Make the pin an input and return it."""
        return self._set_up(key, lambda pin: pin.input_with_pull(pull))

    def output(self, key: str, state: bool) -> Any:
        """Make the pin an output at `state` and return it."""
        return self._set_up(key, lambda pin: pin.output_with_state(state))

    def instant(self, ticks: float, clock: Clock) -> Instant:
        """Return the moment of an edge: how long ago the factory's ticks say it was, on the gateway's clocks."""
        late_ns = int(self.factory.ticks_diff(self.factory.ticks(), ticks) * NS_PER_S)
        now = clock.now()
        return now.later(-late_ns) if 0 < late_ns <= LATE_MAX_NS else now

    def check_edges(self) -> None:
        """Raise DriverError where the thread that tells edges has died."""
        edges = getattr(self.factory, "edges", None)
        if edges is not None and not edges.is_alive():
            raise DriverError("driver_died", "the thread that tells the pins' edges has died; restart the service")

    def close(self) -> None:
        """Make the pins inputs again and give them back."""
        for pin in self.pins.values():
            try:
                pin.when_changed = None
                pin.close()
            except Exception:  # a pin that cannot be closed (its chip is gone) must not keep the others
                log.exception("pin could not be closed sensor=%s pin=%r", self.sensor, pin)
        self.pins.clear()
        self.factory.release_all(self)

    def _set_up(self, key: str, set_up: Callable[[Any], None]) -> Any:
        pin = self.pins[key]
        try:
            set_up(pin)
        except Exception as error:  # lgpio raises its own class, which cannot be named before it is imported
            raise _refused(f"{key} = {pin!r}", error) from error
        return pin


def _refused(what: str, error: Exception) -> DriverError:
    if "busy" in str(error).lower():
        return DriverError("pin_in_use", f"{what} is used by another program or a kernel driver ({error})")
    return DriverError("pin_unavailable", f"{what} cannot be used ({error})")


def writer(pin: Any) -> Callable[[int], Any]:
    """Return the quickest way to set an output: gpiozero's property asks for the pin's mode at every write."""
    lgpio, pins = sys.modules.get("lgpio"), sys.modules.get("gpiozero.pins.lgpio")
    if lgpio is not None and pins is not None and isinstance(pin, pins.LGPIOPin):
        handle, number, write = pin.factory._handle, pin._number, lgpio.gpio_write
        return lambda state: write(handle, number, state)
    return lambda state: setattr(pin, "state", state)


def reader(pin: Any) -> Callable[[], Any]:
    """Return the quickest way to read an input."""
    lgpio, pins = sys.modules.get("lgpio"), sys.modules.get("gpiozero.pins.lgpio")
    if lgpio is not None and pins is not None and isinstance(pin, pins.LGPIOPin):
        handle, number, read = pin.factory._handle, pin._number, lgpio.gpio_read
        return lambda: read(handle, number)
    return lambda: pin.state
