"""The steps of `scripts/uninstall`: stop, take away what `scripts/install` put there, keep what was recorded."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

from .place import HARDWARE_WATCHDOG, KERNEL_CLOCK, OWN_FILES, Failed, Place, say


def configured_outbox(place: Place) -> Path | None:
    """Return the outbox that the configuration names; None where it names none, or cannot be read."""
    try:
        named = tomllib.loads(place.configuration.read_text())["outbox"]["directory"]
        return (place.root / str(named).lstrip("/")).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        return None


def main(arguments: Sequence[str]) -> int:
    """Uninstall."""
    parser = argparse.ArgumentParser(prog="uninstall", description="Take the gateway off this machine.")
    parser.add_argument("--root", type=Path, default=Path("/"), help="a folder that stands for the machine")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--systemctl", default="", metavar="COMMAND", help="what to ask instead of this systemd")
    parser.add_argument("--purge", action="store_true", help="outbox, calibrations, configuration and user go too")
    options = parser.parse_args(arguments)
    place = Place(options.root.resolve(), options.dry_run, options.systemctl)
    if place.is_this_machine and not options.dry_run and os.geteuid() != 0:
        raise Failed("Uninstalling needs root: sudo scripts/uninstall")
    if place.systemd() is None:
        say("There is no systemd to ask here: a daemon that runs must be stopped by hand.")
    else:
        say("Stopping the daemon: what is pending is recorded, and sent where the link is up.")
        place.ask_systemd("disable", "--now", "gateway.service")
    for path in (*OWN_FILES.values(), KERNEL_CLOCK, HARDWARE_WATCHDOG):
        place.remove(place.root / path)
    drop_ins = (place.root / KERNEL_CLOCK).parent
    if drop_ins.is_dir() and not any(drop_ins.iterdir()):
        place.remove(drop_ins)
    place.remove(place.command)
    place.remove(place.upgrade)
    place.remove(place.opt)
    place.ask_systemd("daemon-reload")
    if options.purge:
        elsewhere = [there for there in (configured_outbox(place), place.state.resolve()) if there is not None]
        place.remove(place.state)
        place.remove(place.configuration.parent)
        if place.is_this_machine and not place.dry_run:
            place.run("userdel", "gateway", check=False)
        for there in elsewhere:
            if there.exists() and not place.dry_run:
                say(f"Not removed: {place.shown(there)}, where the outbox lies. See what is in it, then remove it.")
    else:
        for kept in (place.state, place.configuration.parent):
            if kept.exists():
                say(f"Kept: {place.shown(kept)}.")
    say("Done." if not place.dry_run else "Nothing was done: this was a dry run.")
    return 0
