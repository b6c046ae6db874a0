"""The calibrations that `gateway calibrate` and `gateway tare` stored: one small file a shelf, and the one before it.

Format: `{shelf}.json` in the folder `calibration` beside the outbox directory holds one JSON object, the fields of
`StoredCalibration`; `{shelf}.json.previous` is what it replaced. Order of writes: the old content under a temporary
name, synced, renamed to `.previous`; the new content likewise to its name; the folder synced. Law: a power cut at any
point leaves a whole calibration in force, the old one or the new one. A damaged file is reported, never a crash.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gateway.config import Configuration
from gateway.errors import GatewayError
from gateway.machine.acting import acting_as_owner_of
from gateway.machine.disk import Disk
from gateway.sensors.kind import Sensor
from gateway.sensors.shelf.calibration import CalibrationRefused, StoredCalibration, from_json, in_force

FOLDER = "calibration"
BYTES_MAX = 64 * 1024


class CalibrationDamaged(GatewayError):
    """A stored calibration is there and cannot be used."""


class CalibrationNotWritten(GatewayError):
    """The folder of the calibrations cannot be written."""


class CalibrationStore:
    """The folder of one gateway's calibrations."""

    def __init__(self, outbox_directory: Path | str, disk: Disk) -> None:
        self.directory = Path(os.path.abspath(outbox_directory)).parent / FOLDER
        self.disk = disk

    def load(self, shelf: str) -> StoredCalibration | None:
        """Return what is stored for a shelf, None where nothing is; CalibrationDamaged where it cannot be used."""
        return self._load(self.directory / f"{shelf}.json")

    def previous(self, shelf: str) -> StoredCalibration | None:
        """Return what the stored one replaced, as `load`."""
        return self._load(self.directory / f"{shelf}.json.previous")

    def save(self, shelf: str, stored: StoredCalibration) -> None:
        """Put `stored` in force and keep what was; it survives a power cut on return.

        Root writes as the user whose folder it is. Raises CalibrationNotWritten.
        """
        path = self.directory / f"{shelf}.json"
        try:
            with acting_as_owner_of(self.directory):
                self.disk.make_directory(str(self.directory))
                with suppress(FileNotFoundError):
                    self._replace(path.with_name(f"{path.name}.previous"), self._read(path))
                self._replace(path, json.dumps(stored.to_json(), indent=1).encode() + b"\n")
                self.disk.sync_directory(str(self.directory))
                self.disk.sync_directory(str(self.directory.parent))
        except OSError as error:
            raise CalibrationNotWritten(
                f"the calibration cannot be written to {self.directory}: {error.strerror or error}",
                "run it as the service's user (sudo -u gateway gateway ...), and see whether the disk is full",
            ) from None

    def undo(self, shelf: str) -> StoredCalibration:
        """Bring the previous calibration back, and keep the present one as previous; returns what is stored now."""
        previous = self.previous(shelf)
        if previous is None:
            raise CalibrationRefused(f"{shelf} has no earlier calibration that could be brought back")
        self.save(shelf, previous)
        return previous

    def _load(self, path: Path) -> StoredCalibration | None:
        try:
            return from_json(self._read(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CalibrationDamaged(
                f"the stored calibration {path} cannot be read: {error.strerror or error}"
            ) from None
        except ValueError as error:
            raise CalibrationDamaged(
                f"the stored calibration {path} is damaged: {error}",
                "calibrate the shelf again, or bring the one before back: gateway calibrate SHELF --undo",
            ) from None

    def _read(self, path: Path) -> bytes:
        fd = self.disk.open_reading(str(path))
        try:
            return self.disk.read_at(fd, BYTES_MAX, 0)
        finally:
            self.disk.close(fd)

    def _replace(self, path: Path, content: bytes) -> None:
        fresh = path.with_name(f"{path.name}.new")
        with suppress(FileNotFoundError):
            self.disk.unlink(str(fresh))
        fd = self.disk.open(str(fresh), create=True)
        try:
            self.disk.write_at(fd, content, 0)
            self.disk.sync(fd)
        finally:
            self.disk.close(fd)
        self.disk.rename(str(fresh), str(path))


def calibrated(
    configuration: Configuration, store: CalibrationStore
) -> tuple[Configuration, Mapping[str, CalibrationDamaged]]:
    """Return the configuration with the stored calibrations where they hold, and what is wrong with any, by shelf."""
    sensors, damaged = [], {}
    for sensor in configuration.sensors:
        used = sensor.settings
        if sensor.kind.calibrates:
            try:
                found = in_force(sensor.settings.calibration, store.load(sensor.id))
                used = dataclasses.replace(sensor.settings, calibration=found)
            except CalibrationDamaged as error:
                damaged[sensor.id] = error
        sensors.append(Sensor(sensor.kind, used))
    return dataclasses.replace(configuration, sensors=tuple(sensors)), damaged
