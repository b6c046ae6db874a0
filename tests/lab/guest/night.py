"""In the machine, all by itself: broker, people, tags and radio of an evening that becomes the next day.

Under time warp nothing inside may wait for the host: so the whole night is played from here, and the host reads what is
left in /run/lab/night. usage: night.py UNIX_S HOURS, the moment at which it begins and how long it is.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("/run/lab/night")
GPIO = Path("/run/lab/gpio")
OUTER, INNER = 17, 27
STEP_S = 0.2
EVERY_S = 180.0
TAG = "c0:00:00:00:00:01"
IBEACON = "0201061aff4c000215f7826da64fa24e988024bc5b71e0893e00010002c5"
SILENT_FROM_S, SILENT_UNTIL_S = 1800.0, 2400.0
"""Ten minutes in which nobody is in the air: the ladder of silence is climbed, 90 s a rung."""


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


def main(unix_s: float, hours: float) -> None:
    """Play it."""
    time.clock_settime(time.CLOCK_REALTIME, unix_s)
    FOLDER.mkdir(exist_ok=True)
    subprocess.Popen(["mosquitto", "-p", "1883"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(5)
    with (FOLDER / "messages").open("wb") as heard:
        command = ["mosquitto_sub", "-V", "5", "-q", "1", "-t", "stores/#", "-F", "%r %t %x"]
        listener = subprocess.Popen(command, stdout=heard)
        time.sleep(5)
        subprocess.run(["systemctl", "start", "gateway"], check=True)
        chance = random.Random(7)
        walked = {"in": 0, "out": 0}
        time.sleep(30)
        radio(op="advertise", address=TAG, data=IBEACON, rssi_dbm=-55, noise_db=2, every_s=1.0)
        began_s = time.monotonic()
        is_in_the_air = True
        while (now_s := time.monotonic() - began_s) < hours * 3600:
            is_silent = SILENT_FROM_S <= now_s < SILENT_UNTIL_S
            if is_silent and is_in_the_air:
                radio(op="clear")
            elif not is_silent and not is_in_the_air:
                radio(op="advertise", address=TAG, data=IBEACON, rssi_dbm=-55, noise_db=2, every_s=1.0)
            is_in_the_air = not is_silent
            way = chance.choice(("in", "out"))
            walk(way == "in")
            walked[way] += 1
            time.sleep(EVERY_S)
        status = subprocess.run(["gateway", "status", "--json"], capture_output=True, text=True, check=False).stdout
        subprocess.run(["systemctl", "stop", "gateway"], check=True)
        time.sleep(5)
        listener.terminate()
        listener.wait()
    about = {"walked": walked, "status": json.loads(status), "ended_s": time.time()}
    (FOLDER / "about.json").write_text(json.dumps(about))
    os.sync()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
