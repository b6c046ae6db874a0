"""What can go wrong, as facts a person understands.

Law: an error that reaches a person says what happened, where, and what to do next; its class carries the exit status of
the command that ends with it (contract section 9). Programmer errors are assertions and never pass through here.
"""

from __future__ import annotations

import errno

from gateway.machine.threads import ADVICE, REFUSED

EXIT_GOOD = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CANNOT_CREATE = 73
EXIT_CONFIGURATION = 78


class GatewayError(Exception):
    """Something the gateway was asked for cannot be done. `str(error)` is the sentence, `advice` the next step."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class ConfigurationError(GatewayError):
    """The configuration is missing or wrong; every mistake found is one line of the message."""

    exit_code = EXIT_CONFIGURATION


class OutboxUnusable(GatewayError):
    """The outbox directory cannot be used: not creatable, not writable, or another daemon holds it."""

    exit_code = EXIT_CANNOT_CREATE


class OutboxSealed(ConfigurationError):
    """The outbox is sealed and cannot be opened: its key is missing, unreadable or another one. Nothing was changed."""


class Unavailable(GatewayError):
    """No daemon, or no broker, answers where one was needed."""

    exit_code = EXIT_UNAVAILABLE


class NoDaemon(Unavailable):
    """No daemon runs with this outbox, as opposed to one that does not answer."""


class RecordingError(GatewayError):
    """A recording cannot be read; the message names the file and the line."""


def shortage(error: BaseException) -> GatewayError | None:
    """Return what this process or machine is short of, where that is the error; no file is to blame for it."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        return Unavailable("this process may open no more files", "allow 256: LimitNOFILE= of the unit, or ulimit -n")
    if number == errno.ENFILE:
        return Unavailable("this machine can open no more files", "see what holds them: lsof; or sysctl fs.file-max")
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        return Unavailable(REFUSED, ADVICE)
    if number == errno.ENOMEM or isinstance(error, MemoryError):
        return Unavailable(
            "there is no memory left for it", "see what takes it: free -m; or raise MemoryMax= of the unit"
        )
    return None
