"""SIGKILL at any moment, again and again on one directory: what was told before each kill still holds after it.

The child is forked, so that a round costs a few milliseconds and thousands are possible. It tells its marks through a
pipe, as they are made; what a kill cut short there was not told.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import time
from pathlib import Path
from random import Random
from typing import Any

from tests.blocks.ours import Life, Ours
from tests.blocks.subjects import Known, Mark, Violation

LIFE_S = 0.1  # at most; the opening is in it
ACTS = 100_000  # more than anybody lives to do
_LENGTH = struct.Struct("<I")


class ToldLife(Life):
    """A life whose marks go into a pipe at once."""

    def __init__(self, directory: Path, seed: int, threaded: bool, pipe: int) -> None:
        self.pipe = pipe
        super().__init__(directory, lambda: 0, seed, lambda disk: disk, threaded)

    def mark(self, kind: str, key: Any, value: Any = None) -> None:
        said = pickle.dumps((kind, key, value))
        os.write(self.pipe, _LENGTH.pack(len(said)) + said)


def kill_once(directory: Path, seed: int) -> list[Mark]:
    """Let a child live there until it is killed; return what it told."""
    chance = Random(seed)
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ear)
            ToldLife(directory, seed, chance.random() < 0.5, mouth).run(ACTS)
        finally:
            os._exit(1)
    os.close(mouth)
    ends_s = time.monotonic() + chance.random() * LIFE_S
    told = b""
    while (left_s := ends_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.005))
        told += _drained(ear)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(ear, "rb") as rest:
        os.set_blocking(ear, True)
        told += rest.read()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise Violation(f"crashed: the life of seed {seed} ended by itself")
    return _marks(told)


def _drained(pipe: int) -> bytes:
    os.set_blocking(pipe, False)
    got = b""
    try:
        while part := os.read(pipe, 1 << 16):
            got += part
    except BlockingIOError:
        pass
    return got


def _marks(told: bytes) -> list[Mark]:
    marks = []
    offset = 0
    while offset + _LENGTH.size <= len(told):
        (length,) = _LENGTH.unpack_from(told, offset)
        offset += _LENGTH.size
        if offset + length > len(told):
            break
        marks.append(Mark(0, *pickle.loads(told[offset : offset + length])))  # from our own child
        offset += length
    return marks


def kill_again_and_again(directory: Path, rounds: int, first_seed: int) -> int:
    """Kill, open and judge `rounds` times; return how many entries were told durable. Raises Violation."""
    known = Known([])
    ours = Ours()
    for seed in range(first_seed, first_seed + rounds):
        known.marks += kill_once(directory, seed)
        known.until(0)
        try:
            ours.judge(directory, known)
        except Violation as violation:
            raise Violation(f"{violation}; after the kill of seed {seed}") from violation
    return len(known.durable)
