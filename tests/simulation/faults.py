"""What a card does to whoever reads it or waits for it: bad sectors, files of another owner, a folder away, a hang.

Law: what passes costs time and nothing else: rights that are mended, a folder that comes back, a sector that can be
read again within seconds, a card that does not answer for minutes. What stays unreadable costs the events of which a
byte stands in it, by name, and no other. Draws from a `random` of its own.
"""

from __future__ import annotations

import errno
import os
import re
from random import Random

from gateway.model import NS_PER_S
from gateway.outbox.sectors import SECTOR_BYTES
from tests.simulation.checker import Checker
from tests.simulation.clock import Agenda, Trace
from tests.simulation.disk import ModelDisk
from tests.simulation.inode import File
from tests.simulation.world import Machine

ONE_IN = 3
"""Of the histories, in which a card is ill so."""
PASSES_S_MAX = 60  # from the first try until the card's own corrections have brought a sector back
MENDED_S_MAX = 600
HANGS_S = (6, 40, 300)
NUMBERS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ESTALE)
_RECORD = re.compile(rb'[ ,]"([0-9]{1,16})":\{"_c"')
_SEGMENT = re.compile(r"/(door|shelf|beacon|gateway)/[0-9]{16}-[0-9a-f]{8,16}\.json$")
_OUTBOX = re.compile(rb'"outbox":"([0-9a-f]+)"')


def _chance(seed: int) -> tuple[Random, bool]:
    random = Random(f"faults {seed}")
    return random, random.randrange(ONE_IN) == 0


def segments(disk: ModelDisk) -> list[str]:
    """Return the files of events, of each stream in the order of their numbers."""
    return [path for path in disk.paths() if _SEGMENT.search(path)]


def bad_place(disk: ModelDisk, path: str, random: Random) -> tuple[int, int] | None:
    """Draw a sector of a file, behind whose end nothing will be written any more; None where it has none."""
    is_newest = path == max(other for other in segments(disk) if os.path.dirname(other) == os.path.dirname(path))
    written = len(bytes(disk.content(path)).rstrip(b"\0 "))
    count = written // SECTOR_BYTES if is_newest else -(-written // SECTOR_BYTES)
    if not count:
        return None
    start = random.randrange(count) * SECTOR_BYTES
    return start, start + SECTOR_BYTES


def standing_in(content: bytes, start: int, end: int) -> set[int]:
    """Return the numbers of the records of which a byte lies in `start..end`."""
    found, at = set(), 0
    for line in content.splitlines(keepends=True):
        if at < end and start < at + len(line):
            found |= {int(number) for number in _RECORD.findall(line)}
        at += len(line)
    return found


class Faults:
    """See the module."""

    def __init__(self, seed: int, machine: Machine, checker: Checker, agenda: Agenda, trace: Trace) -> None:
        self._machine, self._checker, self._agenda, self._trace = machine, checker, agenda, trace
        self._random, self._are_drawn = _chance(seed)
        self._ill: list[ModelDisk] = []

    def perhaps(self) -> None:
        """Do one of these now and then, whether the gateway runs or not."""
        if not self._are_drawn:
            return
        acts = (self._bad_sector, self._bad_sector, self._rights, self._folder_away, self._hang)
        if self._random.random() < 0.4:
            self._random.choice(acts)()

    def end(self) -> None:
        """Let everything be read that ever can be, and every card answer."""
        for disk in self._ill:
            disk.mend()
        self._ill.clear()

    def _bad_sector(self) -> None:
        disk = self._machine.disk
        if not (files := segments(disk)):
            return
        path = self._random.choice(files)
        if (place := bad_place(disk, path, self._random)) is None:
            return
        passes = self._random.random() < 0.7
        self._trace.say(f"{path}: {place[0]} cannot be read, {'for a while' if passes else 'for ever'}")
        content = bytes(disk.content(path))
        disk.spoil(path, *place, for_ever=not passes)
        if passes:
            disk.noticed = self._corrects
            self._ill.append(disk)
        if (header := _OUTBOX.search(content)) is not None and (where := _SEGMENT.search(path)) is not None:
            self._checker.spoiled(header[1].decode(), where[1], standing_in(content, *place), not passes)

    def _corrects(self, file: File) -> None:
        """The card tries by itself, and after a while what has not gone for ever can be read again."""
        if file.bad:
            self._agenda.after(self._random.randint(1, PASSES_S_MAX) * NS_PER_S, file.bad.clear)

    def _rights(self) -> None:
        disk, number = self._machine.disk, self._random.choice(NUMBERS)
        if not (files := [*segments(disk), *(path for path in disk.paths() if path.endswith("/state.ack"))]):
            return
        paths = self._random.sample(files, self._random.randint(1, len(files)))
        self._trace.say(f"{len(paths)} files cannot be opened: {os.strerror(number)}")
        for path in paths:
            disk.deny(path, number)
        self._mends(disk)

    def _folder_away(self) -> None:
        """Somebody moves it, and puts it back before a gateway that does not run would miss it."""
        disk, outbox = self._machine.disk, self._machine.configuration.outbox.directory
        if self._machine.engine is None:
            return
        disk.away = self._random.choice((outbox, f"{outbox}/door", f"{outbox}/beacon"))
        self._trace.say(f"{disk.away} is away")
        self._mends(disk)

    def _mends(self, disk: ModelDisk) -> None:
        self._ill.append(disk)
        self._checker.may_drop.add("overflow")
        self._agenda.after(self._random.randint(1, MENDED_S_MAX) * NS_PER_S, self._mended, disk)

    def _mended(self, disk: ModelDisk) -> None:
        self._trace.say("files can be opened again")
        disk.allow()

    def _hang(self) -> None:
        hangs_s = self._random.choice(HANGS_S)
        self._trace.say(f"the card does not answer for {hangs_s} s")
        self._checker.may_drop.add("overflow")
        self._machine.disk.hangs_until_ns = self._agenda.now_ns + hangs_s * NS_PER_S
