"""A bluetoothd for tests: org.bluez on the bus that DBUS_SYSTEM_BUS_ADDRESS names, scripted by one word.

    python fake_bluez.py MODE

The bus, the protocol, bleak and dbus-fast are real; the radio is not there. It prints "ready", then each call it gets.
What a method returns is not annotated: dbus-fast reads annotations as signatures.
"""

import asyncio
import sys
from typing import Any

from dbus_fast import BusType, DBusError, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

UUID = "f7826da64fa24e988024bc5b71e0893e"
IBEACON = bytes.fromhex(f"0215{UUID}00010007c5")
EDDYSTONE_UUID = "0000feaa-0000-1000-8000-00805f9b34fb"
EDDYSTONE = bytes.fromhex("00e7edd1ebeac04e5defa0170000000000010000")


def say(word: str) -> None:
    print(word, flush=True)


class Adapter(ServiceInterface):
    def __init__(self, mode: str, bus: MessageBus) -> None:
        super().__init__("org.bluez.Adapter1")
        self.mode = mode
        self.bus = bus
        self.advertising: asyncio.Task[None] | None = None

    @dbus_property(access=PropertyAccess.READ)
    def Powered(self) -> "b":  # type: ignore[name-defined]  # noqa: F821
        return self.mode != "off"

    @dbus_property(access=PropertyAccess.READ)
    def Roles(self) -> "as":  # type: ignore[valid-type]  # noqa: F722
        return ["central"]

    @dbus_method()
    def SetDiscoveryFilter(self, filters: "a{sv}"):  # type: ignore[no-untyped-def,valid-type]  # noqa: F722
        duplicates = filters.get("DuplicateData")
        say(f"filter duplicates={duplicates.value if duplicates else None}")

    @dbus_method()
    async def StartDiscovery(self):  # type: ignore[no-untyped-def]
        say("start")
        if self.mode == "off":
            raise DBusError("org.bluez.Error.NotReady", "Resource Not Ready")
        if self.mode == "denied":
            raise DBusError("org.freedesktop.DBus.Error.AccessDenied", "Rejected send message")
        if self.mode == "busy":
            raise DBusError("org.bluez.Error.InProgress", "Operation already in progress")
        if self.mode == "mute":
            await asyncio.sleep(3600)
        if self.mode == "talks":
            self.advertising = asyncio.ensure_future(advertise(self.bus))

    @dbus_method()
    def StopDiscovery(self):  # type: ignore[no-untyped-def]
        say("stop")
        if self.advertising is not None:
            self.advertising.cancel()


class Device(ServiceInterface):
    def __init__(self, address: str, kind: str, data: dict[str, Any]) -> None:
        super().__init__("org.bluez.Device1")
        self.address, self.kind, self.data, self.rssi = address, kind, data, -60

    @dbus_property(access=PropertyAccess.READ)
    def Address(self) -> "s":  # type: ignore[name-defined]  # noqa: F821
        return self.address

    @dbus_property(access=PropertyAccess.READ)
    def AddressType(self) -> "s":  # type: ignore[name-defined]  # noqa: F821
        return self.kind

    @dbus_property(access=PropertyAccess.READ)
    def Adapter(self) -> "o":  # type: ignore[name-defined]  # noqa: F821
        return "/org/bluez/hci0"

    @dbus_property(access=PropertyAccess.READ)
    def Alias(self) -> "s":  # type: ignore[name-defined]  # noqa: F821
        return self.address.replace(":", "-")

    @dbus_property(access=PropertyAccess.READ)
    def RSSI(self) -> "n":  # type: ignore[name-defined]  # noqa: F821
        return self.rssi

    @dbus_property(access=PropertyAccess.READ)
    def ManufacturerData(self) -> "a{qv}":  # type: ignore[valid-type]  # noqa: F722
        return self.data.get("manufacturer", {})

    @dbus_property(access=PropertyAccess.READ)
    def ServiceData(self) -> "a{sv}":  # type: ignore[valid-type]  # noqa: F722
        return self.data.get("service", {})


async def advertise(bus: MessageBus) -> None:
    devices = {
        "dev_C4_64_E3_00_00_01": Device(
            "C4:64:E3:00:00:01", "random", {"manufacturer": {0x4C: Variant("ay", IBEACON)}}
        ),
        "dev_C4_64_E3_00_00_02": Device(
            "C4:64:E3:00:00:02", "public", {"service": {EDDYSTONE_UUID: Variant("ay", EDDYSTONE)}}
        ),
    }
    for name, device in devices.items():
        bus.export(f"/org/bluez/hci0/{name}", device)
    while True:
        await asyncio.sleep(0.05)
        for device in devices.values():
            device.rssi = -60 if device.rssi == -61 else -61
            data = {"RSSI": device.rssi}
            if device.data.get("manufacturer"):
                data["ManufacturerData"] = device.ManufacturerData
            else:
                data["ServiceData"] = device.ServiceData
            device.emit_properties_changed(data)


async def main(mode: str) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    if mode != "no-adapter":
        bus.export("/org/bluez/hci0", Adapter(mode, bus))
    else:
        bus.export("/org/bluez", ServiceInterface("org.bluez.AgentManager1"))
    await bus.request_name("org.bluez")
    say("ready")
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
