"""What a gateway costs while its broker refuses every event, beside one whose broker takes them.

The real daemon on a recording (one passage a second), 100 events waiting from before; mosquitto with an access list
that lacks the right to publish. Figures of `SECONDS` after the first half minute, of both at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.uplink.brokers import free_port, mosquitto

SECONDS = 180
WAITING = 100
NOTHING = "topic read nothing\n"
ALL = "topic readwrite #\n"
PASSAGE = ((0.0, "outer", True), (0.1, "inner", True), (0.2, "outer", False), (0.3, "inner", False))


class Gateway:
    """One daemon in `directory`, whose broker has the access list `rights`."""

    def __init__(self, directory: Path, rights: str) -> None:
        self.directory, self.rights, self.port = directory, rights, free_port()
        self.config = directory / "gateway.toml"
        self.config.write_text(
            f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\nurl = "mqtt://127.0.0.1:{self.port}"\n'
            f'[outbox]\ndirectory = "{directory}/outbox"\n[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'
        )

    def run(self, name: str, passages: int, gap_s: float) -> subprocess.Popen[bytes]:
        """Start the daemon on a recording of so many passages."""
        lines: list[dict[str, Any]] = [{"recording": 1, "started": "2026-11-29T09:00:00.000Z", "gateway": "front"}]
        for number in range(passages):
            for after, beam, broken in PASSAGE:
                t = round(1 + number * gap_s + after, 3)
                lines.append({"t": t, "sensor": "entrance", "beam": beam, "broken": broken})
        recording = self.directory / f"{name}.jsonl"
        recording.write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [sys.executable, "-m", "gateway", "run", "--config", str(self.config), "--recording", str(recording)]
        return subprocess.Popen([*command, "--stay"], stderr=subprocess.DEVNULL)

    def status(self) -> dict[str, Any]:
        """Return what `gateway status` says."""
        command = [sys.executable, "-m", "gateway", "status", "--json", "--config", str(self.config)]
        found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
        return found


def picture(process: subprocess.Popen[bytes], gateway: Gateway) -> dict[str, float]:
    """Return the counters of the moment: CPU seconds, bytes written (files and sockets), resident MB, messages."""
    at = Path(f"/proc/{process.pid}")
    ticks = at.joinpath("stat").read_text().rsplit(")", 1)[1].split()[11:13]
    written = next(line for line in at.joinpath("io").read_text().splitlines() if line.startswith("wchar"))
    resident = next(line for line in at.joinpath("status").read_text().splitlines() if line.startswith("VmRSS"))
    return {
        "cpu": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
        "bytes": int(written.split()[1]),
        "rss": int(resident.split()[1]) / 1024,
        "messages": gateway.status()["counters"]["messages"],
    }


def main() -> None:
    """Measure both, side by side, and print the table's rows."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        gateways = {"held": Gateway(Path(first), NOTHING), "taken": Gateway(Path(second), ALL)}
        before = [gateway.run("before", WAITING, 0.4) for gateway in gateways.values()]
        time.sleep(WAITING * 0.4 + 5)
        for process in before:
            process.terminate()
            process.wait()
        for gateway in gateways.values():
            (gateway.directory / "access").write_text(gateway.rights)
        held, taken = gateways.values()
        access = [(f"acl_file {one.directory}/access",) for one in (held, taken)]
        with (
            mosquitto(held.directory, extra=access[0], port=held.port),
            mosquitto(taken.directory, extra=access[1], port=taken.port),
        ):
            running = {name: one.run("live", SECONDS + 90, 1.0) for name, one in gateways.items()}
            time.sleep(30)
            tracers = {
                name: subprocess.Popen(
                    ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range", "-p", str(process.pid)],
                    stderr=(gateways[name].directory / "strace").open("wb"),
                )
                for name, process in running.items()
            }
            time.sleep(2)
            start = {name: picture(running[name], gateways[name]) for name in gateways}
            time.sleep(SECONDS)
            for name, gateway in gateways.items():
                end, began = picture(running[name], gateway), start[name]
                is_held = gateway.status()["link"]["held_since"] is not None
                tracers[name].terminate()
                tracers[name].wait()
                rows = (gateway.directory / "strace").read_text().splitlines()
                syncs = sum(int(row.split()[3]) for row in rows if row.rstrip().endswith(("fsync", "fdatasync")))
                print(
                    f"| {name} | {100 * (end['cpu'] - began['cpu']) / SECONDS:.2f} | {syncs / SECONDS:.2f} |"
                    f" {(end['bytes'] - began['bytes']) / SECONDS / 1024:.1f} |"
                    f" {60 * (end['messages'] - began['messages']) / SECONDS:.1f} |"
                    f" {began['rss']:.0f} to {end['rss']:.0f} | {'yes' if is_held else 'no'} |",
                    flush=True,
                )
                running[name].terminate()
                running[name].wait()


if __name__ == "__main__":
    main()
