"""The facts under `hardware/`: each file is read, each pin exists, nothing is wired twice, each fact has a source."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from gpiozero.pins.pi import PiBoardInfo

from gateway.machine import header
from gateway.sensors import kinds
from scripts.drawings import drawings, parts_of

ROOT = Path(__file__).resolve().parent.parent
HARDWARE = ROOT / "hardware"
BOARDS = sorted((HARDWARE / "boards").glob("*.toml"))
SENSORS = sorted((HARDWARE / "sensors").glob("*.toml"))
WIRINGS = sorted((HARDWARE / "wiring").glob("*.md"))
DRAWN = sorted((HARDWARE / "wiring").glob("*.toml"))
DRAWINGS = sorted((HARDWARE / "wiring").glob("*.svg"))
RECORDINGS = sorted((HARDWARE / "recordings").glob("*.jsonl"))
HEADER = tomllib.loads((HARDWARE / "header.toml").read_text())
PINS = {pin["pin"]: pin for pin in HEADER["pins"]}


def stem(path: Path) -> str:
    return path.stem


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def signal(pin: dict[str, Any]) -> str:
    """Return what stands beside a pin in a drawing: `3V3`, `GND` or `GPIO17`."""
    return f"GPIO{pin['bcm']}" if "bcm" in pin else str(pin["power"])


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of the one table of a wiring note."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text().splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["pin", "signal", "goes to", "wire"], path.name
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def configured(path: Path) -> dict[str, Any]:
    """Return the configuration that a wiring note gives with its drawing."""
    found = re.findall(r"^```toml\n(.*?)^```", path.read_text(), re.M | re.S)
    assert len(found) == 1, path.name
    return tomllib.loads(found[0])


def every_file() -> list[Path]:
    return [path for path in sorted(HARDWARE.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("path", every_file(), ids=lambda path: path.relative_to(HARDWARE).as_posix())
def test_every_file_is_of_a_kind_that_is_checked(path: Path) -> None:
    checked = {*BOARDS, *SENSORS, *WIRINGS, *DRAWN, *DRAWINGS, *RECORDINGS}
    single = {HARDWARE / name for name in ("header.toml", "materials.toml", "wheels.toml", "README.md")}
    assert path in checked | single
    assert path.read_text().strip()


def test_header_has_its_forty_pins_and_each_gpio_once() -> None:
    assert [pin["pin"] for pin in HEADER["pins"]] == list(range(1, 41))
    assert sorted(pin["bcm"] for pin in HEADER["pins"] if "bcm" in pin) == list(range(28))
    powers = [pin["power"] for pin in HEADER["pins"] if "power" in pin]
    assert {power: powers.count(power) for power in powers} == {"3V3": 2, "5V": 2, "GND": 8}
    assert HEADER["sources"]
    for pin in HEADER["pins"]:
        assert ("bcm" in pin) != ("power" in pin)
        assert "bcm" not in pin or (pin["usual"] and pin["pull"] in ("up", "down"))


def test_four_boards_are_known() -> None:
    assert {stem(path) for path in BOARDS} == {"pi-zero-2-w", "pi-3", "pi-4", "pi-5"}


@pytest.mark.parametrize("path", BOARDS, ids=stem)
def test_header_is_the_one_that_gpiozero_knows_for_the_board(path: Path) -> None:
    for revision_type in read(path)["revision_types"]:
        board = PiBoardInfo.from_revision(0xA00000 | revision_type << 4)
        theirs = {pin.number: pin.name for pin in board.headers["J8"].pins.values()}
        assert theirs == {number: signal(pin) for number, pin in PINS.items()}


@pytest.mark.parametrize("path", BOARDS, ids=stem)
def test_board_says_what_each_gpio_can_be(path: Path) -> None:
    board = read(path)
    assert board["header"] == "header.toml"
    assert board["sources"]
    assert board["models"]
    assert board["gpiochip"]["device"] == "/dev/gpiochip0"
    functions = {int(bcm): names for bcm, names in board["functions"].items()}
    assert sorted(functions) == list(range(28))
    for bcm, names in functions.items():
        assert len(names) == len(set(names)), f"GPIO{bcm}"
        for name in names:
            assert re.fullmatch(
                r"(I2C|SPI|UART|PWM|PCM|GPCLK)\d*( (SDA|SCL|MOSI|MISO|SCLK|CE\d|TXD|RXD|CTS|RTS|CLK|FS|DIN|DOUT))?",
                name,
            )


@pytest.mark.parametrize("path", BOARDS, ids=stem)
def test_buses_of_a_board_lie_where_its_functions_say(path: Path) -> None:
    board = read(path)
    for number, bus in board["spi"].items():
        for line in ("mosi", "miso", "sclk", "ce0"):
            assert f"SPI{number} {line.upper()}" in board["functions"][str(bus[line])]
        assert bus["enable"].startswith(("dtparam=spi", f"dtoverlay=spi{number}-"))


@pytest.mark.parametrize("path", BOARDS, ids=stem)
def test_usual_use_in_the_header_holds_for_every_board(path: Path) -> None:
    functions = read(path)["functions"]
    for pin in PINS.values():
        for usual in re.findall(r"(?:SPI\d|I2C1) \w+", pin.get("usual", "")):
            assert usual in functions[str(pin["bcm"])], f"pin {pin['pin']}"


@pytest.mark.parametrize("path", SENSORS, ids=stem)
def test_every_fact_of_a_sensor_names_its_source(path: Path) -> None:
    profile = read(path)
    assert profile["id"] == path.stem
    assert profile["name"]
    assert profile["examples"]
    references = profile["references"]
    assert all(reference["title"] and reference["how"] for reference in references.values())
    facts = profile["facts"] | profile.get("spi", {})
    assert facts
    for name, fact in facts.items():
        assert {"is", "of"} <= set(fact) <= {"is", "of", "at", "why"}, name
        assert fact["of"] in references, f"{name}: no reference {fact['of']}"
    assert set(references) == {fact["of"] for fact in facts.values()}, "a reference that no fact names"


def test_kinds_of_the_profiles_are_kinds_of_sensors() -> None:
    assert {read(path)["kind"] for path in SENSORS} == {kind.table for kind in kinds()}


def test_hx711_frames_have_the_pulses_that_they_claim() -> None:
    profile = read(HARDWARE / "sensors/hx711.toml")
    for gain, pulses in (
        ("gain_128", profile["facts"]["pulses_channel_a_gain_128"]["is"]),
        ("gain_32", profile["facts"]["pulses_channel_b_gain_32"]["is"]),
        ("gain_64", profile["facts"]["pulses_channel_a_gain_64"]["is"]),
    ):
        bits = "".join(f"{byte:08b}" for byte in profile["spi"][f"bytes_{gain}"]["is"])
        assert len(re.findall("10", bits)) == pulses, gain
        assert "11" not in bits, "a pulse of two bits would be twice as long"
        assert bits.endswith("0"), "the clock must rest low"
    high_us = 1e6 / profile["spi"]["hertz"]["is"]
    assert profile["facts"]["clock_high_us_min"]["is"] < high_us < profile["facts"]["clock_high_us_max"]["is"]
    assert 1e6 / profile["spi"]["hertz_min"]["is"] <= profile["facts"]["clock_high_us_max"]["is"]


@pytest.mark.parametrize("path", [path for path in SENSORS if read(path)["kind"] == "scanner"], ids=stem)
def test_beacon_tells_its_interval_and_an_example(path: Path) -> None:
    facts = read(path)["facts"]
    assert bytes.fromhex(facts["example"]["is"])
    intervals = facts["interval_ms"]["is"]
    assert all(20 <= interval <= 60_000 for interval in (intervals if isinstance(intervals, list) else [intervals]))
    assert "measured_power_dbm" in facts or "path_loss_db_0_to_1_m" in facts


@pytest.mark.parametrize("path", WIRINGS, ids=stem)
def test_wiring_names_pins_of_the_header_and_none_twice(path: Path) -> None:
    rows = table(path)
    numbers = [int(row["pin"]) for row in rows]
    assert len(numbers) == len(set(numbers)), "a pin is used twice"
    for row in rows:
        assert row["signal"] == signal(PINS[int(row["pin"])])
    assert "GND" in [row["signal"] for row in rows]


@pytest.mark.parametrize("path", WIRINGS, ids=stem)
def test_drawing_and_table_show_the_same_pins(path: Path) -> None:
    drawing = re.findall(r"^```\n(.*?)^```", path.read_text(), re.M | re.S)
    assert len(drawing) == 1
    drawn = {
        (int(number), name) for number, name in re.findall(r"(?<!\d)(\d{1,2})  ?(GPIO\d+|3V3|5V|GND)\b", drawing[0])
    }
    drawn |= {(int(number), name) for name, number in re.findall(r"(GPIO\d+|3V3|5V|GND) +(\d{1,2}) \|", drawing[0])}
    assert drawn == {(int(row["pin"]), row["signal"]) for row in table(path)}


@pytest.mark.parametrize("path", WIRINGS, ids=stem)
def test_configuration_beside_a_drawing_uses_the_pins_of_the_drawing(path: Path) -> None:
    wired = {int(row["signal"][4:]) for row in table(path) if row["signal"].startswith("GPIO")}
    sensors = [sensor for sensors in configured(path).values() for sensor in sensors]
    named = [value for sensor in sensors for key, value in sensor.items() if key.endswith("_pin")]
    for sensor in sensors:
        if "bus" in sensor:
            for board in map(read, BOARDS):
                bus = board["spi"][str(sensor["bus"])]
                assert {bus["mosi"], bus["miso"], bus["sclk"], bus["ce0"]} == wired
            named += sorted(wired)
    assert sorted(named) == sorted(wired)


@pytest.mark.parametrize("path", [path for path in WIRINGS if "HX711" in path.read_text()], ids=stem)
def test_converter_speaks_3_3_volts(path: Path) -> None:
    supply = {
        row["signal"]: row["goes to"] for row in table(path) if row["signal"] in ("3V3", "5V") and "V" in row["goes to"]
    }
    assert any("VDD (logic)" in to for to in (row["goes to"] for row in table(path) if row["signal"] == "3V3"))
    assert not any("VDD (logic)" in row["goes to"] for row in table(path) if row["signal"] == "5V")
    assert supply
    assert "3.3 V rule" in path.read_text()


def test_every_wiring_is_drawn_and_every_drawing_is_current() -> None:
    found = dict(drawings())
    assert [path.stem for path in DRAWN] == [path.stem for path in WIRINGS]
    assert sorted(found) == DRAWINGS
    for path, text in found.items():
        assert path.read_text() == text, f"{path.name} is not current: run scripts/drawings.py"


@pytest.mark.parametrize("path", DRAWN, ids=stem)
def test_drawing_wires_the_pins_of_the_table(path: Path) -> None:
    rows = {int(row["pin"]): row for row in table(path.with_suffix(".md"))}
    _, parts, _ = parts_of(path)
    terminals = [terminal for part in parts for terminal in part.terminals]
    assert sorted(terminal.pin for terminal in terminals) == sorted(rows)
    for terminal in terminals:
        row = rows[terminal.pin]
        assert (terminal.wire is None) == row["goes to"].startswith("nothing"), f"pin {terminal.pin}"
        assert row["wire"] in (terminal.wire, "-"), f"pin {terminal.pin}"


def test_drawn_header_is_the_one_of_the_table() -> None:
    assert [header.signal(number) for number in range(1, 41)] == [signal(PINS[number]) for number in range(1, 41)]


def test_no_wire_crosses_a_pin_and_each_ends_at_its_terminal() -> None:
    text = header.drawing("<&>", [header.Part("p", tuple(header.Terminal("t", pin, "blue") for pin in range(1, 41)))])
    root = ElementTree.fromstring(text)
    paths = [path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path")]
    assert len(set(paths)) == 40
    lanes = [int(re.findall(r"V (\d+) H", path)[0]) for path in paths if " V " in path]
    rows = {header.TOP + row * header.PITCH for row in range(20)}
    assert all(min(abs(lane - row) for row in rows) > header.PIN // 2 for lane in lanes)
    for wrong in ({"pin": 41, "wire": "blue"}, {"pin": 1, "wire": "plaid"}):
        with pytest.raises(ValueError, match="found"):
            header.Terminal("t", **wrong)  # type: ignore[arg-type]


def test_materials_say_what_they_are_for() -> None:
    parts = read(HARDWARE / "materials.toml")["part"]
    assert {part["belongs_to"] for part in parts} == {"gateway", "door", "shelf", "beacon", "tools"}
    for part in parts:
        assert part.keys() == {"name", "belongs_to", "count", "why"}
        assert part["name"]
        assert part["why"]
        assert part["count"] >= 0
    told = " ".join(part["name"] for part in parts)
    for named in re.findall(r"sensors/[\w-]+\.toml", told):
        assert (HARDWARE / named).is_file()


def test_wheels_cover_what_is_pinned() -> None:
    wheels = read(HARDWARE / "wheels.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ("pi", "bthome", "bleak", "tui", "demo")
    pins = {"direct": project["dependencies"], **{extra: project["optional-dependencies"][extra] for extra in extras}}
    for group, requirements in pins.items():
        pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(requirements), re.M))
        assert {name: row["version"] for name, row in wheels[group].items()} == pinned
    ours = {name: row for group in pins for name, row in wheels[group].items()}
    for name, row in (ours | wheels["brought"]).items():
        assert len(row["is"]) == len(wheels["targets"]), name
        assert set(row["is"]) <= {"pure", "wheel", "build", "none"}, name
        assert row["by"] in ("index", "installed", "read"), name
        assert ("build" in row["is"]) == ("needs" in row), name
        assert ("none" in row["is"]) == ("instead" in row), name
    assert all(row["for"] in ours for row in wheels["brought"].values())


@pytest.mark.parametrize("path", RECORDINGS, ids=stem)
def test_recording_is_as_the_contract_says(path: Path) -> None:
    first, *lines = (json.loads(line) for line in path.read_text().splitlines())
    assert first["recording"] == 1
    assert datetime.fromisoformat(first["started"]).tzinfo is not None
    assert first["note"], "a recording in the repository says what it shows"
    assert lines
    before = 0.0
    for line in lines:
        assert line["t"] >= before
        before = line["t"]
        if "clock" in line:
            assert line.keys() == {"t", "clock", "by_s"}
        elif "beam" in line:
            assert line["beam"] in ("outer", "inner", "only")
            assert isinstance(line["broken"], bool)
        elif "counts" in line:
            assert -(2**23) <= line["counts"] < 2**23
        else:
            assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", line["address"])
            assert line["address_type"] in ("public", "random")
            bytes.fromhex(line["payload"])
