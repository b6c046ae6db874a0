"""The scanner's driver on bleak: BlueZ over D-Bus, for dongles of Bluetooth 5 and gateways without capabilities.

One thread with an event loop of its own; every wait has a limit. BlueZ hands out dictionaries, not the bytes that were
on the air: `advertising_data` rebuilds AD structures from them for the one decoder that all share. What BlueZ merged
stays merged (frames of one device may be told together, repetitions late): readings are fewer, and RSSI is the latest.

BlueZ's passive scan needs its experimental mode and fails without a word where that is off: `mode` is not used here,
the scan is active. Silence is met by the ladder of `silence`, as in `bluepy_scan`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S
from gateway.sensors.drivers import DriverError, Supervised
from gateway.sensors.scanner.drivers.adapter_power import cycle_power
from gateway.sensors.scanner.reading import PAYLOAD_BYTES_MAX, AddressType, Advertisement, sane_rssi_dbm
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.silence import STEP_S, Silence

if TYPE_CHECKING:
    from bleak import BleakScanner
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

ANSWER_S = 10.0
STOP_S = 1.0
"""Below the 2 s in which a driver closes."""
LISTEN_S = 0.25
SETTLED_S = 10.0
SCANNED_ANEW_MAX_S = 3600.0
"""BlueZ remembers devices for as long as a scan lasts: an hour's strangers are enough."""
BASE_UUID = "-0000-1000-8000-00805f9b34fb"
LOCAL_NAME, SERVICE_DATA_16, SERVICE_DATA_32, SERVICE_DATA_128, MANUFACTURER_DATA = 0x09, 0x16, 0x20, 0x21, 0xFF

DBUS_REASONS = {
    "org.bluez.Error.NotReady": ("adapter_off", "the Bluetooth adapter {adapter} is switched off (try: rfkill unblock "
                                 "bluetooth, or: bluetoothctl power on)"),
    "org.bluez.Error.NotAuthorized": ("no_permission", "BlueZ does not permit us to scan with {adapter}"),
    "org.bluez.Error.NotPermitted": ("no_permission", "BlueZ does not permit us to scan with {adapter}"),
    "org.freedesktop.DBus.Error.AccessDenied": ("no_permission", "D-Bus does not let us talk to BlueZ"),
    "org.freedesktop.DBus.Error.ServiceUnknown": ("driver_missing", "bluetoothd is not running (try: systemctl start "
                                                  "bluetooth)"),
    "org.freedesktop.DBus.Error.NameHasNoOwner": ("driver_missing", "bluetoothd is not running (try: systemctl start "
                                                  "bluetooth)"),
}  # fmt: skip

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """What happened over all runs of the scan."""

    advertisements: int = 0
    unreadable: int = 0
    scans_restarted: int = 0
    connections_renewed: int = 0
    power_cycled: int = 0
    power_refused: int = 0


def advertising_data(
    local_name: str | None, manufacturer_data: Mapping[int, bytes], service_data: Mapping[str, bytes]
) -> bytes:
    """Return AD structures that say what BlueZ's dictionaries say; what fits in no structure is left out."""
    parts = [(LOCAL_NAME, local_name.encode()[:29])] if local_name else []
    parts += [(MANUFACTURER_DATA, company.to_bytes(2, "little") + data) for company, data in manufacturer_data.items()]
    for uuid, data in service_data.items():
        digits = bytes.fromhex(uuid.replace("-", ""))[::-1]
        if not uuid.lower().endswith(BASE_UUID):
            parts.append((SERVICE_DATA_128, digits + data))
        elif digits[14:] == b"\x00\x00":
            parts.append((SERVICE_DATA_16, digits[12:14] + data))
        else:
            parts.append((SERVICE_DATA_32, digits[12:] + data))
    whole = b"".join(bytes((len(value) + 1, kind)) + value for kind, value in parts if len(value) < 255)
    return whole[:PAYLOAD_BYTES_MAX]


class BleakScan(Supervised):
    """Driver of one `[[scanner]]`. The constructor's last arguments are for tests."""

    def __init__(
        self,
        settings: ScannerSettings,
        clock: Clock,
        silence_step_s: float = STEP_S,
        answer_s: float = ANSWER_S,
        settled_s: float = SETTLED_S,
    ) -> None:
        super().__init__(settings.id, clock)
        self._settings = settings
        self._answer_s = answer_s
        self._settled_ns = int(settled_s * NS_PER_S)
        self._silence = Silence(clock.now().boot_ns, silence_step_s)
        self._counts = Counts()
        self._heard_ns: int | None = None

    def counted(self) -> Mapping[str, int]:
        silence_s = self._silence.silence_s(self.clock.now().boot_ns)
        return {**asdict(self._counts), "silence_s": silence_s}

    def work(self) -> None:
        try:
            import bleak
            from bleak.exc import BleakError
        except ImportError as error:
            raise DriverError(
                "driver_missing", f"the package bleak cannot be imported ({error}); install store-gateway[bleak]"
            ) from None
        try:
            while not self.stopping.is_set():
                self.alive()
                asyncio.run(self._run(bleak.BleakScanner))
        except DriverError:
            raise
        except BleakError as error:
            raise self._told(error) from error
        except OSError as error:
            raise DriverError(
                "driver_missing", f"the system's D-Bus cannot be reached ({error.strerror or error}); BlueZ needs it"
            ) from error

    def _told(self, error: Exception) -> DriverError:
        """Return what bleak's error is to us."""
        name = getattr(error, "dbus_error", None) or getattr(getattr(error, "reason", None), "name", "")
        adapter = self._settings.adapter
        if name in DBUS_REASONS:
            reason, detail = DBUS_REASONS[name]
            return DriverError(reason, detail.format(adapter=adapter))
        if str(name).startswith("DENIED"):
            return DriverError("no_permission", f"D-Bus does not let us talk to BlueZ ({error.args[0]})")
        if "not found" in str(error):
            return DriverError("adapter_missing", f"there is no Bluetooth adapter {adapter}")
        return DriverError("scan_refused", f"BlueZ refused to scan with {adapter} ({error})")

    async def _run(self, scanner_of: type[BleakScanner]) -> None:
        """Scan over one connection to D-Bus until it is to be renewed, or the driver ends."""

        def detected(device: BLEDevice, said: AdvertisementData) -> None:
            self._take(device, said)

        filters: Any = {"DuplicateData": True}  # else BlueZ tells of a device only when what it says has changed
        scanner = scanner_of(detected, bluez={"adapter": self._settings.adapter, "filters": filters})
        began_ns = scan_began_ns = self.clock.now().boot_ns
        await self._within(self._answer_s, scanner.start(), "begin to scan")
        try:
            while not self.stopping.is_set():
                self.alive()
                heard_ns = self._heard_ns
                await asyncio.sleep(LISTEN_S)
                now_ns = self.clock.now().boot_ns
                if self._heard_ns is not None and self._heard_ns != heard_ns:
                    self._silence.heard(self._heard_ns)
                    self.good()
                elif now_ns - began_ns >= self._settled_ns and not self._silence.is_told:
                    self.good()  # BlueZ obeyed: all that can be known in a quiet room
                rung = self._silence.step(now_ns)
                if rung == "scan" or now_ns - scan_began_ns >= SCANNED_ANEW_MAX_S * NS_PER_S:
                    self._counts.scans_restarted += 1
                    scan_began_ns = now_ns
                    await self._within(self._answer_s, scanner.stop(), "end the scan")
                    await self._within(self._answer_s, scanner.start(), "begin to scan")
                elif rung is not None:
                    self._climb(rung)
                    return
        finally:
            # Whatever BlueZ makes of it: the connection closes with the loop, and BlueZ then ends the scan itself.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(scanner.stop(), STOP_S)

    async def _within(self, limit_s: float, work: Coroutine[Any, Any, T], what: str) -> T:
        """Do the work within its limit; DriverError where BlueZ does not answer. Ends early when the driver does."""
        task = asyncio.ensure_future(work)
        until_ns = self.clock.now().boot_ns + int(limit_s * NS_PER_S)
        while not task.done():
            if self.stopping.is_set() or self.clock.now().boot_ns >= until_ns:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                if self.stopping.is_set():
                    raise DriverError("driver_hung", "the driver is to end")
                detail = f"BlueZ did not {what} within {limit_s:g} s (try: systemctl restart bluetooth)"
                raise DriverError("driver_hung", detail)
            await asyncio.wait((task,), timeout=min(LISTEN_S, limit_s))
        return task.result()

    def _take(self, device: BLEDevice, said: AdvertisementData) -> None:
        """Take one advertisement, in the loop's thread. Never raises: bleak would only log it."""
        try:
            now = self.clock.now()
            payload = advertising_data(said.local_name, said.manufacturer_data, said.service_data)
            props = said.platform_data[1] if len(said.platform_data) > 1 else {}
            kind = props.get("AddressType")
            address_type = cast("AddressType", kind) if kind in ("public", "random") else None
            rssi_dbm = sane_rssi_dbm(said.rssi)
            reading = Advertisement(
                self._settings.id, now, device.address.lower(), address_type, rssi_dbm, payload
            )  # fmt: skip
        except (ValueError, TypeError, AttributeError, OverflowError):
            self._counts.unreadable += 1
            return
        self._counts.advertisements += 1
        self._heard_ns = now.boot_ns
        self.emit(reading)

    def _climb(self, rung: str) -> None:
        """Try a rung of the ladder after which the connection is begun anew."""
        self._counts.connections_renewed += 1
        if rung == "power":
            if cycle_power(self._settings.adapter, self.stopping):
                self._counts.power_cycled += 1
            else:
                self._counts.power_refused += 1
        elif rung == "silent":
            minutes = self._silence.silence_s(self.clock.now().boot_ns) // 60
            self.fail(
                "silent",
                f"nothing has been heard for {minutes} min, longer than is usual here, though BlueZ obeys; hold a "
                f"phone near the adapter {self._settings.adapter}, and if that is not heard, reboot the gateway",
            )
