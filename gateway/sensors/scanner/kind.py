"""The kind `scanner`: what the gateway knows of scanners, in one value."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.machine.clock import Clock
from gateway.sensors.check import Checked
from gateway.sensors.description import Description
from gateway.sensors.diagnosis import Evidence, Finding
from gateway.sensors.gauge import Gauge
from gateway.sensors.kind import Context, Driver, Interpreter, Kind
from gateway.sensors.scanner.facts import BeaconArrived, BeaconCounted, BeaconLeft, BeaconMoved, BeaconTelemetry
from gateway.sensors.scanner.keys import TagKeys
from gateway.sensors.scanner.reading import line_of, reading_of
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.telemetry import QUANTITIES
from gateway.sensors.simulation import Part
from gateway.sensors.trial import Tools, Trial


def keys_of(settings: ScannerSettings) -> TagKeys:
    """Read the keys that the rules of a scanner name. Never raises."""
    from gateway.sensors.scanner.drivers.tag_keys import opened_keys

    return opened_keys(settings.tags)


def interpreter(settings: ScannerSettings, context: Context) -> Interpreter:
    """Build the interpreter of one scanner; reads the keys that its rules name."""
    from gateway.sensors.scanner.interpreter import BeaconInterpreter

    keys = keys_of(settings)
    return BeaconInterpreter(settings, context, keys.bind, keys.troubles, keys.identity)


def driver(settings: ScannerSettings, clock: Clock) -> Driver:
    """Build the driver that the settings name."""
    if settings.driver == "bleak":
        from gateway.sensors.scanner.drivers.bleak_scan import BleakScan

        return BleakScan(settings, clock)
    from gateway.sensors.scanner.drivers.bluepy_scan import BluepyScan

    return BluepyScan(settings, clock)


def judge(settings: ScannerSettings, evidence: Evidence) -> list[Finding]:
    """Judge one scanner by what it heard."""
    from gateway.sensors.scanner.diagnosis import judge_scanner

    return judge_scanner(settings, evidence, keys_of(settings))


def trial(settings: ScannerSettings, tools: Tools) -> Trial:
    """Return the trial of one scanner."""
    from gateway.sensors.scanner.trial import ScannerTrial

    return ScannerTrial(settings, keys_of(settings).identity)


def gauge(settings: ScannerSettings) -> Gauge:
    """Return how one scanner is watched."""
    from gateway.sensors.scanner.gauge import ScannerGauge

    return ScannerGauge(settings, keys_of(settings).identity)


def check(settings: ScannerSettings) -> Iterator[Checked]:
    """Yield what is found about what one scanner hangs on."""
    from gateway.sensors.scanner.drivers.check import check as look

    return look(settings)


def describe(settings: ScannerSettings) -> Description:
    """Return which devices are identified; without a rule strangers are counted and nothing else."""
    return Description(
        identified=tuple((rule.tag, rule.selector()) for rule in settings.tags),
        addresses=tuple(rule.address for rule in settings.tags if rule.address is not None),
        facts=None if settings.tags else (BeaconCounted,),
    )


def simulate(settings: ScannerSettings) -> Part:
    """Return what one scanner is in a simulated shop."""
    from gateway.sensors.scanner.simulated import simulated

    return simulated(settings)


EXAMPLE = """\
[[scanner]]
id = "ble"
adapter = "hci0"
# driver = "bluepy"                  # or "bleak": through BlueZ, without capabilities; always an active scan
# mode = "passive"                   # or "active"
# left_after_s = 30
tags = [
  { tag = "loyalty", ibeacon = { uuid = "f7826da6-4fa2-4e98-8024-bc5b71e0893e" } },
  { tag = "cart-12", address = "c4:64:e3:00:00:01" },
  { tag = "fridge", eddystone = { namespace = "edd1ebeac04e5defa017" } },
  { tag = "cold-room", address = "c4:64:e3:00:00:02", telemetry = true },
  # Devices that change their address or identifier, by their keys: 32 hex digits in a file; store-gateway[bthome]
  # { tag = "badge", irk_file = "/etc/gateway/badge.irk" },
  # { tag = "crate", eddystone_eid = { key_file = "/etc/gateway/crate.eid", started = "2026-01-31T09:00:00Z" } },
]
"""

KIND: Kind[ScannerSettings] = Kind(
    table="scanner",
    stream="beacon",
    settings=ScannerSettings,
    facts=(BeaconArrived, BeaconMoved, BeaconLeft, BeaconTelemetry, BeaconCounted),
    interpreter=interpreter,
    driver=driver,
    reading_of=reading_of,
    line_of=line_of,
    interval_s=lambda settings: settings.counted_every,
    judge=judge,
    trial=trial,
    gauge=gauge,
    simulate=simulate,
    check=check,
    describe=describe,
    ranges=QUANTITIES,
    example=EXAMPLE,
    changeable="left_after_s counted_every telemetry_every arrive_rssi_dbm path_loss_exponent",
    on_demand="driver mode",
)
