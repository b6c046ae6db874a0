"""`gateway sign-command`: the cloud's side of a signed command, for a shell and for trying it."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from gateway.cli.verb import Verb, configured, printing
from gateway.errors import EXIT_GOOD, ConfigurationError
from gateway.machine.clock import SystemClock

EXAMPLE = """gateway sign-command --key command.key stores/v1/0042/front/command/restart > payload
mosquitto_pub -t stores/v1/0042/front/command/restart -f payload"""


@click.command("sign-command", cls=Verb, example=EXAMPLE)
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Ed25519 private key in PEM.")
@click.argument("topic")
@click.argument("arguments", default="{}")
@configured
@printing
def sign_command(key: Path, topic: str, arguments: str, config: tuple[Path, ...], as_json: bool) -> int:
    """Print the payload of a signed command: ARGUMENTS (a JSON object) for TOPIC, good for two minutes, once.

    No configuration is read; what is printed is JSON with and without --json.
    """
    from gateway.commands.signed import payload_of, statement_of
    from gateway.commands.signing_keys import sign
    from gateway.machine.bounded import json_object
    from gateway.model import NS_PER_MS

    try:
        given = json_object(arguments)
    except ValueError as error:
        raise ConfigurationError(f"ARGUMENTS cannot be used: {error}", "write a JSON object, such as '{}'") from None
    time_ms = SystemClock().now().wall_ns // NS_PER_MS
    statement = statement_of(topic, given, time_ms, secrets.token_hex(16))
    click.echo(payload_of(statement, sign(key, statement)).decode())
    return EXIT_GOOD
