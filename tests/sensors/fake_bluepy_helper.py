"""Plays bluepy's helper program on stdin and stdout: one failure a mode. Run by a wrapper that the tests write."""

from __future__ import annotations

import os
import signal
import sys
import time
from select import select

RS = "\x1e"
IBEACON = "02011A1AFF4C000215E2C56DB5DFFB48D2B060D0F5A71096E000640000C5"
SUCCESS = f"rsp=$mgmt{RS}code=$success"
SCANNING = f"rsp=$stat{RS}state=$scan{RS}dst='(null){RS}mtu=h0{RS}sec='low"
ENDED = SCANNING.replace("$scan", "$disc")
BUSY = f"rsp=$mgmt{RS}code=$busy"
BAD_STATE = f"rsp=$mgmt{RS}code=$badstate"


def management_error(status: int, message: str) -> str:
    return f"rsp=$mgmt{RS}code=$mgmterr{RS}estat=h{status:X}{RS}emsg='{message}"


NOT_POWERED = management_error(0x0F, "Not Powered")


def advertisement(
    address: str = "AABBCCDDEEFF", kind: int = 2, rssi: str = "h4D", payload: str | None = IBEACON
) -> str:
    line = f"rsp=$scan{RS}addr=b{address}{RS}type=h{kind}{RS}rssi={rssi}{RS}flag=h0"
    return line if payload is None else f"{line}{RS}d=b{payload}"


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


LE_ON = {
    "no_permission": management_error(0x14, "Permission Denied"),
    "bad_index": management_error(0x11, "Invalid Index"),
    "blocked": management_error(0x12, "Blocked through rfkill"),
    "no_mgmt": f"rsp=$err{RS}code=$nomgmt",
}
ONCE = {
    "burst": tuple(advertisement(f"AABBCCDDEE{n:02X}") for n in range(20)),
    "rssi_passive": (advertisement(rssi="h81"), advertisement(rssi="hFB"), advertisement(rssi="h100")),
    "rssi_active": (advertisement(rssi="hFFFFFF81"), advertisement(rssi="hFFFFFFFB")),
    "flip": (advertisement(kind=1), advertisement(kind=2), advertisement(kind=0)),
    "bad_data": (
        *(advertisement(payload=payload) for payload in ("FF4C00", "00000000", "0201", "", None)),
        advertisement(payload="0"),
        advertisement(payload="zz"),
        advertisement(address="AABB"),
    ),
    "junk": (
        "junk", "rsp=$scan", "=", "a=b=c", f"rsp=$scan{RS}addr=hAA", "rsp=$wonder", f"rsp=$stat{RS}dst='x", "rsp=",
        "\xff\xfe", RS * 9, "rsp=$scan\x00", advertisement(),
    ),
    "long_line": ("x" * 300_000, advertisement()),
    "dies": (advertisement(), advertisement(address="AABBCCDDEE00")),
}  # fmt: skip


class Helper:
    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.is_scanning = False
        self.scans = 0
        self.began_s = time.monotonic()

    def obey(self, command: str) -> None:
        mode = self.mode
        if mode == "mute" and command != "quit":
            return
        if command == "le on":
            say(LE_ON.get(mode, SUCCESS))
        elif command in ("pasv", "scan"):
            self.scan(command)
        elif command in ("pasvend", "scanend"):
            if mode == "mute_on_end":
                return
            self.is_scanning = False
            say(SUCCESS, ENDED)
        elif command == "quit" and mode not in ("ignores_quit", "ignores_term"):
            sys.exit(0)

    def scan(self, command: str) -> None:
        mode = self.mode
        self.scans += 1
        if mode == "mute_on_scan":
            return
        if mode == "off":
            say(BAD_STATE if command == "pasv" else NOT_POWERED)
        elif mode == "refused":
            say(BAD_STATE if command == "pasv" else SUCCESS)
        elif mode == "always_busy" or (mode == "busy_once" and self.scans == 1):
            say(BUSY)
        elif mode == "rejected":
            say(management_error(0x0B, "Rejected"))
        else:
            self.is_scanning = True
            self.began_s = time.monotonic()
            say(SUCCESS, SCANNING)
            say(*ONCE.get(mode, ()))
            if mode == "dies":
                sys.exit(3)
            if mode == "half_line":
                sys.stdout.write(advertisement()[:40])
                sys.stdout.flush()
                time.sleep(0.05)
                say(advertisement()[40:])
            if mode == "deaf_after":
                say(advertisement())

    def idle(self) -> None:
        mode = self.mode
        if mode == "babbles":
            say(*("what is this",) * 50)
        if not self.is_scanning:
            return
        if mode in ("ok", "busy_once", "ignores_quit", "ignores_term", "mute_on_end"):
            say(advertisement())
        if mode in ("ends_itself", "fought_over") and time.monotonic() - self.began_s > 0.03:
            self.is_scanning = False
            say(advertisement(), ENDED)
        if mode == "dies_later":
            say(advertisement())
            if time.monotonic() - self.began_s > 0.4:
                sys.exit(9)


def main() -> None:
    mode = sys.argv[1]
    if mode == "dies_at_once":
        sys.exit(7)
    if mode == "ignores_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("# a scripted helper")
    helper = Helper(mode)
    received = ""
    while True:
        ready, _, _ = select([0], [], [], 0.01)
        if ready:
            chunk = os.read(0, 4096)
            if not chunk:
                return
            *commands, received = (received + chunk.decode()).split("\n")
            for command in commands:
                helper.obey(command)
        helper.idle()


if __name__ == "__main__":
    main()
