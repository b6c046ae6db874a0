"""In the machine: a Bluetooth LE controller on /dev/vhci, whose radio hears the advertisers that a test describes.

A JSON object a line on /run/lab-radio.sock, one a line back (the counters):
  {"op": "advertise", "address": "c0:..", "data": "0201..", "response": null, "kind": 3, "random": 1, "rssi_dbm": -60,
   "noise_db": 0, "every_s": 0.1, "jitter_s": 0.01, "loss": 0}     kind 0 connectable, 2 scannable, 3 neither
  {"op": "remove", "address": ..}   {"op": "clear"}   {"op": "counters"}
  {"op": "fault", "fault": "none" | "refuses" | "silent"}   scans are refused (0x0c) | nothing is answered any more

Legacy advertising reports alone: no connections, no GATT, no BR/EDR. Opcodes and bitmaps: Bluetooth Core 5.0, Vol 4
Part E, sections 6.27 and 7.
"""

import heapq
import json
import os
import random
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEVICE = "/dev/vhci"
CONTROL = Path("/run/lab-radio.sock")
ADDRESS = "b8:27:eb:11:22:33"
MAKE_PRIMARY = b"\xff\x00"
OK, DISALLOWED, UNKNOWN = b"\0", b"\x0c", b"\x01"
COMMAND, DATA, EVENT = 1, 2, 4
SET_SCAN_PARAMETERS, SET_SCAN_ENABLE = 0x200B, 0x200C
LATE_MAX_S = 1.0
"""An advertiser that is further behind skips instead of catching up."""
REPORTS_A_TURN = 256
FAULTS = ("none", "refuses", "silent")
JUST_OK = (
    *(0x0C01, 0x0C03, 0x0C13, 0x0C63, 0x0C6D),  # event masks, reset, local name, LE host support
    *(0x2001, 0x2005, 0x2006, 0x2008, 0x2009, 0x200A),  # LE event mask, random address, own advertising
    *(0x2010, 0x2011, 0x2012, 0x2024, 0x2029, 0x202D, 0x202E),  # accept and resolving lists, data length
)


def supported_commands() -> bytes:
    """The bitmap of section 6.27: reset, what is asked about the controller, and legacy LE."""
    bits = bytearray(64)
    bits[5], bits[14], bits[25], bits[26], bits[27], bits[28], bits[33] = 0xC0, 0xA8, 0xF7, 0x3F, 0x74, 0x01, 0x30
    return bytes(bits)


def answers() -> dict[int, bytes]:
    """Opcode to return parameters, for each command that needs no more than that."""
    return dict.fromkeys(JUST_OK, OK) | {
        0x0C14: OK + bytes(248),  # local name
        0x0C23: OK + bytes(3),  # class of device
        0x1001: OK + struct.pack("<BHBHH", 9, 0, 9, 0x05F1, 0),  # version: Bluetooth 5.0
        0x1002: OK + supported_commands(),
        0x1003: OK + bytes([0, 0, 0, 0, 0x60, 0, 0, 0]),  # features: LE, no BR/EDR
        0x1005: OK + struct.pack("<HBHH", 251, 0, 8, 0),  # buffers
        0x1009: OK + bytes.fromhex(ADDRESS.replace(":", ""))[::-1],
        0x2002: OK + struct.pack("<HB", 251, 8),  # LE buffers
        0x2003: OK + bytes(8),  # LE features: none
        0x2007: OK + b"\0",  # advertising power
        0x200F: OK + b"\x10",  # accept list: 16
        0x2017: OK + os.urandom(16),  # encrypt
        0x2018: OK + os.urandom(8),  # random number
        0x201C: OK + bytes.fromhex("ffff3f1f00000000"),  # supported states
        0x2023: OK + struct.pack("<HH", 251, 2120),  # data lengths
        0x202A: OK + b"\x10",  # resolving list: 16
        0x202F: OK + struct.pack("<HHHH", 251, 2120, 251, 2120),
    }


@dataclass(slots=True)
class Advertiser:
    """One device in the air; `due_s` is when it speaks next."""

    address: bytes
    data: bytes
    response: bytes | None = None
    kind: int = 3
    random: int = 1
    rssi_dbm: float = -60
    noise_db: float = 0
    every_s: float = 0.1
    jitter_s: float = 0.01
    loss: float = 0
    due_s: float | None = None

    @classmethod
    def of(cls, wish: dict[str, Any]) -> "Advertiser":
        """Read a control line; ValueError, KeyError or TypeError where it is none."""
        rest = {key: value for key, value in wish.items() if key not in ("op", "address", "data", "response")}
        response = wish.get("response")
        address = bytes.fromhex(wish["address"].replace(":", ""))[::-1]
        return cls(address, bytes.fromhex(wish["data"]), bytes.fromhex(response) if response else None, **rest)


@dataclass(slots=True)
class Controller:
    """The controller behind the open device."""

    device: int
    answers: dict[int, bytes] = field(default_factory=answers)
    received: bytes = b""
    advertisers: dict[str, Advertiser] = field(default_factory=dict)
    due: list[tuple[float, str]] = field(default_factory=list)
    scanning: bool = False
    active: bool = False
    drops_repeats: bool = False
    reported: set[str] = field(default_factory=set)
    fault: str = "none"
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("commands", "due", "sent", "dropped"), 0))
    unknown: set[str] = field(default_factory=set)

    def run(self, server: socket.socket) -> None:
        """Serve the kernel and the tests until the machine ends."""
        clients: dict[socket.socket, bytes] = {}
        while True:
            wait_s = self.due[0][0] - time.monotonic() if self.scanning and self.due else 1.0
            watched: list[int | socket.socket] = [self.device, server, *clients]
            ready, _, _ = select.select(watched, [], [], min(max(wait_s, 0), 1.0))
            if self.device in ready:
                self.read()
            if server in ready:
                clients[server.accept()[0]] = b""
            for client in [client for client in ready if client in clients]:
                self.serve(client, clients)
            if self.scanning and self.fault != "silent":
                self.send_due(time.monotonic())

    # --- towards the kernel: H4 packets -------------------------------------------------------------------------------

    def read(self) -> None:
        """Take what the kernel sent."""
        self.received += os.read(self.device, 4096)
        while len(self.received) >= 4:
            kind = self.received[0]
            if kind == COMMAND:
                length = 4 + self.received[3]
            elif kind == DATA and len(self.received) >= 5:
                length = 5 + struct.unpack_from("<H", self.received, 3)[0]
            else:
                length = 1  # out of step
            if len(self.received) < length:
                return
            packet, self.received = self.received[:length], self.received[length:]
            if kind == COMMAND:
                self.obey(packet[1] | packet[2] << 8, packet[4:])

    def obey(self, opcode: int, parameters: bytes) -> None:
        """Do a command, or pretend to."""
        self.counters["commands"] += 1
        if self.fault == "silent":
            return
        told = self.answers.get(opcode, UNKNOWN)
        if opcode == SET_SCAN_PARAMETERS:
            self.active, told = parameters[0] == 1, OK
        elif opcode == SET_SCAN_ENABLE:
            if self.fault == "refuses" and parameters[0]:
                told = DISALLOWED
            else:
                told = OK
                self.scan(bool(parameters[0]), bool(parameters[1]))
        elif opcode not in self.answers:
            self.unknown.add(hex(opcode))
        self.event(0x0E, b"\x01" + struct.pack("<H", opcode) + told)

    def scan(self, on: bool, drops_repeats: bool) -> None:
        """Begin or end a scan."""
        self.scanning, self.drops_repeats = on, drops_repeats
        self.reported.clear()
        self.due.clear()
        for key, advertiser in self.advertisers.items():
            self.schedule(key, advertiser, time.monotonic() + random.random() * advertiser.every_s)

    def event(self, code: int, parameters: bytes) -> bool:
        """Send an event; False where it was dropped, because the kernel does not take it now."""
        try:
            os.write(self.device, bytes([EVENT, code, len(parameters)]) + parameters)
        except BlockingIOError:
            return False
        return True

    # --- the radio ----------------------------------------------------------------------------------------------------

    def schedule(self, key: str, advertiser: Advertiser, at_s: float) -> None:
        advertiser.due_s = at_s
        heapq.heappush(self.due, (at_s, key))

    def send_due(self, now_s: float) -> None:
        """Let everybody speak whose time has come."""
        for _ in range(REPORTS_A_TURN):
            if not self.due or self.due[0][0] > now_s:
                return
            at_s, key = heapq.heappop(self.due)
            advertiser = self.advertisers.get(key)
            if advertiser is None or advertiser.due_s != at_s:
                continue  # removed or replaced meanwhile
            self.counters["due"] += 1
            if random.random() >= advertiser.loss and not (self.drops_repeats and key in self.reported):
                self.report(advertiser)
                self.reported.add(key)
            next_s = max(at_s + advertiser.every_s, now_s - LATE_MAX_S) + random.random() * advertiser.jitter_s
            self.schedule(key, advertiser, next_s)

    def report(self, advertiser: Advertiser) -> None:
        """Tell the kernel of one advertisement, and of its scan response where the scan is active."""
        rssi_dbm = max(-127, min(20, round(random.gauss(advertiser.rssi_dbm, advertiser.noise_db))))
        heard = [(advertiser.kind, advertiser.data)]
        if self.active and advertiser.kind in (0, 2) and advertiser.response is not None:
            heard.append((4, advertiser.response))
        for kind, data in heard:
            head = bytes([2, 1, kind, advertiser.random]) + advertiser.address + bytes([len(data)])
            sent = self.event(0x3E, head + data + struct.pack("b", rssi_dbm))
            self.counters["sent" if sent else "dropped"] += 1

    # --- the tests ----------------------------------------------------------------------------------------------------

    def serve(self, client: socket.socket, clients: dict[socket.socket, bytes]) -> None:
        """Answer the whole lines that a client has sent."""
        try:
            chunk = client.recv(65536)
            *lines, clients[client] = (clients[client] + chunk).split(b"\n")
            for line in lines:
                client.sendall(json.dumps(self.answer(line)).encode() + b"\n")
        except OSError:  # it left without waiting
            chunk = b""
        if not chunk:
            client.close()
            del clients[client]

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what a line says."""
        try:
            wish = json.loads(line)
            self.change(wish["op"], wish)
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        state = {"scanning": self.scanning, "active": self.active, "fault": self.fault, "unknown": sorted(self.unknown)}
        return {**state, "advertisers": len(self.advertisers), **self.counters}

    def change(self, op: str, wish: dict[str, Any]) -> None:
        if op == "advertise":
            key = wish["address"].lower()
            self.advertisers[key] = advertiser = Advertiser.of(wish)
            if self.scanning:
                self.schedule(key, advertiser, time.monotonic())
        elif op == "remove":
            self.advertisers.pop(wish["address"].lower(), None)
        elif op == "clear":
            self.advertisers.clear()
        elif op == "fault":
            self.fault = FAULTS[FAULTS.index(wish["fault"])]
        elif op != "counters":
            raise ValueError(op)


def main() -> None:
    """Become hci0."""
    device = os.open(DEVICE, os.O_RDWR)
    os.write(device, MAKE_PRIMARY)
    os.read(device, 64)
    os.set_blocking(device, False)
    CONTROL.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(CONTROL))
        server.listen()
        Controller(device).run(server)


if __name__ == "__main__":
    main()
