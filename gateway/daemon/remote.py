"""The configuration from afar: validated, applied, and in force for good only when it has proved itself.

Law: the local files are never written; what the cloud orders is laid over them (`config.overlay`) and taken over by a
stop and a start. It is kept once the broker has acknowledged an event under it, within two minutes of the start; else,
or where the daemon does not even start with it three times running, what was before comes back. What says who this
gateway is, where its outbox lies and what the cloud may order is decided at the gateway alone.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.commands.verbs import CommandRefused, overlay_of
from gateway.config import Configuration, require_broker
from gateway.config.cloud_keys import forbidden_keys
from gateway.config.overlay import FailedProbation, Ordered, Probation, read_ordered, write_ordered
from gateway.engine.engine import Engine
from gateway.errors import ConfigurationError
from gateway.facts import ConfigChanged
from gateway.machine.asker import Ask, at_once
from gateway.model import NS_PER_S, Event, Instant

log = logging.getLogger(__name__)

BY = "cloud"
STARTS_MAX = 3

Said = tuple[str, dict[str, Any], bytes | None]
"""An answer that waits for the link: topic, document, correlation."""


@dataclass(slots=True)
class RemoteConfiguration:
    """One run's part in it. `overlaid` gives the configuration with another overlay; `reload` stops and starts.

    `ask` calls what touches a file; a disk that does not answer then leaves things as they are, to be tried again.
    """

    configuration: Configuration
    overlaid: Callable[[Mapping[str, Any]], Configuration] | None
    reload: Callable[[], None]
    ask: Ask = at_once
    _trial: Probation | None = None
    _until_ns: int = 0
    _told: Said | None = None

    def count_start(self) -> None:
        """A start under trial is noted before anything else happens, so that one that crashes is counted too."""
        ordered = self._read()
        self._trial = ordered.trial
        if ordered.trial is not None:
            self._trial = dataclasses.replace(ordered.trial, starts=ordered.trial.starts + 1)
            self._write(dataclasses.replace(ordered, trial=self._trial))

    def begin(self, engine: Engine, now: Instant) -> None:
        """Take up a trial that the last run began, or report that one was lost."""
        try:
            ordered = self._read()
        except TimeoutError:
            ordered = Ordered()  # a verdict is reported by the next start
        if (lost := ordered.verdict) is not None:
            self._write(dataclasses.replace(ordered, verdict=None))
            engine.record([Event("gateway", now, ConfigChanged(lost.sha256, BY, "rolled_back"))], now)
            self._told = (lost.topic, CommandRefused("failed", lost.why).answer(), _bytes(lost.correlation))
        if (trial := self._trial) is None:
            return
        self._until_ns = now.boot_ns + int(trial.within_s * NS_PER_S)
        log.warning("a configuration of the cloud is on trial within_s=%g start=%d", trial.within_s, trial.starts)
        if trial.sha256 != self.configuration.sha256:
            self._roll_back("the configuration on trial no longer fits the gateway's own files")
        elif trial.starts > STARTS_MAX:
            self._roll_back(f"the gateway stopped {STARTS_MAX} times under it before the broker acknowledged anything")

    def watch(self, engine: Engine, now: Instant) -> None:
        """Judge the trial; called each turn of the loop."""
        if self._trial is None and self._told is None:
            return
        is_proved = engine.uplink.counters.acknowledged > 0
        if self._told is not None and is_proved:
            self._say(engine, *self._told)
            self._told = None
        trial = self._trial
        if trial is None:
            return
        if is_proved:
            try:
                kept = self._read()
            except TimeoutError:
                return  # the next turn asks again
            self._trial = None
            self._write(dataclasses.replace(kept, trial=None))
            engine.record([Event("gateway", now, ConfigChanged(trial.sha256, BY, "applied"))], now)
            result = {"outcome": "applied", "config_sha256": trial.sha256}
            self._say(engine, trial.topic, {"ok": True, "result": result}, _bytes(trial.correlation))
        elif now.boot_ns >= self._until_ns:
            self._roll_back(f"the broker acknowledged nothing within {trial.within_s:g} s under it")

    def order(
        self, engine: Engine, arguments: Mapping[str, Any], topic: str, correlation: bytes | None, now: Instant
    ) -> dict[str, Any] | None:
        """Carry out the command `config`: None where the answer comes when it has proved itself."""
        if self._trial is not None:
            raise CommandRefused("busy", "an earlier configuration is still on trial")
        if self.overlaid is None:
            raise CommandRefused("failed", "this daemon runs without configuration files")
        overlay, within_s = overlay_of(arguments)
        try:
            fresh = self.ask(self.overlaid, overlay)
            self._refuse_what_is_local(self.ask(self.overlaid, {}), fresh)
            require_broker(fresh)
        except TimeoutError as error:
            raise CommandRefused("failed", f"the files here cannot be read: {error.strerror}") from None
        except (ConfigurationError, CommandRefused) as error:
            engine.record([Event("gateway", now, ConfigChanged(self.configuration.sha256, BY, "rejected"))], now)
            raise CommandRefused("invalid", str(error)) from None
        if fresh.sha256 == self.configuration.sha256:
            return {"outcome": "unchanged", "config_sha256": fresh.sha256}
        said = None if correlation is None else correlation.hex()
        try:
            trial = Probation(fresh.sha256, within_s, topic, said, self._read().overlay)
            self.ask(write_ordered, self.configuration.outbox.directory, Ordered(overlay, trial))
        except OSError as error:
            raise CommandRefused("failed", f"it cannot be kept: {error.strerror or error}") from None
        self.reload()
        return None

    def _refuse_what_is_local(self, local: Configuration, fresh: Configuration) -> None:
        if forbidden := forbidden_keys(local.document, fresh.document, self.configuration.commands.config_keys):
            advice = (
                "it would have to be in [commands] config_keys, and hosts, files, pins, identities and rights never can"
            )
            raise CommandRefused("invalid", f"{', '.join(forbidden)} can be changed at the gateway only: {advice}")

    def _roll_back(self, why: str) -> None:
        trial, self._trial = self._trial, None
        assert trial is not None
        log.error("the configuration of the cloud is taken back why=%s", why)
        verdict = FailedProbation(trial.sha256, why, trial.topic, trial.correlation)
        if self._write(Ordered(trial.previous, None, verdict)):  # else a start would find the same trial again
            self.reload()

    def _say(self, engine: Engine, topic: str, document: dict[str, Any], correlation: bytes | None) -> None:
        engine.uplink.answer(topic, orjson.dumps(document), correlation)

    def _read(self) -> Ordered:
        return self.ask(read_ordered, self.configuration.outbox.directory)

    def _write(self, ordered: Ordered) -> bool:
        try:
            self.ask(write_ordered, self.configuration.outbox.directory, ordered)
        except OSError as error:
            log.error("the ordered configuration cannot be kept: %s", error.strerror or error)
            return False
        return True


def _bytes(hexadecimal: str | None) -> bytes | None:
    try:
        return None if hexadecimal is None else bytes.fromhex(hexadecimal)
    except ValueError:
        return None
