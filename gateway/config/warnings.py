"""What can be used and yet should not be: said by `config check`, which refuses only what cannot work."""

from __future__ import annotations

from gateway.config import Configuration
from gateway.errors import ConfigurationError
from gateway.signing_keys import verifier
from gateway.uplink import Endpoint


def warnings_of(configuration: Configuration) -> list[str]:
    """Return a sentence for each thing that is allowed and unsafe, with what to do; empty where there is none."""
    return [*_commands(configuration), *_broker(configuration)]


def _commands(configuration: Configuration) -> list[str]:
    if (key_file := configuration.commands.key_file) is None:
        return []
    try:
        verifier(key_file)
    except ConfigurationError as error:
        return [f"commands.key_file: {error}, so no command that must be signed is carried out; {error.advice}"]
    return []


def _broker(configuration: Configuration) -> list[str]:
    broker = configuration.broker
    if broker.url is None:
        return []
    endpoint = Endpoint.parse(broker.url)
    found: list[str] = []
    if broker.password_file is not None and not endpoint.is_tls and not endpoint.is_this_machine:
        better = "wss" if endpoint.is_websocket else "mqtts"
        found.append(
            f"broker.url: the password goes over {endpoint.scheme}:// in clear text, for everybody on the way to read;"
            f" write {better}:// where the broker offers it"
        )
    return found
