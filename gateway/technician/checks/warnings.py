"""What can be used and yet should not be: said by `config check` and the doctor, which refuse only what cannot work."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from gateway.commands.signing_keys import verifier
from gateway.config import Configuration
from gateway.config.known_secrets import secret_files
from gateway.config.outbox_key import sealing_of
from gateway.errors import ConfigurationError, OutboxSealed
from gateway.model import Instant
from gateway.mqtt.certificates import concerns
from gateway.mqtt.reasons import Cause
from gateway.uplink.settings import Endpoint


def warnings_of(configuration: Configuration, now: Instant) -> list[Cause]:
    """Return what is unsafe, and what is wrong with the files of TLS or will be soon; empty where there is nothing."""
    keys = (*_commands(configuration), *_outbox(configuration))
    return [*keys, *unsafe(configuration), *concerns(configuration.broker, now)]


def _commands(configuration: Configuration) -> Iterator[Cause]:
    if (key_file := configuration.commands.key_file) is None:
        return
    try:
        verifier(key_file)
    except ConfigurationError as error:
        said = f"commands.key_file: {error}, so no command that must be signed is carried out"
        yield Cause("commands.key", said, error.advice)


def _outbox(configuration: Configuration) -> Iterator[Cause]:
    try:
        sealing_of(configuration.outbox)
    except OutboxSealed as error:
        yield Cause("outbox.key", f"{error}, so no daemon starts with it", error.advice)


def unsafe(configuration: Configuration) -> Iterator[Cause]:
    """Yield what lets others read a secret: a line in clear text, a file that is open to every user."""
    broker = configuration.broker
    if broker.url is not None and broker.password_file is not None:
        endpoint = Endpoint.parse(broker.url)
        if not endpoint.is_tls and not endpoint.is_this_machine:
            better = "wss" if endpoint.is_websocket else "mqtts"
            said = f"broker.url: the password goes over {endpoint.scheme}:// in clear text, for all on the way to read"
            yield Cause("url.clear_text", said, f"write {better}:// where the broker offers it")
    for key, path in secret_files(configuration):
        if path == configuration.commands.key_file:
            continue  # the public half
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # reported by who needs it
        if mode & 0o007:
            said = f"{key} {path} has mode {mode:04o}: every user of this machine can read or change the secret"
            yield Cause("file.open", said, f"chmod o= {path}")
