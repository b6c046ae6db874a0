"""A kind of sensor from outside: the example's package is installed, and no other line is edited."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.sensors import unfit
from gateway.sensors.door.facts import DoorPassed
from gateway.sensors.door.kind import KIND as DOOR
from tests.daemon import wait_for
from tests.example_kind.install import install

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "28-0316a2795bff"
SCHEMAS = """
import json, sys
from gateway.contract import documents
found = documents()
print(json.dumps({name: found[name] for name in sys.argv[1:]}))
"""


class Shop:
    """A store with one fridge, whose thermometer is a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.site.mkdir()
        install(self.site)
        self.thermometer = folder / "w1" / DEVICE / "temperature"
        self.thermometer.parent.mkdir(parents=True)
        self.thermometer.write_text("5250\n")
        self.configuration = folder / "gateway.toml"
        self.configure()

    def configure(self, more: str = "") -> None:
        self.configuration.write_text(
            f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n'
            f'[outbox]\ndirectory = "{self.folder / "outbox"}"\n'
            f'[[fridge]]\nid = "dairy"\ndevice = "{DEVICE}"\nbus = "{self.folder / "w1"}"\n'
            f'read_every = "0.2 s"\nmeasured_every = "1 s"\n{more}'
        )

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(self.site)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str, status: int = 0) -> str:
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=30)
        assert process.returncode == status, f"{out}\n{err}"
        return out or err

    def verb(self, *words: str, status: int = 0) -> str:
        return self.call("-m", "gateway", *words, "--config", str(self.configuration), status=status)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_mistake_in_its_settings_is_told_like_one_in_ours(shop: Shop) -> None:
    shop.configure("warm_abov_celsius = 9\n")
    told = shop.verb("config", "check", status=78)
    assert "Did you mean warm_above_celsius?" in told


def test_it_has_schemas_and_a_channel_and_a_stream(shop: Shop) -> None:
    names = ("schemas/v1/fridge.warm.json", "schemas/v1/envelope.json", "asyncapi.json")
    found: dict[str, Any] = json.loads(shop.call("-c", SCHEMAS, *names))
    assert set(found[names[0]]["properties"]) == {"celsius"}
    assert "fridge" in found[names[1]]["properties"]["stream"]["enum"]
    channel = found[names[2]]["channels"]["event"]
    assert "fridge" in channel["parameters"]["area"]["enum"]
    assert "fridgeWarm" in channel["messages"]


def test_a_recording_of_it_is_replayed(shop: Shop) -> None:
    shop.configure('warm_after = "5 s"\n')
    lines = [json.dumps({"recording": 1, "started": "2026-11-22T09:00:00.000Z", "gateway": "front", "note": ""})]
    warm = range(2, 10)
    lines += [json.dumps({"t": t_s, "sensor": "dairy", "celsius": 11 if t_s in warm else 5}) for t_s in range(12)]
    recording = shop.folder / "morning.jsonl"
    recording.write_text("\n".join(lines) + "\n")
    events = [json.loads(line) for line in shop.verb("replay", str(recording)).splitlines()]
    told = [(event["type"], event["data"]) for event in events if event["type"] != "store.fridge.measured"]
    assert told == [
        ("store.fridge.warm", {"celsius": 11.0}),
        ("store.fridge.cool", {"celsius": 5.0, "warm_ms": 8000}),
    ]
    assert any(event["type"] == "store.fridge.measured" for event in events)


def test_a_thermometer_that_is_missing_is_told_with_what_to_do(shop: Shop) -> None:
    shop.thermometer.unlink()
    failed = json.loads(shop.verb("diagnose", "dairy", "--for", "0.5s", "--json", status=69))
    assert failed["kind"] == "fridge"
    assert "dtoverlay=w1-gpio" in failed["findings"][0]["found"]


def test_the_doctor_and_the_privacy_report_know_it(shop: Shop) -> None:
    shop.thermometer.unlink()
    shop.thermometer.parent.rmdir()
    checks = json.loads(shop.verb("doctor", "--json", status=1))
    assert "fridge.absent" in json.dumps(checks)
    leaving = json.loads(shop.verb("privacy", "report", "--json"))
    assert set(leaving["events"]["store.fridge.warm"]) == {"celsius"}
    assert not any(name.startswith("store.beacon") for name in leaving["events"])


@pytest.fixture
def simulated(shop: Shop) -> Iterator[Shop]:
    daemon = shop.begin("-m", "gateway", "run", "--simulated", "--config", str(shop.configuration))
    wait_for(lambda: daemon.poll() is not None or (shop.folder / "outbox" / "fridge").is_dir(), what="its stream")
    yield shop
    daemon.send_signal(signal.SIGTERM)
    _, err = daemon.communicate(timeout=15)
    assert daemon.returncode == 0, err


def test_the_daemon_runs_it_simulated_and_says_how_it_is(simulated: Shop) -> None:
    def status() -> Any:
        process = simulated.begin("-m", "gateway", "status", "--json", "--config", str(simulated.configuration))
        found = json.loads(process.communicate(timeout=30)[0])
        return found if found["streams"].get("fridge", {}).get("recorded_through") else None

    found = wait_for(status, what="an event")
    assert found["sensors"]["dairy"]["kind"] == "fridge"
    entry = json.loads(simulated.verb("outbox", "list", "fridge", "--limit", "1", "--json").splitlines()[0])
    assert "store.fridge" in json.dumps(entry)


def test_a_package_that_does_not_fit_is_named_and_nothing_crashes(shop: Shop) -> None:
    (shop.site / "fridge_kind" / "settings.py").write_text("import nowhere\n")
    told = shop.verb("config", "check", status=1)
    assert "the package store-gateway-fridge brings a kind of sensor that cannot be loaded" in told
    assert "Traceback" not in told


def test_a_stream_that_nobody_declares_is_named_before_the_daemon_runs(shop: Shop) -> None:
    (shop.site / "fridge_kind" / "stream.py").write_text("NOTHING = None\n")
    told = shop.verb("config", "check", status=1)
    assert 'no entry point of store_gateway.streams declares the stream "fridge"' in told
    assert "the package store-gateway-fridge" in told


def test_a_key_of_a_file_names_a_secret_once_and_settings_need_no_slots(shop: Shop) -> None:
    settings = shop.site / "fridge_kind" / "settings.py"
    written = settings.read_text().replace("frozen=True, slots=True", "frozen=True")
    settings.write_text(written + '    key_file: str = ""\n')
    secret = shop.folder / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o644)
    shop.configure(f'key_file = "{secret}"\n')
    process = shop.begin("-m", "gateway", "config", "check", "--config", str(shop.configuration))
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert (out + err).count("has mode 0644") == 1


class NoSettings:
    """Settings that are no dataclass."""


class WrongType(DoorPassed):
    """A fact whose type is of another form than the contract's."""

    type = "acme.door.passed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"settings": NoSettings, "changeable": "", "on_demand": ""}, ["must be a dataclass with an id"]),
        ({"stream": "nowhere"}, ['declares the stream "nowhere"']),
        ({"facts": (WrongType,)}, ['the event type "acme.door.passed" must have the form']),
        ({"changeable": "blocked_after"}, ['names "blocked_after", which is no key of DoorSettings']),
        ({"remembered_bytes_max": 0}, ["nothing would be kept"]),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], said: list[str]) -> None:
    found = list(unfit(dataclasses.replace(DOOR, **change)))
    assert len(found) == len(said)
    assert all(words in one for words, one in zip(said, found, strict=True)), found


def test_the_schemas_are_written_where_one_says(shop: Shop) -> None:
    told = shop.call("-m", "gateway.contract", status=2)
    assert "kinds from outside are installed (fridge)" in told
    assert not list((ROOT / "gateway" / "contract" / "schemas").rglob("fridge.*"))
    shop.call("-m", "gateway.contract", str(shop.folder / "schemas"))
    warm = json.loads((shop.folder / "schemas" / "schemas" / "v1" / "fridge.warm.json").read_text())
    assert warm["title"] == "store.fridge.warm"


def test_the_schema_of_the_settings_has_their_bounds(shop: Shop) -> None:
    schema = json.loads(shop.call("-m", "gateway", "config", "schema"))
    number, text = schema["$defs"]["FridgeSettings"]["properties"]["read_every"]["anyOf"]
    assert number == {"type": "number", "minimum": 0.1, "maximum": 3600}
    assert re.search(text["pattern"], "10 s")
    assert not re.search(text["pattern"], "about 10 s")


PAGE = ROOT / "gateway" / "sensors" / "README.md"
VERBS = """
import json, sys
from gateway.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["gateway", *words]
    try:
        main()
    except SystemExit as end:
        print(f"== {end.code} {words[0]}", flush=True)
"""


def test_the_page_that_adds_a_kind_can_be_followed(tmp_path: Path) -> None:
    install(tmp_path)
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "fridge.toml").write_text(next(text for form, text in blocks if form == "toml" and "[site]" in text))
    (tmp_path / "warm.jsonl").write_text(next(text for form, text in blocks if form == "json"))
    lines = [line for form, text in blocks if form == "sh" for line in text.splitlines()]
    verbs = [line.split()[1:] for line in lines if line.startswith("gateway ")]
    rest = [line for line in lines if not line.startswith(("gateway ", "pip install"))]
    subprocess.run("\n".join(rest), shell=True, cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", VERBS, json.dumps(verbs)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    said = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert said == [f"== {1 if words[0] == 'doctor' else 0} {words[0]}" for words in verbs], done.stderr
    for words in ('"store.fridge.warm"', "5.2 °C (5.2 to 5.2)", "dairy: 5.2 °C", "store.fridge.cool", "[[fridge]]"):
        assert words in done.stdout
    assert "1883" in done.stdout  # all that the doctor finds wrong is the broker that nobody has started


def test_its_entry_points_are_those_that_the_page_shows() -> None:
    shown = next(text for text in re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.S) if "entry-points" in text)
    project = tomllib.loads((ROOT / "tests" / "example_kind" / "pyproject.toml").read_text())["project"]
    assert tomllib.loads(shown)["project"]["entry-points"] == project["entry-points"]
