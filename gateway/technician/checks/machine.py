"""Checks of this machine: files the configuration names, the outbox's directory and disk, the clock, the board."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.commands.signing_keys import verifier
from gateway.config import Configuration
from gateway.config.outbox_key import reader_of, sealing_of
from gateway.control.asking import ask
from gateway.errors import ConfigurationError, GatewayError, OutboxSealed, Unavailable
from gateway.machine.bounded import open_regular, read_opened
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk, refusal
from gateway.machine.health import not_kept
from gateway.machine.owner import barred, is_own, mending
from gateway.machine.owner import refused as refusal_of
from gateway.model import STREAMS, Instant, rfc3339
from gateway.mqtt.certificates import END_UNKNOWN, concerns, day, end_of
from gateway.outbox.adopted import of_another
from gateway.outbox.directory import require_state, unusable
from gateway.sensors import kinds
from gateway.technician.checks import Check, Examination, Result, board, hung
from gateway.technician.checks.warnings import unsafe
from gateway.wire import source_of

CERTIFICATE_WARNINGS = ("certificate.ends_within_30_days", "certificate.ends_within_14_days", END_UNKNOWN)
FILE_BYTES_MAX = 1 << 20
"""Certificates of every authority there is are a quarter of it."""
KEEP_IT = "put [outbox] directory on a card or disk that stays writable: a partition of its own under the overlay"
FREE_BYTES_LEAST = 64 << 20
PLAUSIBLE_SINCE_NS = 1_735_689_600 * 10**9  # 2025-01-01: before this program was written no event can have happened


def examinations(configuration: Configuration) -> Iterator[Examination]:
    """Yield what there is to look at."""
    yield Examination("configuration", "file", lambda: _loaded(configuration))
    for key in ("password_file", "ca_file", "cert_file", "key_file"):
        path = getattr(configuration.broker, key)
        if path is not None:
            yield Examination("configuration", key, lambda key=key, path=path: _file(key, Path(path)))  # type: ignore[misc]
    if configuration.broker.ca_file or configuration.broker.cert_file:
        yield Examination("configuration", "certificate", lambda: certificate(configuration, SystemClock().now()))
    if (commands_key := configuration.commands.key_file) is not None:
        yield Examination("configuration", "commands.key_file", lambda: _commands_key(commands_key))
    yield Examination("configuration", "secrets", lambda: _secrets(configuration))
    directory = Path(configuration.outbox.directory)
    yield Examination("outbox", "directory", lambda: _directory(configuration, directory), disk=directory)
    yield Examination("outbox", "kept", lambda: _kept(directory), disk=directory)
    yield Examination("outbox", "disk", lambda: _disk(configuration, directory), disk=directory)
    yield Examination("outbox", "content", lambda: _content(configuration), disk=directory)
    yield Examination("clock", "synchronised", _clock)
    yield from board.examinations(directory, sealing=lambda: sealing_of(configuration.outbox))


def _loaded(configuration: Configuration) -> Check:
    count = len(configuration.sensors)
    files = dict.fromkeys(origin.file for origin in configuration.origins.values())
    found = f"{', '.join(files)}: {count} sensor{'' if count == 1 else 's'}, sha256 {configuration.sha256[:12]}"
    if configuration.sensors:
        return Check("configuration", "file", "ok", found, code="configuration.good")
    why = "without a sensor nothing is counted"
    tables = " or ".join(f"[[{kind.table}]]" for kind in kinds())
    return Check("configuration", "file", "warning", found, why, f"add {tables}", "no_sensors")


def _commands_key(path: Path) -> Check:
    try:
        verifier(path)
    except ConfigurationError as error:
        why = "no command that must be signed is carried out"
        return Check("configuration", "commands.key_file", "failed", str(error), why, error.advice, "commands.key")
    return Check("configuration", "commands.key_file", "ok", f"{path} is an Ed25519 public key", code="commands.key")


def _file(key: str, path: Path) -> Check:
    try:
        content = read_opened(open_regular(path), FILE_BYTES_MAX, path)
    except OSError as error:
        why = "the broker is not connected to without it"
        return Check("configuration", key, "failed", f"{path}: {error.strerror}", why, *_advice(key, error))
    if not content.strip():
        advice = f"put into {path} what belongs there"
        return Check(
            "configuration", key, "failed", f"{path} is empty", "the broker would refuse it", advice, f"file.{key}"
        )
    if key == "password_file" and b"\n" in content.rstrip(b"\r\n"):
        why = "the password is the whole content but for the last line end"
        advice = "leave one line in it"
        return Check("configuration", key, "warning", f"{path} has several lines", why, advice, "file.lines")
    return Check("configuration", key, "ok", f"{path} can be read", code="file.good")


def _secrets(configuration: Configuration) -> Iterator[Check]:
    why = "who reads a secret can speak as this gateway"
    for cause in unsafe(configuration):
        yield Check("configuration", "secrets", "warning", cause.detail, why, cause.advice, cause.code)


def certificate(configuration: Configuration, now: Instant) -> Iterator[Check]:
    """Yield what is wrong with certificates and key, or will be soon; else until when the own one is good."""
    why = "without a certificate that is good the broker lets nobody in: events wait, and the outbox fills"
    found = list(concerns(configuration.broker, now))
    for cause in found:
        result: Result = "warning" if cause.code in CERTIFICATE_WARNINGS else "failed"
        yield Check("configuration", "certificate", result, cause.detail, why, cause.advice, cause.code)
    if not found and (end := end_of(configuration.broker)) is not None:
        yield Check("configuration", "certificate", "ok", f"good until {day(end)}", code="certificate.good")


def _advice(key: str, error: OSError) -> tuple[str, str]:
    if isinstance(error, PermissionError):
        return "let the user that runs the daemon read it: chgrp gateway FILE && chmod g+r FILE", f"file.{key}"
    return f"make the file, or change broker.{key}", f"file.{key}"


def _held_elsewhere(configuration: Configuration) -> str | None:
    """Return what a running daemon says of an outbox that is not in its place."""
    with contextlib.suppress(Unavailable):
        lost = ask(configuration, "status").get("outbox", {}).get("not_kept")
        return None if lost is None else str(lost)
    return None


def _directory(configuration: Configuration, directory: Path) -> Check:
    why = "what happens is recorded there before it is sent; without it nothing runs"
    if (shut := barred(directory)) is not None:
        if is_own(directory):
            return Check("outbox", "directory", "failed", shut, why, mending(directory), "outbox.barred")
        advice = "run the doctor as the daemon's user: sudo -u gateway gateway doctor"
        return Check("outbox", "directory", "warning", shut, why, advice, "outbox.not_writable")
    at = directory
    while not os.path.exists(at) and at != at.parent:
        at = at.parent
    if at != directory:
        if (moved := _held_elsewhere(configuration)) is not None:
            found = f"{directory} is not there, and the running daemon writes on: {moved}"
            advice = "move it back while the daemon runs, or stop the daemon before: systemctl stop gateway"
            return Check("outbox", "directory", "failed", found, why, advice, "outbox.moved")
        if os.access(at, os.W_OK | os.X_OK):
            found = f"{directory} is not there yet; the daemon makes it in {at}"
            return Check("outbox", "directory", "ok", found, code="outbox.not_made")
        advice = f"make it and give it to the gateway's user: install -d -o gateway -g gateway {directory}"
        found = f"{directory} is not there, and this user may not make it in {at}"
        return Check("outbox", "directory", "failed", found, why, advice, "outbox.absent")
    if not directory.is_dir():
        return Check(
            "outbox", "directory", "failed", f"{directory} is not a directory", why, "name another", "outbox.file"
        )
    refused = refusal(directory)
    if isinstance(refused, TimeoutError):
        return hung("directory", directory, "what is written there neither succeeds nor fails")
    if refused is not None and not isinstance(refused, PermissionError):
        found = f"{directory} takes no files: {refused.strerror}"
        advice = "the card may be worn out: look at dmesg, back it up, replace it; then mount it writable"
        return Check("outbox", "directory", "failed", found, why, advice, "outbox.read_only")
    if refused is not None or not os.access(directory, os.W_OK | os.X_OK):
        if is_own(directory):
            denied = refused or PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            found, advice = refusal_of(denied, directory), mending(directory, denied.errno)
            return Check("outbox", "directory", "failed", found, why, advice, "outbox.barred")
        found = f"{directory} belongs to {_owner(directory)}; this user may not write there"
        advice = "run the doctor as the daemon's user: sudo -u gateway gateway doctor"
        return Check("outbox", "directory", "warning", found, why, advice, "outbox.not_writable")
    return Check("outbox", "directory", "ok", f"{directory} can be written", code="outbox.writable")


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"


def _kept(directory: Path) -> Check:
    lost = not_kept(directory)
    if lost is None:
        return Check("outbox", "kept", "ok", f"{directory} does not lie in memory", code="outbox.kept")
    found = f"{directory} does not outlast a power cut: {lost}"
    why = "all that is recorded and not yet delivered is gone with the next restart of the machine"
    return Check("outbox", "kept", "failed", found, why, KEEP_IT, "outbox.not_kept")


def _disk(configuration: Configuration, directory: Path) -> Check:
    at = directory
    while not os.path.exists(at) and at != at.parent:
        at = at.parent
    room = os.statvfs(at)
    free = room.f_bavail * room.f_frsize
    wanted = configuration.outbox.bytes_max
    used = 0
    for where, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # the daemon may just have removed it
                used += os.lstat(os.path.join(where, name)).st_blocks * 512
    found = f"{free >> 20} MiB free; the outbox has {used >> 20} MiB and may grow to {wanted >> 20} MiB"
    if free < FREE_BYTES_LEAST:
        why = "when the disk is full the least valuable events are given up"
        return Check("outbox", "disk", "failed", found, why, "make room, or use a larger card", "disk.full")
    if used + free < wanted:
        why = "the disk would be full before the outbox's own bound is reached"
        return Check("outbox", "disk", "warning", found, why, "lower outbox.bytes_max or make room", "disk.tight")
    return Check("outbox", "disk", "ok", found, code="disk.room")


def _content(configuration: Configuration) -> Check:
    directory = Path(configuration.outbox.directory)
    if barred(directory) is None and (not directory.is_dir() or not any(directory.iterdir())):
        return Check("outbox", "content", "skipped", "no outbox lies there", code="outbox.none")
    try:
        reader = reader_of(configuration.outbox)
    except OutboxSealed as error:
        why = "the gateway records nothing without it, so that nothing lies in the open"
        return Check("outbox", "content", "failed", str(error), why, error.advice, "outbox.sealed")
    except GatewayError as error:
        why = "what was recorded cannot be looked at by this user"
        result: Result = "failed" if is_own(directory) else "warning"  # then the daemon cannot either
        return Check("outbox", "content", result, str(error), why, error.advice, "outbox.unreadable")
    if is_own(directory):
        try:
            require_state(RealDisk(), str(directory))
        except OSError as error:
            told = unusable(str(directory), error)
            return Check("outbox", "content", "failed", str(told), "no daemon starts so", told.advice, "outbox.barred")
    here = source_of(configuration.site.store, configuration.site.gateway)
    if reader.memory.source not in ("", here):
        found, advice = of_another(directory, reader.memory.source, here)
        return Check("outbox", "content", "failed", found, "no daemon starts so", advice, "outbox.of_another")
    waiting = sum(reader.backlog(stream) for stream in STREAMS)
    damaged, refused = len(reader.set_aside()), reader.counters.get("refused", 0)
    key = f"sealed with key {reader.sealing.seals_with}; " if reader.sealing.seals_with is not None else ""
    found = f"{key}{waiting} entries wait, {damaged} damaged files, {refused} entries refused by the broker"
    if damaged:
        why = "what a damaged file held may be lost; the loss is named to the cloud"
        advice = "gateway outbox verify; where it happens again, replace the card"
        return Check("outbox", "content", "warning", found, why, advice, "outbox.damaged")
    if refused:
        why = "the broker will never take them; they are set aside and named as dropped"
        advice = "compare refused.jsonl in the outbox directory with the broker's limits and access list"
        return Check("outbox", "content", "warning", found, why, advice, "outbox.refused")
    return Check("outbox", "content", "ok", found, code="outbox.good")


def _clock() -> Check:
    now = SystemClock().now()
    found = f"{rfc3339(now.wall_ns)}, {'synchronised' if now.clock == 'synced' else 'not synchronised'}"
    why = "events get their time from it; until it is set they are marked unsynced, and TLS may refuse certificates"
    if now.wall_ns < PLAUSIBLE_SINCE_NS:
        advice = "let the machine reach a time server (timedatectl, UDP port 123), or set it: timedatectl set-time"
        return Check("clock", "synchronised", "failed", found, why, advice, "clock.past")
    if now.clock != "synced":
        advice = "timedatectl timesync-status; let the machine reach a time server (UDP port 123)"
        return Check("clock", "synchronised", "warning", found, why, advice, "clock.unsynced")
    return Check("clock", "synchronised", "ok", found, code="clock.synced")
