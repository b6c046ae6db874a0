"""The command `gateway`: one verb a file, imported when it is asked for.

Law: a verb loads what it needs when it runs, so that `gateway --help` is quick. Whatever goes wrong ends here as a
sentence on standard error with what to do, and as the exit status of contract section 9; a traceback only with
`--debug`.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from gateway import __version__
from gateway.errors import EXIT_FAILED, EXIT_GOOD, GatewayError, shortage

VERBS: Mapping[str, tuple[str, str]] = {
    "run": ("run", "The daemon, in the foreground."),
    "demo": ("demo", "A simulated store, a broker and a live view, with nothing to install or configure."),
    "status": ("status", "What the running daemon is doing."),
    "sensors": ("sensors", "Each sensor: last reading, its age, faults."),
    "watch": ("watch", "A live full-screen view with plots."),
    "diagnose": ("diagnose", "Ten seconds of a sensor's readings judged in words."),
    "tare": ("tare", "A new zero for a shelf."),
    "calibrate": ("calibrate", "Calibrate a shelf with known masses, guided."),
    "commission": ("commission", "Walk through every sensor and write an acceptance report."),
    "doctor": ("doctor", "Every check with what was found, why it matters, what to do."),
    "config": ("config", "Check, show and write configurations."),
    "outbox": ("outbox", "Look into the outbox, also while the daemon runs."),
    "listen": ("listen", "Subscribe as a consumer and prove completeness."),
    "record": ("record", "Write a recording of what the sensors say."),
    "replay": ("replay", "Print the events that a recording makes."),
    "adopt": ("adopt", "Take over a dead gateway's card: outbox, unsent events, calibrations."),
    "wiring": ("wiring", "The header of this board with every configured pin."),
    "privacy": ("privacy", "What leaves the store."),
    "sign-command": ("sign_command", "The cloud's side of a signed command."),
    "support-bundle": ("support_bundle", "One archive for those who help from afar, redacted."),
}
"""Each verb's module in this package and its line in `gateway --help`, for which no module is loaded."""

INTERRUPTED = 130


class LazyGroup(click.Group):
    """Loads a verb's module when the verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb, (module, _) in VERBS.items() if importlib.util.find_spec(f"{__name__}.{module}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = VERBS[cmd_name][0]
        command = getattr(importlib.import_module(f"{__name__}.{module}"), module)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, VERBS[verb][1]) for verb in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a reader of a pipe that goes away (`gateway outbox list | head`) is no error."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_GOOD
        return status

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a verb and end the process with its exit status; no exception leaves here but SystemExit."""
        kwargs["standalone_mode"] = False
        make_room_for_any_text()
        debug = "--debug" in (kwargs.get("args") or (args[0] if args and args[0] else sys.argv[1:]))
        try:
            status = super().main(*args, **kwargs)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt, EOFError) as error:
            status = INTERRUPTED
            if not was_interrupted(error) and not (sys.stdin and sys.stdin.isatty()):
                click.echo("\ngateway: nobody answered: standard input has ended, and is no terminal", err=True)
                click.echo("  what to do: run it in a terminal, or see --help for an option that answers", err=True)
                status = EXIT_FAILED
        except Exception as error:  # the supervisor of every verb: the last place where a sentence can be said
            if debug:
                raise
            status = tell(error)
        sys.exit(status if isinstance(status, int) else EXIT_GOOD)


def tell(error: Exception) -> int:
    """Say in a sentence what ended a verb, and what to do; return the exit status."""
    known = error if isinstance(error, GatewayError) else shortage(error)
    if known is not None:
        say_error(known)
        return known.exit_code
    if isinstance(error, OSError):
        click.echo(f"gateway: {error.filename or 'the output'} cannot be used: {error.strerror or error}", err=True)
        click.echo("  what to do: check the path, its rights, and that its disk has room", err=True)
    else:
        click.echo(f"gateway: unexpected {type(error).__name__}: {error}", err=True)
        click.echo("  what to do: report it, with what --debug prints", err=True)
    return EXIT_FAILED


def make_room_for_any_text() -> None:
    """Let text that the terminal's encoding does not have become a question mark; let closed outputs swallow theirs."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def was_interrupted(error: BaseException) -> bool:
    """Return whether a person asked for the end, and not only the input came to its own."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def say_error(error: GatewayError) -> None:
    """Say on standard error what happened, and what to do next."""
    click.echo(f"gateway: {error}", err=True)
    if error.advice:
        click.echo(f"  what to do: {error.advice}", err=True)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="gateway VERB --help says more of each, with an example. Exit status: 0 good, 1 a check failed, 2 usage, "
    "69 no daemon or broker, 73 outbox unusable, 78 configuration.",
)
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
def gateway(debug: bool) -> None:
    """A store gateway: sensors in; durable, provable MQTT events out."""


def main() -> None:
    """Run the command line."""
    gateway.main(prog_name="gateway")
