"""In the machine: does what a test asks on the virtio port `lab`; a JSON object a line in, one a line out.

It needs neither network nor keys, so it answers with the cable out, and on a snapshot at once. Requests run side by
side, each in a thread; the answer has the request's `id`. What can be asked is what `OPERATIONS` names.
"""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

PORT = "/dev/virtio-ports/lab"
RADIO = "/run/lab-radio.sock"
NOBODY_S = 0.2
TEXT_MAX = 4_000_000

_writing = threading.Lock()


def run(wish: dict[str, Any]) -> dict[str, Any]:
    """Run a shell command: its status and what it said."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", wish["text"]], capture_output=True, timeout=wish["within_s"], check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": 124, "out": "", "err": f"did not end within {wish['within_s']} s"}
    out, err = (text.decode(errors="replace")[-TEXT_MAX:] for text in (done.stdout, done.stderr))
    return {"status": done.returncode, "out": out, "err": err}


def put(wish: dict[str, Any]) -> dict[str, Any]:
    """Write a file."""
    path = Path(wish["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(wish["text"])
    return {}


def play(wish: dict[str, Any]) -> dict[str, Any]:
    """Write `text` to `path` at `at_s` seconds from now, for each step; tells by how much it came too late."""
    began_s, late_s = time.monotonic(), 0.0
    for at_s, path, text in wish["steps"]:
        wait_s = began_s + at_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        late_s = max(late_s, time.monotonic() - began_s - at_s)
        Path(path).write_text(text)
    return {"late_s": late_s}


def radio(wish: dict[str, Any]) -> dict[str, Any]:
    """Tell the simulated radio something; its answer."""
    with socket.socket(socket.AF_UNIX) as link, link.makefile("rw") as stream:
        link.connect(RADIO)
        stream.write(json.dumps(wish["wish"]) + "\n")
        stream.flush()
        answer: dict[str, Any] = json.loads(stream.readline())
        return answer


def clock(wish: dict[str, Any]) -> dict[str, Any]:
    """Set the wall clock; what it said before."""
    before_s = time.time()
    time.clock_settime(time.CLOCK_REALTIME, wish["unix_s"])
    return {"before_s": before_s}


OPERATIONS = {"run": run, "put": put, "play": play, "radio": radio, "clock": clock}


def answer(port: int, line: bytes) -> None:
    """Do one request and answer it, whatever becomes of it."""
    wish = json.loads(line)
    try:
        told = OPERATIONS[wish["op"]](wish)
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    text = json.dumps({**told, "id": wish["id"]}).encode() + b"\n"
    with _writing:
        while text:
            text = text[os.write(port, text) :]


def main() -> None:
    """Serve until the machine ends."""
    port = os.open(PORT, os.O_RDWR)
    rest = b""
    while True:
        chunk = os.read(port, 65536)
        if not chunk:  # nobody is connected to the other end
            rest = b""
            time.sleep(NOBODY_S)
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            threading.Thread(target=answer, args=(port, line), daemon=True).start()


if __name__ == "__main__":
    main()
