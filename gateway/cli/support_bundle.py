"""`gateway support-bundle`: one archive for those who help from afar.

Law: no event, no key, no password and no radio address is in it, but addresses that a rule of the configuration names
(contract section 7). What cannot be had is in it as a sentence; a bundle is made in any case.
"""

from __future__ import annotations

import io
import json
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway import __version__
from gateway.cli.verb import Verb, configured, load, printing, say_json
from gateway.errors import EXIT_GOOD, GatewayError
from gateway.machine.acting import acting_as_owner_of
from gateway.machine.bounded import read_bounded
from gateway.machine.owner import written
from gateway.redaction import Redactor

if TYPE_CHECKING:
    from gateway.config import Configuration

FILE_BYTES_MAX = 64 * 1024
LOG_LINES = 5000
LOG_WITHIN_S = 15.0


@click.command("support-bundle", cls=Verb, example="gateway support-bundle --output bundle.tar.gz")
@configured
@printing
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: named by store and time.")
def support_bundle(config: tuple[Path, ...], as_json: bool, output: Path | None) -> int:
    """One archive with doctor, status, configuration, outbox and log, redacted.

    No event, no secret and no stranger's radio address is in it.
    """
    configuration = load(config)
    from gateway.machine.clock import SystemClock
    from gateway.model import rfc3339

    now = SystemClock().now()
    stamp = re.sub(r"[^0-9]", "", rfc3339(now.wall_ns))[:14]
    name = f"gateway-{configuration.site.store}-{configuration.site.gateway}-{stamp}"
    path = output or Path(f"{name}.tar.gz")
    contents = redacted(collected(configuration), redactor(configuration))
    raw = packed(name, contents, now.wall_ns // 10**9)
    try:
        with written(path) as file:
            file.write(raw)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}", "name another with --output") from None
    if as_json:
        say_json({"file": str(path), "contents": list(contents)})
    else:
        click.echo(f"{path}: {', '.join(contents)}")
    return EXIT_GOOD


def packed(name: str, contents: dict[str, str], made_s: int) -> bytes:
    """Return the archive of these files, in a folder of this name."""
    archived = io.BytesIO()
    with tarfile.open(fileobj=archived, mode="w:gz") as archive:
        for file, text in contents.items():
            entry = tarfile.TarInfo(f"{name}/{file}")
            raw = text.encode(errors="replace")
            entry.size, entry.mtime, entry.mode = len(raw), made_s, 0o640
            archive.addfile(entry, io.BytesIO(raw))
    return archived.getvalue()


def redactor(configuration: Configuration) -> Redactor:
    """Return what takes secrets and radio addresses out of a text, but addresses that a rule names."""
    from gateway.config.known_secrets import redactor_of

    return redactor_of(configuration)


def redacted(contents: dict[str, Any], redact: Redactor) -> dict[str, str]:
    """Return the files' texts without secrets and addresses; an address met in one of them is found in all."""
    redact.learn("\n".join(inner if isinstance(inner, str) else _json(inner) for inner in contents.values()))
    return {
        file: redact(inner) if isinstance(inner, str) else _json(redact.document(inner))
        for file, inner in contents.items()
    }


def collected(configuration: Configuration) -> dict[str, Any]:
    """Return the archive's files before redaction: texts, and what becomes JSON."""
    from gateway.cli.config import in_force
    from gateway.cli.outbox_at_rest import outbox_at_rest
    from gateway.config.outbox_key import sealing_of
    from gateway.control.asking import ask
    from gateway.technician.doctor import examine

    def outbox() -> Any:
        sealing = sealing_of(configuration.outbox)
        with acting_as_owner_of(configuration.outbox.directory):
            found, streams = outbox_at_rest(configuration, sealing)
        return {**found, "streams": streams}

    return {
        "machine.json": _had(_machine),
        "doctor.json": _had(lambda: examine(configuration)),
        "status.json": _had(lambda: ask(configuration, "status")),
        "outbox.json": _had(outbox),
        "configuration.txt": "".join(
            f"{key} = {value}    # {origin}\n" for key, value, origin in in_force(configuration)
        ),
        "log.txt": _log(),
    }


def _had(look: Callable[[], Any]) -> Any:
    try:
        return json.loads(json.dumps(look(), default=str))
    except GatewayError as error:
        return {"error": str(error), "advice": error.advice}


def _json(found: Any) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _machine() -> dict[str, Any]:
    return {
        "version": __version__,
        "python": sys.version,
        "system": platform.platform(),
        "machine": platform.machine(),
        "model": _first_line(Path("/proc/device-tree/model")),
        "release": _first_line(Path("/etc/os-release")),
    }


def _first_line(path: Path) -> str | None:
    try:
        return read_bounded(path, FILE_BYTES_MAX).decode(errors="replace").strip("\0\n").splitlines()[0]
    except (OSError, IndexError):
        return None


def _log() -> str:
    command = ["journalctl", "--unit=gateway", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LOG_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the log cannot be had here: {error}\n"
    return done.stdout or f"the log is empty: {done.stderr}\n"
