"""`gateway diagnose`: ten seconds of one sensor's readings judged in words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.technician import as_calibrated, say, seconds
from gateway.cli.verb import Verb, configured, console, load, printing, say_json
from gateway.errors import EXIT_FAILED, EXIT_GOOD, EXIT_UNAVAILABLE

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.sensors.diagnosis import Evidence

LISTEN_S = 10.0
COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@click.command(
    cls=Verb,
    example="""
    gateway diagnose aisle-3
    gateway diagnose entrance --for 30s
    gateway diagnose aisle-3 --recording morning.jsonl
    """,
)
@configured
@printing
@click.argument("sensor")
@click.option("--for", "for_text", metavar="TIME", help="How long. Default: 10s; of a recording, all of it.")
@click.option("--recording", type=click.Path(path_type=Path), metavar="FILE", help="Judge a recording instead.")
def diagnose(config: tuple[Path, ...], as_json: bool, sensor: str, for_text: str | None, recording: Path | None) -> int:
    """Judge SENSOR by its readings: of the running daemon, of the hardware where none runs, or of a recording.

    Exit status: 0 nothing is wrong (there may be warnings), 1 something is, 69 no readings could be had.
    """
    configuration = load(config)
    known = {one.id: one for one in configuration.sensors}
    if sensor not in known:
        names = ", ".join(known) or "none is configured"
        raise click.BadParameter(f"there is no sensor {sensor!r}; sensors: {names}", param_hint="SENSOR")
    for_s = None if for_text is None else seconds(for_text)
    from gateway.sensors.diagnosis import verdict
    from gateway.technician.diagnosis import diagnose as judge

    asked = known[sensor]
    if recording is not None:
        origin, evidence = "recording", _recorded(configuration, recording, sensor, for_s)
    else:
        length_s = LISTEN_S if for_s is None else for_s
        say(f"listening to {sensor} for {length_s:g} s")
        origin, evidence = _heard(configuration, sensor, length_s)
        asked = as_calibrated(configuration, asked)
    findings = judge(asked.kind, asked.settings, evidence)
    result = verdict(findings)
    if as_json:
        say_json(
            {
                "sensor": sensor,
                "kind": asked.kind.table,
                "source": origin,
                "seconds": round(evidence.seconds, 3),
                "readings": len(evidence.readings),
                "result": result,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        _say(sensor, origin, evidence, findings)
    if not evidence.readings:
        return EXIT_UNAVAILABLE
    return EXIT_FAILED if result == "failed" else EXIT_GOOD


def _recorded(configuration: Configuration, path: Path, sensor: str, for_s: float | None) -> Evidence:
    from gateway.sensors.diagnosis import Evidence, span_s
    from gateway.technician.sources import recorded

    readings = list(recorded(configuration, path, sensor, for_s))
    return Evidence(readings, span_s(readings) if readings else for_s or 0.0)


def _heard(configuration: Configuration, sensor: str, for_s: float) -> tuple[str, Evidence]:
    from gateway.machine.clock import SystemClock
    from gateway.model import NS_PER_S
    from gateway.sensors.diagnosis import Evidence
    from gateway.sensors.fault import Known
    from gateway.technician.sources import open_source

    clock = SystemClock()
    source = open_source(configuration, clock, {sensor})
    try:
        counted = dict(source.known().get(sensor, Known()).driver)
        readings: list[Any] = []
        began_ns = clock.now().boot_ns
        while (left_s := for_s - (clock.now().boot_ns - began_ns) / NS_PER_S) > 0:
            readings += source.poll(min(0.25, left_s))
        readings += source.poll(0)
        known = source.known().get(sensor, Known())
    finally:
        source.close()
    driver = {name: count - counted.get(name, 0) for name, count in known.driver.items()}
    return source.origin, Evidence(readings, for_s, driver, known.faults, source.missed)


def _say(sensor: str, origin: str, evidence: Evidence, findings: Any) -> None:
    from rich.text import Text

    out = console()
    count = len(evidence.readings)
    out.print(f"{sensor}: {count} readings in {evidence.seconds:.1f} s, from the {origin}", markup=False)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        line = Text(f"{finding.result:<8}", COLOURS[finding.result])
        line.append(f" {finding.name:<{width}}  {finding.found}", "default")
        out.print(line)
        for words in (finding.why, finding.advice and f"what to do: {finding.advice}"):
            if words:
                out.print(Text(f"{'':8} {'':{width}}  {words}", "dim"))
