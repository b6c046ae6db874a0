"""`gateway commission`: walks through every sensor, and writes the acceptance report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.technician import as_calibrated, say, seconds, whoever
from gateway.cli.verb import Verb, configured, load, printing, say_json
from gateway.errors import EXIT_FAILED, EXIT_GOOD, GatewayError, Unavailable
from gateway.machine.bounded import read_object
from gateway.machine.owner import put

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.machine.clock import Clock
    from gateway.sensors.trial import Trial, Verdict
    from gateway.technician.commissioning import AcceptanceReport, Accepted, PerformedAct
    from gateway.technician.sources import Source

REPORT_BYTES_MAX = 4 * 1024 * 1024


@click.command(
    cls=Verb,
    example="""
    gateway commission
    gateway commission aisle-3 entrance --mass 500
    gateway commission aisle-3 --corners --mass 500
    gateway commission --yes --for 30s --output acceptance.json
    """,
)
@configured
@printing
@click.argument("sensors", nargs=-1, metavar="[SENSOR]...")
@click.option("--mass", type=float, default=1000.0, show_default=True, metavar="GRAMS", help="The mass for shelves.")
@click.option("--corners", is_flag=True, help="Shelves: also put the mass on each corner; finds a dead one.")
@click.option("--for", "for_text", default="60s", show_default=True, metavar="TIME", help="Wait so long for each deed.")
@click.option("--yes", is_flag=True, help="Ask nothing: each deed is waited for.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="The report; a text is put beside it.")
@click.option("--again", is_flag=True, help="Do again what an earlier report has accepted.")
@click.option("--who", default=None, help="Who commissions. Default: this user.")
def commission(
    config: tuple[Path, ...],
    as_json: bool,
    sensors: tuple[str, ...],
    mass: float,
    corners: bool,
    for_text: str,
    yes: bool,
    output: Path | None,
    again: bool,
    who: str | None,
) -> int:
    """Do at each sensor what customers do, see that it is told rightly, and write an acceptance report.

    Without names all sensors. The report is written after each sensor; run again, what it has accepted under the same
    configuration is not asked for again. Exit status 0 only where everything is accepted.
    """
    configuration = load(config)
    known = [one.id for one in configuration.sensors]
    if unknown := [sensor for sensor in sensors if sensor not in known]:
        names = ", ".join(known) or "none is configured"
        raise click.BadParameter(f"there is no sensor {unknown[0]!r}; sensors: {names}", param_hint="SENSOR")
    if not 0 < mass < 1e6:
        raise click.BadParameter("a mass is a number of grams above 0", param_hint="--mass")
    if not known:
        raise GatewayError("no sensor is configured, so there is nothing to commission")
    site = configuration.site
    path = output or Path(f"commission-{site.store}-{site.gateway}.json")
    path = path.with_suffix(".json") if path.suffix == ".md" else path  # the text stands there
    round_ = Round(configuration, path, who or whoever(), mass, seconds(for_text), yes, corners)
    report = round_.walk(sensors or tuple(known), again)
    if as_json:
        say_json(report.to_json())
    else:
        click.echo(f"{report.result}: {path} and {path.with_suffix('.md')}")
    return EXIT_GOOD if report.result == "accepted" else EXIT_FAILED


class Round:
    """One walk through the store."""

    def __init__(
        self,
        configuration: Configuration,
        path: Path,
        who: str,
        mass_grams: float,
        within_s: float,
        yes: bool,
        corners: bool,
    ) -> None:
        from gateway.machine.clock import SystemClock

        self.configuration = configuration
        self.path = path
        self.who = who
        self.mass_grams = mass_grams
        self.within_s = within_s
        self.yes = yes
        self.corners = corners
        self.clock: Clock = SystemClock()
        self.accepted: dict[str, Accepted] = {}

    def walk(self, wanted: tuple[str, ...], again: bool) -> AcceptanceReport:
        """Try the wanted sensors one after the other; the report is on the disk after each."""
        from gateway.model import rfc3339
        from gateway.sensors.trial import Tools
        from gateway.technician.commissioning import Accepted, accepted_before
        from gateway.technician.sources import open_source

        self.accepted = accepted_before(self._earlier(), self.configuration.sha256)
        source = open_source(self.configuration, self.clock, set(wanted))
        try:
            self._write(source)
            for sensor in self.configuration.sensors:
                if sensor.id not in wanted:
                    continue
                if sensor.id in self.accepted and not again:
                    say(f"{sensor.id}: accepted on {self.accepted[sensor.id].when}")
                    continue
                say(f"{sensor.id} ({sensor.kind.table})")
                tools = Tools(self.mass_grams, self.corners)
                trial = sensor.kind.trial(as_calibrated(self.configuration, sensor).settings, tools)
                acts = (*self._acts(source, sensor.id, trial), *self._faults(source, sensor.id))
                when = rfc3339(self.clock.now().wall_ns)
                self.accepted[sensor.id] = Accepted(sensor.id, sensor.kind.table, acts, when)
                self._write(source)
            return self._report(source)
        finally:
            source.close()

    def _acts(self, source: Source, sensor: str, trial: Trial) -> list[PerformedAct]:
        from gateway.sensors.trial import Verdict
        from gateway.technician.commissioning import PerformedAct

        acts: list[PerformedAct] = []
        for number, act in enumerate(trial.acts):
            verdict: Verdict | None = None
            while verdict is None:
                if not self._is_begun(act):
                    verdict = Verdict("skipped", "skipped by hand")
                    break
                verdict = self._act(source, sensor, trial, number)
                say(f"    {verdict.result}: {verdict.found}" + (f" ({verdict.advice})" if verdict.advice else ""))
                if verdict.result == "failed" and not self.yes and click.confirm("    again?", default=True, err=True):
                    verdict = None
            acts.append(PerformedAct(act, verdict.result, verdict.found, verdict.advice))
        return acts

    def _is_begun(self, act: str) -> bool:
        """Ask for the deed; False where it is to be skipped."""
        if self.yes:
            say(f"  {act}")
            return True
        hint = f"  {act}: press Enter and do it, or s to skip"
        answer = str(click.prompt(hint, default="", show_default=False, prompt_suffix=" ", err=True))
        return not answer.strip().lower().startswith("s")

    def _act(self, source: Source, sensor: str, trial: Trial, number: int) -> Verdict:
        from gateway.model import NS_PER_S

        source.poll(0)
        verdict = trial.begin(number)
        began_ns = heard_ns = self.clock.now().boot_ns
        while verdict is None:
            readings = [reading for reading in source.poll() if reading.sensor == sensor]
            now_ns = self.clock.now().boot_ns
            for reading in readings:
                heard_ns = now_ns
                verdict = verdict or trial.take(reading)
            verdict = verdict or trial.passed(now_ns - heard_ns)
            if verdict is None and now_ns - began_ns > self.within_s * NS_PER_S:
                verdict = trial.give_up()
        return verdict

    def _faults(self, source: Source, sensor: str) -> list[PerformedAct]:
        """Return the sensor's active faults, as acts that failed."""
        from gateway.sensors.fault import Known
        from gateway.technician.commissioning import PerformedAct

        faults = source.known().get(sensor, Known()).faults
        advice = f"gateway diagnose {sensor}; gateway doctor"
        return [PerformedAct("no fault", "failed", fault.sentence, advice) for fault in faults]

    def _earlier(self) -> Any:
        try:
            return read_object(self.path, REPORT_BYTES_MAX)
        except (OSError, ValueError):
            return None

    def _report(self, source: Source) -> AcceptanceReport:
        from gateway import __version__
        from gateway.model import rfc3339
        from gateway.technician.commissioning import AcceptanceReport, Accepted

        now = rfc3339(self.clock.now().wall_ns)
        missing = {
            configured.id: Accepted(configured.id, configured.kind.table, (), now)
            for configured in self.configuration.sensors
        }
        site = self.configuration.site
        return AcceptanceReport(
            store=site.store,
            gateway=site.gateway,
            version=__version__,
            config_sha256=self.configuration.sha256,
            who=self.who,
            when=now,
            source=source.origin,
            daemon=self._daemon(source),
            sensors=tuple(self.accepted.get(sensor, one) for sensor, one in missing.items()),
        )

    def _daemon(self, source: Source) -> dict[str, Any]:
        from gateway.control.asking import ask

        if source.origin != "daemon":
            return {}
        try:
            status = ask(self.configuration, "status")
        except Unavailable:
            return {}
        link, outbox = status["link"], status["outbox"]
        return {
            "link": "up" if link["up"] else f"down ({link.get('reason') or 'not connected yet'})",
            "clock": status["clock"],
            "outbox": outbox["outbox"],
            "not acknowledged": outbox["entries"],
        }

    def _write(self, source: Source) -> None:
        report = self._report(source)
        texts = {
            self.path: json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n",
            self.path.with_suffix(".md"): report.to_markdown(),
        }
        for path, text in texts.items():
            try:
                put(path, text.encode())
            except OSError as error:
                advice = "name a file that can be written: --output FILE"
                raise GatewayError(f"the report {path} cannot be written: {error.strerror}", advice) from None
