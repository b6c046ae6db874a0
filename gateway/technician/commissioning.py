"""The acceptance of a gateway on the spot: what a person does at each sensor, and whether the sensor reported it.

Pure: readings and passing time in, verdicts out. Law: a sensor is accepted only by a deed that it reported rightly;
what was skipped is not accepted, and the report says so. The report is a JSON object, and the same as a text to sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.sensors.trial import Result


@dataclass(frozen=True, slots=True)
class PerformedAct:
    """One act as the report holds it."""

    act: str
    result: Result
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One sensor as the report holds it; `result` is ok only where every act was done and came out well."""

    id: str
    kind: str
    acts: tuple[PerformedAct, ...]
    when: str

    @property
    def result(self) -> Result:
        results = {done.result for done in self.acts}
        return "failed" if "failed" in results else "skipped" if "skipped" in results or not results else "ok"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "result": self.result}


@dataclass(frozen=True, slots=True)
class AcceptanceReport:
    """The acceptance report. `daemon` is what the running daemon said of itself, empty where none ran."""

    store: str
    gateway: str
    version: str
    config_sha256: str
    who: str
    when: str
    source: str
    daemon: Mapping[str, Any]
    sensors: tuple[Accepted, ...]

    @property
    def result(self) -> Literal["accepted", "incomplete", "failed"]:
        results = {sensor.result for sensor in self.sensors}
        return "failed" if "failed" in results else "accepted" if results == {"ok"} else "incomplete"

    def to_json(self) -> dict[str, Any]:
        named = ("store", "gateway", "version", "config_sha256", "who", "when", "source", "daemon")
        return {
            "commissioning": 1,
            **{name: getattr(self, name) for name in named},
            "result": self.result,
            "sensors": [sensor.to_json() for sensor in self.sensors],
        }

    def to_markdown(self) -> str:
        """Return the report as a text to read, print and sign."""
        lines = [
            f"# Acceptance of gateway {self.gateway}, store {self.store}",
            "",
            f"**{self.result.upper()}** on {self.when} by {self.who}",
            "",
            f"- version {self.version}, configuration {self.config_sha256[:12]}, readings of the {self.source}",
            *(f"- {key}: {value}" for key, value in self.daemon.items()),
            "",
            "| sensor | what was done | result | what it told | what to do |",
            "| --- | --- | --- | --- | --- |",
        ]
        for sensor in self.sensors:
            for done in sensor.acts:
                cells = (f"{sensor.id} ({sensor.kind})", done.act, done.result, done.found, done.advice)
                lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        return "\n".join([*lines, "", "Signed: ______________________________", ""])


def accepted_before(report: Any, config_sha256: str) -> dict[str, Accepted]:
    """Return the sensors that an earlier report (a JSON value) accepted under this very configuration, by id."""
    if not isinstance(report, dict) or report.get("config_sha256") != config_sha256:
        return {}
    found = {}
    sensors = report.get("sensors")
    for sensor in sensors if isinstance(sensors, list) else []:
        try:
            acts = tuple(PerformedAct(a["act"], a["result"], a["found"], a["advice"]) for a in sensor["acts"])
            one = Accepted(sensor["id"], sensor["kind"], acts, sensor["when"])
        except (KeyError, TypeError):
            continue
        if one.result == "ok":
            found[one.id] = one
    return found
