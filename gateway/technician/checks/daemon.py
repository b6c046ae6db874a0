"""Checks of the running daemon: that it runs, with this configuration, and what it says of its link and sensors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

from gateway.config import Configuration
from gateway.control.asking import ANSWER_WITHIN_S, ask
from gateway.errors import Unavailable
from gateway.machine.clock import kernel_says_synced
from gateway.machine.owner import RIGHTS, mending
from gateway.sensors.fault import known_of
from gateway.technician.checks import Check, Examination, Result

BACKLOG_OLD_MS = 15 * 60_000
TO_DO = "what to do:"


def examinations(configuration: Configuration) -> Iterator[Examination]:
    """Yield the one examination: a question to the daemon."""
    yield Examination("daemon", "running", lambda: _daemon(configuration), ANSWER_WITHIN_S + 2)


def _daemon(configuration: Configuration) -> Iterator[Check]:
    try:
        status = ask(configuration, "status")
    except Unavailable as error:
        why = "nothing is counted while it does not run"
        yield Check("daemon", "running", "warning", str(error), why, error.advice, "daemon.not_running")
        return
    yield Check(
        "daemon", "running", "ok", f"version {status.get('version')}, {status.get('state')}", code="daemon.running"
    )
    if status.get("config_sha256") != configuration.sha256:
        found = "the daemon runs with another configuration than the files say now"
        advice = "restart it to take the files' one: systemctl restart gateway"
        why = "what you see in the files is not what is in force"
        yield Check("daemon", "configuration", "warning", found, why, advice, "daemon.other_configuration")
    yield from clock_seen(status.get("clock"), kernel_says_synced())
    yield _link(status.get("link", {}), status.get("outbox", {}))
    for note in status.get("link", {}).get("notes", ()):
        why = "events are sent; this is not as it should be"
        yield Check("daemon", "link", "warning", note["detail"], why, note["advice"], note["code"])
    outbox = status.get("outbox", {})
    if outbox.get("degraded"):
        found = f"the disk does not take events: {outbox.get('trouble') or 'its log says why'}"
        why = "events wait in memory, and a power cut would lose them"
        worn = "look at dmesg and at the free room: df -h; the card may be worn out"
        advice = _remedy(configuration, str(outbox.get("trouble")), worn)
        yield Check("daemon", "outbox", "failed", found, why, advice, "outbox.degraded")
    if outbox.get("not_kept"):
        found = f"what the daemon records does not outlast a power cut: {outbox['not_kept']}"
        why = "what is not delivered by the next start is gone with it, or left behind"
        yield Check("daemon", "place", "failed", found, why, "see what is said there", "outbox.not_kept")
    if outbox.get("unreadable"):
        why = "they are sent when it can be read again; nothing is lost by waiting"
        advice = _remedy(configuration, outbox["unreadable"], "look at dmesg; back the card up and replace it")
        yield Check("daemon", "reading", "failed", outbox["unreadable"], why, advice, "outbox.unreadable")
    for sensor, known in status.get("sensors", {}).items():
        yield _sensor(sensor, known)


def _remedy(configuration: Configuration, said: str, otherwise: str) -> str:
    """Return what mends what was said of a file: the last words are the system's."""
    directory = configuration.outbox.directory
    for number in RIGHTS:
        if said.endswith(os.strerror(number)):
            return mending(directory, number)
    if said.endswith(os.strerror(errno.ENOENT)):
        return f"put back what was moved away: ls -lR {directory}"
    return otherwise


def clock_seen(daemon: str | None, kernel: bool | None) -> Iterator[Check]:
    """Warn where the kernel says here that the clock is synchronised, and the daemon in its unit does not trust it."""
    if daemon != "unsynced" or not kernel:
        return
    found = "the clock is synchronised, and the daemon cannot see it"
    why = "its events stay marked unsynced: under ProtectClock it believes systemd-timesyncd's mark alone"
    advice = "where chrony or ntpd keeps the time: run scripts/install again, or put systemd/kernel-clock.conf in place"
    yield Check("daemon", "clock", "warning", found, why, advice, "daemon.clock_unseen")


def _link(link: dict[str, Any], outbox: dict[str, Any]) -> Check:
    if link.get("up") and (lines := trouble_lines(link)):
        why = "events are recorded and sent when it is mended; they are not lost before the outbox is full"
        found = "; ".join(line for line in lines if not line.startswith(TO_DO))
        return Check("daemon", "link", "failed", found, why, link.get("advice") or "", link.get("code") or "link.held")
    if link.get("up"):
        return Check("daemon", "link", "ok", f"up since {link.get('since')}", code="link.up")
    why = "events are recorded and sent later; they are not lost before the outbox is full"
    oldest = outbox.get("oldest_entry_ms") or 0
    result: Result = "failed" if oldest > BACKLOG_OLD_MS else "warning"
    found = f"down: {_reason(link) or 'no reason known'}; {outbox.get('entries', '?')} events wait"
    return Check("daemon", "link", result, found, why, "see the group broker of this report", "link.down")


def trouble_lines(link: dict[str, Any]) -> list[str]:
    """Say why the link is down, or why nothing goes over it: the reason, what to do, and when it is tried again."""
    if not (reason := _reason(link)):
        return []
    lines = [reason, f"{TO_DO} {link['advice']}" if link.get("advice") else ""]
    if (wait_ms := link.get("next_probe_ms")) is not None:
        lines.append(f"one message asks again in {wait_ms / 1000:.0f} s")
    elif not link.get("up") and (wait_ms := link.get("next_attempt_ms")) is not None:
        lines.append(f"the next connect is in {wait_ms / 1000:.0f} s")
    return [line for line in lines if line]


def _reason(link: dict[str, Any]) -> str:
    code = f" ({link['code']})" if link.get("code") else ""
    return f"{link['reason']}{code}" if link.get("reason") else ""


def _sensor(sensor: str, known: dict[str, Any]) -> Check:
    if faults := known_of(known).faults:
        found = ", ".join(f"{fault.reason} since {fault.since or '?'}" for fault in faults)
        advice = f"look at its cable and supply, then: gateway diagnose {sensor}"
        why = "; ".join(["this sensor is not counted now", *(fault.detail for fault in faults if fault.detail)])
        return Check("daemon", sensor, "failed", found, why, advice, f"sensor.{faults[0].reason}")
    if known.get("age_ms") is None:
        found = "no reading since the daemon started"
        why = "it may be well and nothing has happened, or it may not be connected"
        return Check(
            "daemon", sensor, "warning", found, why, "make it happen: walk through, lift, carry a tag", "sensor.quiet"
        )
    return Check("daemon", sensor, "ok", f"{known.get('readings')} readings", code="sensor.reads")
