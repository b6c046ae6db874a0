"""In the machine, all by itself: broker, people, tags and radio of an evening and the day that follows it.

Under time warp nothing inside may wait for the host: so the whole night is played from here, and the host reads what is
left in /run/lab/night. usage: night.py UNIX_S HOURS, the moment at which it begins and how long it is.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path("/run/lab/night")
GPIO = Path("/run/lab/gpio")
OUTER, INNER = 17, 27
STEP_S = 0.2
EVERY_S = 180.0
DAY_S = 86_400.0
TAG = "c0:00:00:00:00:01"
IBEACON = "0201061aff4c000215f7826da64fa24e988024bc5b71e0893e00010002c5"
SILENT_FROM_S, SILENT_UNTIL_S = 1800.0, 2400.0
"""Ten minutes of each day in which nobody is in the air: the ladder of silence is climbed, 90 s a rung."""
AWAY_FROM, RESTARTED, AWAY_UNTIL = 0.6, 0.68, 0.75
"""The broker is out of reach for this part of all hours, with a restart of the service in between."""
BROKER = "listener 1883 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
LISTEN = ("mosquitto_sub", "-V", "5", "-q", "1", "-t", "stores/#", "-F", "%r %t %x")
STAYS = ("-c", "-i", "night", "-x", "4294967295")
"""A session of its own: what comes while the line is down is kept for it by the broker."""


def radio(**wish: object) -> None:
    """Tell the simulated radio."""
    with socket.socket(socket.AF_UNIX) as link, link.makefile("rw") as stream:
        link.connect("/run/lab-radio.sock")
        stream.write(json.dumps(wish) + "\n")
        stream.flush()
        stream.readline()


def pull(line: int, level: str) -> None:
    (GPIO / f"sim_gpio{line}/pull").write_text(f"pull-{level}")


def walk(is_in: bool) -> None:
    """Somebody walks through."""
    first, second = (OUTER, INNER) if is_in else (INNER, OUTER)
    for line, level in ((first, "down"), (second, "down"), (first, "up"), (second, "up")):
        pull(line, level)
        time.sleep(STEP_S)


def set_clock(unix_s: float) -> None:
    """Let the time server inside tell this time from now on, and wait until systemd-timesyncd believes it."""
    time.clock_settime(time.CLOCK_REALTIME, unix_s)
    (FOLDER.parent / "true-time").write_text(f"{unix_s} {time.clock_gettime(time.CLOCK_BOOTTIME)}")
    subprocess.run(["systemctl", "restart", "lab-time", "systemd-timesyncd"], check=True)
    while not Path("/run/systemd/timesync/synchronized").exists():
        time.sleep(1)


def status() -> dict[str, Any]:
    """Ask the daemon."""
    said = subprocess.run(["gateway", "status", "--json"], capture_output=True, text=True, check=False).stdout
    told: dict[str, Any] = json.loads(said)
    return told


class Outage:
    """The broker stands still for some hours; the service is restarted meanwhile. Keeps what its lives said last."""

    def __init__(self, broker: int, seconds: float) -> None:
        self.said: list[dict[str, Any]] = []
        self.steps: list[tuple[float, Callable[[], object]]] = [
            (AWAY_FROM * seconds, lambda: os.kill(broker, signal.SIGSTOP)),
            (RESTARTED * seconds, self.restart),
            (AWAY_UNTIL * seconds, lambda: os.kill(broker, signal.SIGCONT)),
        ]

    def restart(self) -> None:
        """End one life and begin the next."""
        self.said.append(status())
        subprocess.run(["systemctl", "restart", "gateway"], check=True)

    def follow(self, now_s: float) -> None:
        """Do what is due."""
        while self.steps and self.steps[0][0] <= now_s:
            _, step = self.steps.pop(0)
            step()


def main(unix_s: float, hours: float) -> None:
    """Play it."""
    set_clock(unix_s)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "broker.conf").write_text(BROKER)
    with (FOLDER / "broker.log").open("wb") as log:
        broker = subprocess.Popen(["mosquitto", "-c", FOLDER / "broker.conf"], stdout=log, stderr=log)
    time.sleep(5)
    with (FOLDER / "messages").open("wb") as heard:
        listener = subprocess.Popen([*LISTEN, *STAYS], stdout=heard)
        time.sleep(5)
        subprocess.run(["systemctl", "start", "gateway"], check=True)
        chance = random.Random(7)
        walked = {"in": 0, "out": 0}
        radio(op="advertise", address=TAG, data=IBEACON, rssi_dbm=-55, noise_db=2, every_s=1.0)
        began_s = time.monotonic()
        outage = Outage(broker.pid, hours * 3600)
        is_in_the_air = True
        while (now_s := time.monotonic() - began_s) < hours * 3600:
            outage.follow(now_s)
            is_silent = SILENT_FROM_S <= now_s % DAY_S < SILENT_UNTIL_S
            if is_silent and is_in_the_air:
                radio(op="clear")
            elif not is_silent and not is_in_the_air:
                radio(op="advertise", address=TAG, data=IBEACON, rssi_dbm=-55, noise_db=2, every_s=1.0)
            is_in_the_air = not is_silent
            way = chance.choice(("in", "out"))
            walk(way == "in")
            walked[way] += 1
            time.sleep(EVERY_S)
        outage.said.append(status())
        subprocess.run(["systemctl", "stop", "gateway"], check=True)
        time.sleep(5)
        listener.terminate()
        listener.wait()
    about = {"walked": walked, "said": outage.said, "ended_s": time.time()}
    (FOLDER / "about.json").write_text(json.dumps(about))
    os.sync()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
