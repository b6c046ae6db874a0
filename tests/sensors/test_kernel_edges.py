"""Edges from the kernel: the layout of its structures, and the one thread that reads them (the lab has real lines)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from gateway.sensors.drivers.kernel_edges import EVENT, GET_LINE, GET_VALUES, REQUEST, VALUES, EdgeReader
from tests.daemon import wait_for

RISING, FALLING = 1, 2
WITHIN_S = 10.0


class Line:
    """A line whose edges a test makes: the reading end of a pipe, as the kernel's descriptor."""

    def __init__(self) -> None:
        self.descriptor, self._kernel = os.pipe()
        os.set_blocking(self.descriptor, False)
        self.told: list[tuple[int, int]] = []

    def edges(self, *edges: tuple[int, int]) -> None:
        os.write(self._kernel, b"".join(EVENT.pack(ns, kind, 17, 1, 1) for ns, kind in edges))

    def goes_away(self) -> None:
        os.close(self._kernel)

    def tell(self, level: int, timestamp_ns: int) -> None:
        if timestamp_ns == 0:
            raise RuntimeError("the inbox is broken")
        self.told.append((level, timestamp_ns))


@pytest.fixture(scope="module")
def reader() -> EdgeReader:
    return EdgeReader()


@pytest.fixture
def lines(reader: EdgeReader) -> Iterator[list[Line]]:
    found = [Line(), Line()]
    for line in found:
        reader.watch(line.descriptor, line.tell)
    yield found
    for line in found:
        reader.forget(line.descriptor)
        os.close(line.descriptor)


def test_the_structures_are_those_of_the_kernel() -> None:
    """sizeof and _IOWR of <linux/gpio.h>, as a C compiler gives them; the same on x86 and ARM, 32 and 64 bits."""
    assert (REQUEST.size, EVENT.size, VALUES.size) == (592, 48, 16)
    assert (GET_LINE, GET_VALUES) == (0xC250B407, 0xC010B40E)


def test_edges_are_told_in_order_with_the_kernels_time(reader: EdgeReader, lines: list[Line]) -> None:
    lines[0].edges((1_000, FALLING), (2_000, RISING))
    lines[0].edges((3_000, FALLING))
    lines[1].edges((2_500, RISING))
    wait_for(lambda: len(lines[0].told) == 3 and lines[1].told, WITHIN_S)
    assert lines[0].told == [(0, 1_000), (1, 2_000), (0, 3_000)]
    assert lines[1].told == [(1, 2_500)]


def test_edges_of_two_lines_are_told_in_the_order_of_time(reader: EdgeReader, lines: list[Line]) -> None:
    """As after a moment in which the process did not get to run: each line has a queue of its own."""
    outer, inner = lines
    is_held, goes_on = threading.Event(), threading.Event()

    def hold(level: int, timestamp_ns: int) -> None:
        is_held.set()
        goes_on.wait(WITHIN_S)

    third = Line()
    reader.watch(third.descriptor, hold)
    third.edges((1, RISING))
    assert is_held.wait(WITHIN_S)
    inner.told = outer.told
    outer.edges((1_000, FALLING), (3_000, RISING))
    inner.edges((2_000, FALLING), (4_000, RISING))
    goes_on.set()
    wait_for(lambda: len(outer.told) == 4, WITHIN_S)
    assert outer.told == [(0, 1_000), (0, 2_000), (1, 3_000), (1, 4_000)]
    reader.forget(third.descriptor)
    os.close(third.descriptor)
    third.goes_away()


def test_a_callback_that_raises_ends_no_others(reader: EdgeReader, lines: list[Line]) -> None:
    lines[0].edges((0, RISING), (4_000, FALLING))
    lines[1].edges((5_000, RISING))
    wait_for(lambda: lines[0].told and lines[1].told, WITHIN_S)
    assert lines[0].told == [(0, 4_000)]
    assert reader.is_alive()


def test_a_line_that_goes_away_takes_no_others_and_no_processor_with_it(reader: EdgeReader, lines: list[Line]) -> None:
    lines[0].edges((6_000, RISING))
    lines[0].goes_away()
    wait_for(lambda: lines[0].told, WITHIN_S)
    used_s = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used_s < 0.2, "it is asked again and again"
    lines[1].edges((7_000, RISING))
    wait_for(lambda: lines[1].told, WITHIN_S)


def test_a_forgotten_line_is_told_no_more(reader: EdgeReader, lines: list[Line]) -> None:
    reader.forget(lines[0].descriptor)
    reader.forget(lines[0].descriptor)
    lines[0].edges((8_000, RISING))
    lines[1].edges((9_000, RISING))
    wait_for(lambda: lines[1].told, WITHIN_S)
    assert lines[0].told == []


def test_lines_come_and_go_while_edges_flow(reader: EdgeReader, lines: list[Line]) -> None:
    """Descriptors are numbers that are used again: an edge must reach the line it was made on."""
    stop = threading.Event()

    def flow() -> None:
        number = 10_000
        while not stop.wait(0.0005):
            number += 1
            lines[0].edges((number, RISING))

    flowing = threading.Thread(target=flow)
    flowing.start()
    try:
        for number in range(200):
            line = Line()
            reader.watch(line.descriptor, line.tell)
            line.edges((number + 1, FALLING))
            wait_for(partial(len, line.told), WITHIN_S)
            reader.forget(line.descriptor)
            os.close(line.descriptor)
            line.goes_away()
            assert line.told == [(0, number + 1)]
    finally:
        stop.set()
        flowing.join()
    numbers = [ns for _, ns in lines[0].told]
    assert numbers == sorted(set(numbers))
    assert all(ns > 10_000 for ns in numbers)
