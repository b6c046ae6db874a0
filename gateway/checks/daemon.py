"""Checks of the running daemon: that it runs, with this configuration, and what it says of its link and sensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.checks import Check, Examination, Result
from gateway.clock import kernel_says_synced
from gateway.config import Configuration
from gateway.control import ANSWER_WITHIN_S, ask
from gateway.errors import Unavailable

BACKLOG_OLD_MS = 15 * 60_000


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
        advice = "look at dmesg and at the free room: df -h; the card may be worn out"
        yield Check("daemon", "outbox", "failed", found, why, advice, "outbox.degraded")
    for sensor, known in status.get("sensors", {}).items():
        yield _sensor(sensor, known)


def clock_seen(daemon: str | None, kernel: bool | None) -> Iterator[Check]:
    """Warn where the kernel says here that the clock is synchronised, and the daemon in its unit does not trust it."""
    if daemon != "unsynced" or not kernel:
        return
    found = "the clock is synchronised, and the daemon cannot see it"
    why = "its events stay marked unsynced: under ProtectClock it believes systemd-timesyncd's mark alone"
    advice = "where chrony or ntpd keeps the time: run scripts/install again, or put systemd/kernel-clock.conf in place"
    yield Check("daemon", "clock", "warning", found, why, advice, "daemon.clock_unseen")


def _link(link: dict[str, Any], outbox: dict[str, Any]) -> Check:
    if link.get("up"):
        return Check("daemon", "link", "ok", f"up since {link.get('since')}", code="link.up")
    why = "events are recorded and sent later; they are not lost before the outbox is full"
    oldest = outbox.get("oldest_entry_ms") or 0
    result: Result = "failed" if oldest > BACKLOG_OLD_MS else "warning"
    found = f"down: {reason_words(link.get('reason')) or 'no reason known'}; {outbox.get('entries', '?')} events wait"
    return Check("daemon", "link", result, found, why, "see the group broker of this report", "link.down")


def reason_words(reason: Any) -> str:
    """Say why the link is down, from the daemon's status: a sentence and its code."""
    if isinstance(reason, dict):
        return f"{reason.get('detail', '')} ({reason.get('code', '')})"
    return str(reason or "")


def _sensor(sensor: str, known: dict[str, Any]) -> Check:
    faults = known.get("faults", {})
    if faults:
        found = ", ".join(f"{reason} since {fault.get('since', '?')}" for reason, fault in faults.items())
        advice = f"look at its cable and supply, then: gateway diagnose {sensor}"
        reason = next(iter(faults))
        return Check("daemon", sensor, "failed", found, "this sensor is not counted now", advice, f"sensor.{reason}")
    if known.get("age_ms") is None:
        found = "no reading since the daemon started"
        why = "it may be well and nothing has happened, or it may not be connected"
        return Check(
            "daemon", sensor, "warning", found, why, "make it happen: walk through, lift, carry a tag", "sensor.quiet"
        )
    return Check("daemon", sensor, "ok", f"{known.get('readings')} readings", code="sensor.reads")
