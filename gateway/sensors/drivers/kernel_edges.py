"""Edges of the header's lines from the kernel itself, for gpiozero's pins on lgpio.

lgpio 0.2.2 looks up two thousand times a second while it watches an edge (its lgPthAlerts.c: a ppoll of 0.5 ms), some
per cent of a Pi's core for ever, and an exception in its thread ends the edges of all pins. The kernel wakes nobody
until a line changes. All else of a pin stays lgpio's.

Law: what is told is the kernel's own moment of an edge (CLOCK_MONOTONIC, taken in the interrupt), in the kernel's
order. Source of the numbers: <linux/gpio.h>, version 2 of the interface, in every kernel since 5.10.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import select
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.model import NS_PER_S

log = logging.getLogger(__name__)

REQUEST = struct.Struct("=64I 32s QI20x240x II20xi")
"""struct gpio_v2_line_request: offsets, consumer, flags, attributes (none), lines, events to buffer, descriptor."""
EVENT = struct.Struct("=QIIII24x")
"""struct gpio_v2_line_event: timestamp in ns, kind of edge, offset, its number in the request and on the line."""
VALUES = struct.Struct("=QQ")
"""struct gpio_v2_line_values: bits, and which of them are meant."""
IOCTL_BOTH_WAYS = 3 << 30 | 0xB4 << 8
GET_LINE = IOCTL_BOTH_WAYS | REQUEST.size << 16 | 0x07
GET_VALUES = IOCTL_BOTH_WAYS | VALUES.size << 16 | 0x0E
INPUT, RISING, FALLING = 1 << 2, 1 << 4, 1 << 5
EDGES = {"rising": RISING, "falling": FALLING, "both": RISING | FALLING}
RISING_EDGE = 1
LGPIO_BIAS, KERNEL_BIAS, BIAS_MASK = 5, 8, 0b111
"""Pull-up, pull-down and none are three bits in this order in both, lgpio's mode and the kernel's flags."""
CONSUMER = b"store-gateway"
BUFFERED = 64
"""Events that the kernel keeps of a line while the process does not get to run; a bouncing contact fills 16 quickly."""
EVENTS_A_READ = 64
GRACE_NS = 1_000_000
"""From the interrupt, which stamps an edge, to the queue in which it can be read: far longer than that takes."""


def request_line(chip: int, offset: int, flags: int) -> int:
    """Return a non-blocking descriptor of one line of an open chip. OSError where it is refused (EBUSY: in use)."""
    wish = bytearray(REQUEST.pack(offset, *([0] * 63), CONSUMER, flags, 0, 1, BUFFERED, 0))
    fcntl.ioctl(chip, GET_LINE, wish, True)
    line: int = REQUEST.unpack(wish)[-1]
    os.set_blocking(line, False)
    return line


def level_of(line: int) -> bool:
    """Return the line's level now. OSError where it is gone."""
    asked = bytearray(VALUES.pack(0, 1))
    fcntl.ioctl(line, GET_VALUES, asked, True)
    return bool(VALUES.unpack(asked)[0] & 1)


class Edge(NamedTuple):
    """An edge that was read, and whom to tell."""

    timestamp_ns: int
    level: int
    tell: Callable[[int, int], None]


class EdgeReader:
    """One thread for all lines: sleeps until one changes and calls `tell(level, timestamp_ns)` of it.

    In the order of time, over all lines: each has a queue of its own in the kernel, so an edge is told when no older
    one can be found any more.
    """

    def __init__(self) -> None:
        self._tells: dict[int, Callable[[int, int], None]] = {}
        self._reading = threading.Lock()
        self._poll = select.epoll()
        self._thread = threading.Thread(target=self._run, name="gpio-edges", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Say whether edges are still told."""
        return self._thread.is_alive()

    def watch(self, line: int, tell: Callable[[int, int], None]) -> None:
        """Tell the edges of this descriptor from now on."""
        with self._reading:
            self._tells[line] = tell
            self._poll.register(line, select.EPOLLIN)

    def forget(self, line: int) -> None:
        """Read it no more, so that it can be closed. What was read before may still be told."""
        with self._reading:
            if self._tells.pop(line, None) is not None:
                self._poll.unregister(line)

    def _run(self) -> None:
        waiting: list[Edge] = []
        while True:
            ready = self._poll.poll(GRACE_NS / NS_PER_S if waiting else None)
            sure_ns = time.monotonic_ns() - GRACE_NS
            with self._reading:
                for line, state in ready:
                    waiting += self._read(line, state)
            waiting.sort(key=lambda edge: edge.timestamp_ns)
            while waiting and waiting[0].timestamp_ns <= sure_ns:
                edge = waiting.pop(0)
                try:
                    edge.tell(edge.level, edge.timestamp_ns)
                except Exception:  # the supervisor of edges: one pin's callback must not end those of the others
                    log.exception("an edge could not be told")

    def _read(self, line: int, state: int) -> list[Edge]:
        """Return each edge that lies ready. A line that is gone is watched no more: its level says why."""
        tell = self._tells.get(line)
        if tell is None:
            return []
        content, is_gone = b"", bool(state & (select.EPOLLHUP | select.EPOLLERR))
        try:
            content = os.read(line, EVENT.size * EVENTS_A_READ)
        except BlockingIOError:
            pass
        except OSError as error:
            log.warning("a line gives no edges any more: %s", error)
            is_gone = True
        if is_gone and not content:
            del self._tells[line]
            self._poll.unregister(line)
        return [Edge(ns, int(kind == RISING_EDGE), tell) for ns, kind, *_ in EVENT.iter_unpack(content)]


def open_factory() -> Any:
    """Return a gpiozero factory on lgpio whose edges come from the kernel. Raises what gpiozero and lgpio raise."""
    lgpio = importlib.import_module("lgpio")
    base: Any = importlib.import_module("gpiozero.pins.lgpio")

    class Pin(base.LGPIOPin):  # type: ignore[misc]
        """lgpio's pin; while its edges are watched, the line is the kernel's request and no longer lgpio's."""

        _line: int | None = None

        def _enable_event_detect(self) -> None:
            flags = INPUT | EDGES[self.edges] | self._bias() << KERNEL_BIAS
            lgpio.gpio_free(self.factory._handle, self._number)
            self._line = request_line(self.factory.descriptor, self._number, flags)
            self.factory.edges.watch(self._line, self._tell)

        def _disable_event_detect(self) -> None:
            if self._line is None:
                return
            bias = self._bias()
            self.factory.edges.forget(self._line)
            os.close(self._line)
            self._line = None
            lgpio.gpio_claim_input(self.factory._handle, self._number, bias << LGPIO_BIAS)

        def _get_state(self) -> bool:
            return bool(super()._get_state()) if self._line is None else level_of(self._line)

        def _bias(self) -> int:
            mode: int = lgpio.gpio_get_mode(self.factory._handle, self._number)
            return mode >> LGPIO_BIAS & BIAS_MASK

        def _tell(self, level: int, timestamp_ns: int) -> None:
            self._call_when_changed(self.factory.chip, self._number, level, timestamp_ns)

    class Factory(base.LGPIOFactory):  # type: ignore[misc]
        """lgpio's factory, with the thread that reads edges."""

        def __init__(self) -> None:
            super().__init__()
            self.pin_class = Pin
            self.descriptor = os.open(f"/dev/gpiochip{self.chip}", os.O_RDWR | os.O_CLOEXEC)
            self.edges = EdgeReader()

    return Factory()
