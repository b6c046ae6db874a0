"""What the running daemon answers: questions of its local socket, and commands of the cloud.

Law: an answer is worked out in the engine's thread from what is known, and at once; what takes seconds (the doctor)
runs beside it, one at a time. What is not understood gets an error answer and changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.commands.signed import SIGNED_VERBS, opened, read_believed, write_believed
from gateway.commands.signing_keys import verifier
from gateway.commands.verbs import CommandRefused, Resend, ResendBudget, resend_of, resent, understood
from gateway.config import Configuration
from gateway.daemon.remote import RemoteConfiguration
from gateway.daemon.status import status_of
from gateway.engine.engine import Engine, Question, Say
from gateway.errors import ConfigurationError
from gateway.machine.asker import Ask, at_once
from gateway.machine.threads import REFUSED, started
from gateway.model import NS_PER_MS, CommandReceived, Instant
from gateway.recordings.tap import Tap
from gateway.redaction import Redactor
from gateway.sensors.kind import Driver
from gateway.technician.scales import VERB as CALIBRATION
from gateway.technician.scales import Scales
from gateway.uplink.window import TokenBucket

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 5.0
TOPIC_BYTES_MAX = 256
OWN_CHANNELS = ("state", "event", "backfill", "command")
"""What the gateway itself says, or hears, below its prefix: no answer goes there because somebody asked for it."""
COMMANDS_PER_S_MAX = 20.0
SPOILED = ("_spoiled", "_settling", "_out_of_step", "_bad")
"""How the names of drivers' counters end that count readings thrown away."""


@dataclass(slots=True)
class Answers:
    """Answers for one run of the daemon. `stop(reason)` ends it cleanly; `drivers` are those that run now."""

    engine: Engine
    configuration: Configuration
    tap: Tap
    drivers: Mapping[str, Driver]
    stop: Callable[[str], None]
    scales: Scales
    remote: RemoteConfiguration
    redact: Redactor = field(default_factory=Redactor)
    disk: Ask = at_once
    """Calls what touches a file in the engine's thread."""
    _rate: TokenBucket = field(default_factory=lambda: TokenBucket(COMMANDS_PER_S_MAX))
    _budget: ResendBudget = field(init=False)
    _examining: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._budget = ResendBudget(self.configuration.commands.resend_bytes_per_hour)

    def ask(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Put a question to the engine from another thread and wait for its answer, `ANSWER_WITHIN_S` at most."""
        if verb == CALIBRATION:
            return self.scales.ask(arguments)  # in this thread: it writes files
        answered = threading.Event()
        answers: list[dict[str, Any]] = []

        def reply(answer: dict[str, Any]) -> None:
            answers.append(answer)
            answered.set()

        self.engine.offer(Question(verb, arguments, reply))
        if not answered.wait(ANSWER_WITHIN_S):
            return {"error": f"the daemon did not answer within {ANSWER_WITHIN_S:g} s"}
        return answers[0]

    def answer(self, verb: str, arguments: Mapping[str, Any], now: Instant) -> dict[str, Any]:
        """Answer a question of the local socket. Engine's thread."""
        match verb:
            case "ping":
                return {"ok": True}
            case "status":
                return self.status(now)
            case "readings":
                after = arguments.get("after")
                return self.tap.since(after if isinstance(after, int) else None, now)
            case "reconnect":
                self.engine.uplink.hurry(now, by_hand=True)
                return {"ok": True}
            case _:
                return {"error": f'this daemon does not know "{verb}"'}

    def status(self, now: Instant) -> dict[str, Any]:
        """Return the document of `gateway status --json`."""
        self.count_spoiled()
        status = status_of(self.engine, self.configuration, now)
        for sensor, driver in self.drivers.items():
            status["sensors"][sensor]["driver"] = dict(driver.counters())
        redacted: dict[str, Any] = self.redact.document(status)
        # Made here and no secret: by it the doctor sees whether the files say something else than what runs.
        return {**redacted, "config_sha256": status["config_sha256"]}

    def count_spoiled(self) -> None:
        """Take over from the drivers how many readings they threw away."""
        for sensor, driver in self.drivers.items():
            thrown_away = (count for name, count in driver.counters().items() if name.endswith(SPOILED))
            self.engine.interpretation.by_sensor[sensor].spoiled = sum(thrown_away)

    def command(self, command: CommandReceived, now: Instant) -> None:
        """Carry out and answer a command of the cloud; a retained one is ignored. Engine's thread."""
        if command.retained:
            log.warning("a retained command is ignored verb=%s", command.verb[:40])
            return
        if not self._rate.allows(now.boot_ns):
            log.warning("too many commands verb=%s", command.verb[:40])
            refused = CommandRefused("busy", f"more than {COMMANDS_PER_S_MAX:g} commands a second; ask again later")
            self._reply(command, refused.answer())
            return
        self._rate.spend(1)
        try:
            arguments = understood(command.verb, command.payload, self.configuration.commands.allow)
            if self.configuration.commands.key_file is not None and command.verb in SIGNED_VERBS:
                arguments = self._signed(command, arguments, self.configuration.commands.key_file, now)
            result = self._carry_out(command, arguments, now)
        except CommandRefused as refused:
            log.warning("command refused verb=%s code=%s", command.verb[:40], refused.code)
            self._reply(command, refused.answer())
        else:
            if result is not None:
                self._reply(command, {"ok": True, "result": result})

    def _signed(
        self, command: CommandReceived, outer: Mapping[str, Any], key_file: Path, now: Instant
    ) -> Mapping[str, Any]:
        """Return what was signed, once it is kept that it was; the key is read anew, so that it can be replaced."""
        directory = self.configuration.outbox.directory
        try:
            verify = self.disk(verifier, key_file)
        except TimeoutError as error:
            raise CommandRefused("failed", f"the key of [commands] key_file: {error.strerror}") from None
        except ConfigurationError as error:
            log.error("no command can be believed: %s; %s", error, error.advice)
            raise CommandRefused("not_signed", "this gateway cannot read the key of [commands] key_file") from None
        topic = f"{self._own}command/{command.verb}"
        try:
            arguments, believed = opened(outer, topic, verify, now, self.disk(read_believed, directory, now))
            self.disk(write_believed, directory, believed)
        except OSError as error:
            detail = f"what was carried out cannot be kept: {error.strerror or error}"
            raise CommandRefused("failed", detail) from None
        return arguments

    def _carry_out(self, command: CommandReceived, arguments: Mapping[str, Any], now: Instant) -> Any:
        """Return the result, or None where the answer will come later; raises CommandRefused."""
        match command.verb:
            case "ping":
                return {"time_ms": now.wall_ns // NS_PER_MS, "uptime_ms": now.boot_ns // NS_PER_MS}
            case "status":
                return self.status(now)
            case "resend":
                return self._resend(resend_of(arguments), now)
            case "restart":
                self.stop("restart_command")
                return {}
            case "config":
                topic = self._topic(command)
                return self.remote.order(self.engine, arguments, topic, command.correlation, now)
            case "tare":
                self.scales.begin_tare(arguments, lambda outcome: self._tell_later(command, outcome))
                return None
            case "doctor":
                if not self._examining.acquire(blocking=False):
                    raise CommandRefused("busy", "the doctor is at work already; ask again in half a minute")
                if not started(threading.Thread(target=self._examine, args=(command,), name="doctor", daemon=True)):
                    self._examining.release()
                    raise CommandRefused("busy", REFUSED)
                return None
            case _:
                raise CommandRefused("failed", f'this version cannot "{command.verb}" from afar; use the command line')

    def _resend(self, asked: Resend, now: Instant) -> dict[str, Any]:
        """Send again what is kept, as far as the budget and the queue allow; raises CommandRefused."""
        kept = self.engine.outbox.kept(asked.stream, asked.first, asked.last)
        if not kept:
            return resent(asked, kept)
        taken = self.engine.uplink.resend(asked.stream, asked.first, self._budget.through(kept, now.boot_ns))
        if not taken:
            raise CommandRefused("busy", "too many ranges wait to be sent again; ask again later")
        self._budget.spend(taken)
        return resent(asked, kept, taken[-1][1])

    def _examine(self, command: CommandReceived) -> None:
        """Run the doctor in its own thread and hand its answer to the engine."""
        try:
            answer = {"ok": True, "result": self.redact.document(examination(self.configuration))}
        except Exception as error:  # the supervisor of the doctor: its failure is an answer too
            log.exception("the doctor failed")
            stopped = self.redact(f"the doctor stopped on {type(error).__name__}: {error}")
            answer = CommandRefused("failed", stopped).answer()
        finally:
            self._examining.release()
        self.engine.offer(Say(self._topic(command), orjson.dumps(answer, default=str), command.correlation))

    def _tell_later(self, command: CommandReceived, outcome: Mapping[str, Any] | CommandRefused) -> None:
        """Answer a command, from any thread, whose work went on beside the engine."""
        answer = outcome.answer() if isinstance(outcome, CommandRefused) else {"ok": True, "result": outcome}
        self.engine.offer(Say(self._topic(command), orjson.dumps(answer, default=str), command.correlation))

    def _reply(self, command: CommandReceived, answer: Mapping[str, Any]) -> None:
        self.engine.uplink.answer(self._topic(command), orjson.dumps(answer, default=str), command.correlation)

    @property
    def _own(self) -> str:
        site, prefix = self.configuration.site, self.configuration.broker.topic_prefix
        return f"{prefix}/v1/{site.store}/{site.gateway}/"

    def _topic(self, command: CommandReceived) -> str:
        """Return where the answer goes: where it was asked for, if that is a topic for answers; else the usual one.

        That is one below the gateway's own topics, but none on which it says other things, or below `response_prefix`.
        """
        own = self._own
        asked, usual = command.response_topic, f"{own}command/{command.verb}/result"
        if asked is None or asked == usual:
            return usual
        if asked.isprintable() and not set(asked) & set("+#") and len(asked.encode()) <= TOPIC_BYTES_MAX:
            below = asked.removeprefix(own).partition("/")[0]
            if asked.startswith(own) and below not in ("", *OWN_CHANNELS):
                return asked
            elsewhere = self.configuration.commands.response_prefix
            if elsewhere is not None and asked.startswith(elsewhere) and not asked.startswith(own):
                return asked
        log.warning("an answer does not go where it was asked for, but to the usual topic asked=%s", asked[:80])
        return usual


def examination(configuration: Configuration) -> dict[str, Any]:
    """Run the doctor's checks and return its JSON document."""
    from gateway.technician.doctor import examine

    return examine(configuration)
