"""In the machine: a time server on 127.0.0.1:123, which tells the time that stands in /run/lab/true-time.

The file holds `unix boottime`: that unix time was true when the machine had run so long. Without it nobody answers, as
where there is no internet. systemd-timesyncd asks 127.0.0.1.
"""

import socket
import struct
import time
from pathlib import Path

TRUTH = Path("/run/lab/true-time")
FROM_1900_S = 2_208_988_800


def stamp(unix_s: float) -> bytes:
    """The 64-bit time of NTP: seconds since 1900, and their fraction."""
    return struct.pack("!II", int(unix_s + FROM_1900_S) & 0xFFFFFFFF, int(unix_s % 1 * 2**32))


def main() -> None:
    """Answer until the machine ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 123))
        while True:
            request, client = server.recvfrom(512)
            try:
                unix_s, boot_s = map(float, TRUTH.read_text().split())
            except (OSError, ValueError):
                continue
            now_s = unix_s + time.clock_gettime(time.CLOCK_BOOTTIME) - boot_s
            head = struct.pack("!BBbbII4s", 0x24, 2, 6, -20, 0, 100, b"LAB\0")
            server.sendto(head + stamp(now_s - 1) + request[40:48] + stamp(now_s) * 2, client)


if __name__ == "__main__":
    main()
