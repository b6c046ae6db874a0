"""The stored calibrations: whole at every power cut, the one before kept, damage told and never fatal."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.config import load
from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.machine.disk import RealDisk
from gateway.model import NS_PER_S, Event
from gateway.sensors.kind import Context, Faults
from gateway.sensors.shelf.calibration import CalibrationRefused, StoredCalibration
from gateway.sensors.shelf.interpreter import ShelfInterpreter
from gateway.sensors.shelf.settings import Calibration
from gateway.technician.calibration_store import CalibrationDamaged, CalibrationNotWritten, CalibrationStore, calibrated
from tests.technician.shelves import SHELF, SHELF_TOML, at, configuration, samples


def stored(number: float) -> StoredCalibration:
    return StoredCalibration("calibrate", number, 21.5, "2026-11-22T09:00:00.000Z", "kim")


class FailingDisk(RealDisk):
    """A disk that fails at its nth changing call, as a power cut or a full disk would leave it."""

    def __init__(self, fails_at: int) -> None:
        self.left = fails_at

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def open(self, path: str, create: bool = False) -> int:
        self._spend()
        return super().open(path, create)

    def write_at(self, fd: int, content: bytes, offset: int) -> None:
        if self.left == 0:
            super().write_at(fd, content[: len(content) // 2], offset)
        self._spend()
        super().write_at(fd, content, offset)

    def sync(self, fd: int) -> None:
        self._spend()
        super().sync(fd)

    def rename(self, path: str, to: str) -> None:
        self._spend()
        super().rename(path, to)

    def sync_directory(self, path: str) -> None:
        self._spend()
        super().sync_directory(path)


def test_what_is_saved_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path / "outbox", RealDisk())
    assert store.load("aisle-3") is None
    with pytest.raises(CalibrationRefused):
        store.undo("aisle-3")
    store.save("aisle-3", stored(1))
    store.save("aisle-3", stored(2))
    assert (store.load("aisle-3"), store.previous("aisle-3")) == (stored(2), stored(1))
    assert store.undo("aisle-3") == stored(1)
    assert (store.load("aisle-3"), store.previous("aisle-3")) == (stored(1), stored(2))
    assert store.undo("aisle-3") == stored(2)
    names = {path.name for path in (tmp_path / "calibration").iterdir()}
    assert names == {"aisle-3.json", "aisle-3.json.previous"}
    assert store.directory == tmp_path / "calibration"


@pytest.mark.parametrize("fails_at", range(10))
def test_a_failure_at_any_step_leaves_a_whole_calibration_in_force(tmp_path: Path, fails_at: int) -> None:
    sound = CalibrationStore(tmp_path / "outbox", RealDisk())
    sound.save("aisle-3", stored(1))
    sound.save("aisle-3", stored(2))
    failing = CalibrationStore(tmp_path / "outbox", FailingDisk(fails_at))
    with pytest.raises(CalibrationNotWritten, match="No space left"):
        failing.save("aisle-3", stored(3))
    assert sound.load("aisle-3") in (stored(2), stored(3))
    assert sound.previous("aisle-3") in (stored(1), stored(2))
    sound.save("aisle-3", stored(4))
    assert sound.load("aisle-3") == stored(4)


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 500, b"\xff\xfe", b"[]", b'{"kind": "calibrate"}'])
def test_a_damaged_file_is_told_and_replaced_by_the_next(tmp_path: Path, content: bytes) -> None:
    store = CalibrationStore(tmp_path / "outbox", RealDisk())
    store.save("aisle-3", stored(1))
    (tmp_path / "calibration" / "aisle-3.json").write_bytes(content)
    with pytest.raises(CalibrationDamaged, match="is damaged"):
        store.load("aisle-3")
    given = load([configuration(tmp_path)])
    used, damaged = calibrated(given, store)
    assert used.sensors[0].settings.calibration is None
    assert "aisle-3" in damaged
    store.save("aisle-3", stored(2))
    assert store.load("aisle-3") == stored(2)


def test_the_daemon_weighs_with_what_is_stored_unless_it_is_configured(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path / "outbox", RealDisk())
    store.save("aisle-3", stored(84_213))
    used, _ = calibrated(load([configuration(tmp_path)]), store)
    assert used.sensors[0].settings.calibration == Calibration(84_213, 21.5)
    fixed = SHELF_TOML + "calibration = { offset_counts = 5, counts_per_gram = 7 }\n"
    used, _ = calibrated(load([configuration(tmp_path, fixed)]), store)
    assert used.sensors[0].settings.calibration == Calibration(5, 7)


def test_a_new_interpreter_in_its_place_ends_the_old_ones_faults_and_touches_no_other() -> None:
    from dataclasses import replace

    interpretations = []
    for sensor in ("aisle-3", "aisle-4"):
        faults = Faults(sensor)
        interpretations.append(
            Interpreted(sensor, ShelfInterpreter(replace(SHELF, id=sensor), Context(faults)), faults)
        )
    interpretation = Interpretation(interpretations)
    for reading in samples([(1000, 3)]):
        list(interpretation.read(reading))
        list(interpretation.read(replace(reading, sensor="aisle-4")))
    other = interpretation.by_sensor["aisle-4"]
    before = other.interpreter
    assert set(other.faults.active) == set(interpretation.by_sensor["aisle-3"].faults.active) == {"not_calibrated"}
    settings = replace(SHELF, calibration=Calibration(84_213, 21.5))
    faults = interpretation.by_sensor["aisle-3"].faults
    fresh = ShelfInterpreter(settings, Context(faults))
    told: list[Event] = list(interpretation.replace("aisle-3", fresh, at(3.1), "weighed anew"))
    assert [(event.subject, event.fact.type) for event in told] == [("aisle-3", "store.sensor.recovered")]
    assert (other.interpreter, set(other.faults.active)) == (before, {"not_calibrated"})
    assert not faults.active
    later = [replace(r, at=r.at.later(4 * NS_PER_S)) for r in samples([(1000, 8)])]
    told = [event for reading in later for event in interpretation.read(reading)]
    assert {event.subject for event in told} <= {"aisle-4"}  # which has fallen silent meanwhile
    assert interpretation.by_sensor["aisle-3"].interpreter is fresh
    list(interpretation.read(replace(later[-1], sensor="aisle-4")))
    assert set(other.faults.active) >= {"not_calibrated"}
