"""What is fuzzed: each target takes bytes as a stranger sends them, and may raise only what it declares.

A target is a function of bytes. What it declares is caught here; anything else is a crash, and so is a hang of more
than 5 s, or memory past a bound (`tests/fuzz/__main__.py`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zlib import crc32

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.cli.outbox_journey import NoExport, _checked
from gateway.commands.verbs import CommandRefused, overlay_of, resend_of, understood
from gateway.config import loads
from gateway.config.overlay import path_of, read_ordered
from gateway.control.serving import ControlServer
from gateway.errors import GatewayError
from gateway.machine.bounded import json_object
from gateway.mqtt import codes
from gateway.mqtt.client import BoundedClient
from gateway.mqtt.heard import Heard
from gateway.outbox.losses import told_loss
from gateway.outbox.query import parse_query
from gateway.outbox.reader import OutboxReader
from gateway.outbox.record import decode_header
from gateway.outbox.state import SavedState, decode_state, encode_state
from gateway.outbox.status import times_ms
from gateway.recordings.recording import Recording
from gateway.sensors.scanner.advertisement import EddystoneTlm, Ruuvi, decode, power_dbm
from gateway.sensors.scanner.telemetry import QUANTITIES, BtHome, BtHomeOpener
from gateway.sensors.shelf.calibration import from_json

HELD = tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
FOLDER = Path(HELD.name)  # gone with the process
SEGMENT = "door/0000000000000001-00000001.json"
SOUND_STATE = encode_state(SavedState(1, "0a1b2c3d", 1, True, {}, {}, {}, ()))


def advertisements(raw: bytes) -> None:
    """A payload of the radio; what it carries is possible."""
    frames = decode(raw)
    power_dbm(frames)
    for frame in frames:
        told = BtHomeOpener().open(frame, "54:48:e6:8f:80:a5") if isinstance(frame, BtHome) else None
        if isinstance(frame, Ruuvi | EddystoneTlm):
            told = frame.telemetry
        for name, (least, most) in QUANTITIES.items():
            value = getattr(told, name, None)
            assert value is None or least <= value <= most, f"{name} is {value}"


def mqtt(raw: bytes) -> None:
    """What a broker sends, from CONNACK on: to the client as it is shipped, the first byte says in which version."""
    codes.complete()
    is_v5 = bool(raw[:1] and raw[0] & 1)
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id="fuzz",
        clean_session=None if is_v5 else True,
        protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.suppress_exceptions = True
    order = SimpleNamespace(protocol="5" if is_v5 else "3.1.1", link=1, will=None)
    Heard(cast(Any, order), lambda signal: None, 30).listen(client)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(raw[1:65536])
        far.shutdown(socket.SHUT_WR)
        client._sock = near
        for _ in range(1000):
            if client._sock is None or client.loop_read():
                return


def commands(raw: bytes) -> None:
    """The payload of a command, for each verb."""
    for verb, of in (("resend", resend_of), ("config", overlay_of), ("ping", dict)):
        with contextlib.suppress(CommandRefused):
            cast(Callable[[Any], Any], of)(understood(verb, raw, ("resend", "config", "ping")))


def recordings(raw: bytes) -> None:
    """A recording's file."""
    path = FOLDER / "recording.jsonl"
    path.write_bytes(raw)
    with contextlib.suppress(GatewayError):
        list(Recording(path).lines())


def configuration(raw: bytes) -> None:
    """A configuration's text."""
    with contextlib.suppress(GatewayError):
        loads(raw.decode(errors="replace"))


def overlay(raw: bytes) -> None:
    """The file of what the cloud ordered: read at each start, which must go on whatever stands there."""
    path_of(FOLDER / "outbox").write_bytes(raw)
    read_ordered(FOLDER / "outbox")


def outbox(raw: bytes) -> None:
    """A segment and a state, as they are and with checksums that hold."""
    rest = raw.removeprefix(b"{")
    decode_state(raw)
    decode_state(b"%08x %b\n" % (crc32(raw), raw))
    header = b'{"_seg":{"1":{"_c":"%08x",%b},"door":{\n' % (crc32(rest), rest)
    decode_header(header)
    told_loss(raw, "0a1b2c3d")
    times_ms(raw)
    place = FOLDER / "card"
    (place / "door").mkdir(parents=True, exist_ok=True)
    (place / SEGMENT).write_bytes(raw)
    slot = b"%08x %b\n" % (crc32(raw), raw)
    (place / "state.ack").write_bytes(slot.ljust(16 * 1024, b"\0"))
    with contextlib.suppress(GatewayError):
        list(OutboxReader(str(place)).entries("door"))
    (place / SEGMENT).write_bytes(header + raw)
    (place / "state.ack").write_bytes(SOUND_STATE.ljust(16 * 1024, b"\0"))
    assert list(OutboxReader(str(place)).entries("door")) == [] or b'"_c":' in raw


def query(raw: bytes) -> None:
    """An expression of `outbox query`, asked of an event."""
    with contextlib.suppress(GatewayError):
        parse_query(raw.decode(errors="replace"))({"sequence": "0000000000000017", "data": {"direction": "in"}})


def control(raw: bytes) -> None:
    """A line to the control socket."""
    settings = SimpleNamespace(outbox=SimpleNamespace(directory=str(FOLDER)))
    ControlServer(cast(Any, settings), lambda verb, arguments: {"verb": verb})._answered(raw)


def calibration(raw: bytes) -> None:
    """A stored calibration."""
    with contextlib.suppress(ValueError):
        from_json(raw)


def adoption(raw: bytes) -> None:
    """A line of another gateway's export."""
    with contextlib.suppress(NoExport):
        _checked(raw, "here")
    with contextlib.suppress(ValueError):
        json_object(raw)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        advertisements,
        mqtt,
        commands,
        recordings,
        configuration,
        overlay,
        outbox,
        query,
        control,
        calibration,
        adoption,
    )
}
