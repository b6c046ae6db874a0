"""`scripts/lab shell`: a person's hand on the machine's outside, and what a broker outside hears, line by line."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.prepared import installed
from tests.lab.shop import SCANNER, SHELF, Shop, shop

WORDS = """\
  in | out            somebody walks through the door        tag | away        a tag is carried in, or out
  kg 1.5              put that on the scale                  radio refuses | silent | none
  cable out | in      pull the network cable, or plug it     hang              stop the daemon (SIGSTOP) and wait
  power               pull the plug, and start again         sh COMMAND        as root in the machine
  log                 the service's last words               quit
"""


def told(shop: Shop, heard: int) -> int:
    """Print the events that are new; returns how many were heard."""
    events = shop.consumer.events()
    for event in events[heard:]:
        print(f"    {event['time']} {event['type'].removeprefix('store.'):24} {json.dumps(event['data'])[:150]}")
    return len(events)


def restart(shop: Shop) -> None:
    """Pull the plug, start again, and wait until somebody at the door would be seen; the air is empty then."""
    shop.machine.cut_power()
    print(f"  booted in {shop.machine.start():.0f} s")
    shop.listen_at_the_door()
    print("  the door is watched again")


def deeds(shop: Shop) -> dict[str, Callable[[str], object]]:
    """Return what can be done, by its word."""
    return {
        "in": lambda rest: shop.walk("in"),
        "out": lambda rest: shop.walk("out"),
        "kg": lambda rest: shop.weigh(float(rest) * 1000),
        "tag": lambda rest: shop.carry(noise_db=2),
        "away": lambda rest: shop.carry_away(),
        "radio": lambda rest: shop.radio(op="fault", fault=rest),
        "cable": lambda rest: shop.machine.cable(rest == "in"),
        "hang": lambda rest: shop.machine.sh(f"kill -STOP {shop.main_pid()}"),
        "power": lambda rest: restart(shop),
        "sh": lambda rest: print("{0.out}{0.err}".format(shop.machine.try_run(rest, 300))),
        "log": lambda rest: print(shop.journal()),
    }


def play() -> int:
    """Play until `quit` or the end of the input; words may also come from a pipe."""
    with TemporaryDirectory() as scratch, shop(Path(scratch), installed(), sensors=SCANNER + SHELF) as front:
        front.open()
        print(f"The service runs; its broker is mqtt://127.0.0.1:{front.broker.port} on this machine.\n{WORDS}")
        ended = threading.Event()

        def listen() -> None:
            heard = 0
            while not ended.wait(0.2):
                heard = told(front, heard)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        known = deeds(front)
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "quit":
                break
            if word not in known:
                print(WORDS)
                continue
            try:
                known[word](rest)
            except (RuntimeError, ValueError, AssertionError) as error:
                print(f"  {error}")
        ended.wait(2)
        ended.set()
        listener.join()
    return 0
