"""The verbs at a running daemon: it keeps the hardware, hands out its readings, and weighs anew without a restart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import gateway
from gateway.config import load
from gateway.control.asking import ask
from gateway.errors import Unavailable
from tests.daemon import Consumer, Shop, stop, wait_for
from tests.technician.shelves import SHELF_TOML, recording, scale_lines
from tests.uplink.brokers import free_port, mosquitto

FOURTH_TOML = SHELF_TOML.replace("aisle-3", "aisle-4").replace("5", "22").replace("6", "23")
BEAM_TOML = '[[door]]\nid = "side"\nbeam_pin = 4\n'
UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
PAYLOAD = "0201061aff4c000215" + UUID.replace("-", "") + "00010002c5"


@contextmanager
def running(shop: Shop, lines: list[dict[str, Any]], speed: str = "10") -> Iterator[subprocess.Popen[str]]:
    process = shop.run("--recording", shop.recording(recording(lines)), "--speed", speed, "--stay")
    try:
        wait_for(lambda: answers(shop), what="the daemon")
        yield process
        assert stop(process)[0] == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def answers(shop: Shop) -> bool:
    try:
        return bool(ask(load([shop.config]), "ping"))
    except Unavailable:
        return False


def invoke(shop: Shop, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(gateway, [arguments[0], "--config", str(shop.config), *arguments[1:]], input=typed)


def faults(shop: Shop, shelf: str = "aisle-3") -> set[str]:
    return set(ask(load([shop.config]), "status")["sensors"][shelf]["faults"])


def dead_broker() -> str:
    return f"mqtt://127.0.0.1:{free_port()}"


def test_calibrate_tare_and_undo_take_force_at_once_and_after_a_restart(tmp_path: Path) -> None:
    shop = Shop(tmp_path, dead_broker(), SHELF_TOML + FOURTH_TOML)
    with running(shop, scale_lines([(0, 25), (1000, 15), (2000, 200)])):
        wait_for(lambda: faults(shop), what="a sample")
        assert faults(shop) == {"not_calibrated"}
        typed = "\n1000\n\nheavy\n2000\n\n\ny\n"  # empty; a mass, put on; no mass, a mass, put on; no more; use it
        done = invoke(shop, "calibrate", "aisle-3", "--for", "15s", "--json", typed=typed)
        assert done.exit_code == 0, done.output
        held = json.loads(done.stdout)
        assert held["in_force"]["counts_per_gram"] == pytest.approx(21.5, rel=1e-3)
        assert held["stored"]["r2"] > 0.9999
        assert not faults(shop)
        stored = json.loads((tmp_path / "calibration" / "aisle-3.json").read_text())
        assert stored["points"][2]["grams"] == 2000
        watched = json.loads(invoke(shop, "watch", "aisle-3", "--for", "1s", "--json").stdout)
        assert watched["sensors"]["aisle-3"]["grams"] == pytest.approx(2000, abs=8)
        declined = invoke(shop, "tare", "aisle-3", typed="\nn\n")
        assert (declined.exit_code, "nothing has changed" in declined.stderr) == (1, True)
        assert json.loads((tmp_path / "calibration" / "aisle-3.json").read_text()) == stored
        tared = invoke(shop, "tare", "aisle-3", "--yes", "--json")
        assert json.loads(tared.stdout)["moved_grams"] == pytest.approx(2000, abs=3)
        back = json.loads(invoke(shop, "calibrate", "aisle-3", "--undo", "--yes", "--json").stdout)
        assert back["in_force"] == held["in_force"]
    (tmp_path / "calibration" / "aisle-4.json").write_text("{torn")
    with running(shop, [*scale_lines([(0, 5)]), *scale_lines([(0, 5)], sensor="aisle-4")]):
        wait_for(lambda: faults(shop, "aisle-4"), what="a sample")
        assert faults(shop, "aisle-4") == {"not_calibrated"}
        assert not faults(shop)
        assert "is damaged" in ask(load([shop.config]), "calibration", shelf="aisle-4")["damaged"]


def test_commission_and_diagnose_listen_to_what_the_daemon_reads(tmp_path: Path) -> None:
    calibration = "calibration = { offset_counts = 84213, counts_per_gram = 21.5 }\n"
    shop = Shop(tmp_path, dead_broker())
    shop.config.write_text(shop.config.read_text().split("[[door]]")[0] + SHELF_TOML + calibration + BEAM_TOML)
    shop.config.write_text(
        shop.config.read_text()
        + f'[[scanner]]\nid = "ble"\ntags = [{{ tag = "staff", ibeacon = {{ uuid = "{UUID}" }} }}]\n'
    )
    lines = scale_lines([(300, 20), (1300, 12), (300, 300)])
    for second in range(0, 360, 4):
        lines.append({"t": second, "sensor": "side", "beam": "only", "broken": True})
        lines.append({"t": second + 0.3, "sensor": "side", "beam": "only", "broken": False})
        tag = {"address": "c4:64:e3:00:00:01", "address_type": "random", "rssi_dbm": -48, "payload": PAYLOAD}
        lines.append({"t": second + 0.5, "sensor": "ble", **tag})
    report = tmp_path / "acceptance.json"
    with running(shop, lines):
        done = invoke(shop, "commission", "--yes", "--for", "10s", "--output", str(report), "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(report.read_text())
        assert told["result"] == "accepted"
        assert [len(sensor["acts"]) for sensor in told["sensors"]] == [3, 1, 1]
        again = invoke(shop, "commission", "--yes", "--for", "1s", "--output", str(report))
        assert (again.exit_code, again.stderr.count("accepted on")) == (0, 3)
        judged = json.loads(invoke(shop, "diagnose", "aisle-3", "--for", "1s", "--json").stdout)
        assert (judged["result"], judged["source"]) == ("ok", "daemon")
        assert judged["readings"] > 50


def test_the_cloud_tares_a_scale_at_rest_and_is_told_what_cannot_be(tmp_path: Path) -> None:
    calibration = "calibration = { offset_counts = 84213, counts_per_gram = 21.5 }\n"
    with mosquitto(tmp_path) as broker:
        shop = Shop(tmp_path, broker.url, '[commands]\nallow = ["tare"]\n' + SHELF_TOML + calibration)
        with Consumer(broker.port) as consumer, running(shop, scale_lines([(40, 300)])):
            wait_for(lambda: consumer.states() and consumer.states()[-1]["state"] == "online", what="the link")
            done = consumer.order("tare", b'{"shelf": "aisle-3"}')
            assert done["ok"] is True
            assert done["result"]["moved_grams"] == pytest.approx(40, abs=3)
            held = ask(load([shop.config]), "calibration", shelf="aisle-3")
            assert held["in_force"]["offset_counts"] == done["result"]["offset_counts"]
            assert held["stored"]["who"] == "cloud"
            for payload, code in (
                (b'{"shelf": "aisle-9"}', "invalid"),
                (b"{}", "invalid"),
                (b'{"shelf": 3}', "invalid"),
            ):
                assert consumer.order("tare", payload)["error"]["code"] == code


@pytest.mark.skipif(any(Path("/dev").glob("gpiochip*")), reason="this machine has pins")
def test_a_failed_sensor_is_shown_with_the_same_sentence_by_every_verb(tmp_path: Path) -> None:
    shop = Shop(tmp_path, dead_broker(), BEAM_TOML)
    process = shop.run()
    try:
        wait_for(lambda: answers(shop), what="the daemon")
        wait_for(lambda: faults(shop, "side"), what="the fault")
        known = ask(load([shop.config]), "status")["sensors"]["side"]["faults"]
        sentence = known["pin_unavailable" if "pin_unavailable" in known else next(iter(known))]["detail"]
        assert len(sentence.split()) > 3
        report = ("--output", str(tmp_path / "report.json"))
        for verb in (
            ("status",),
            ("sensors",),
            ("diagnose", "side", "--for", "0.1s"),
            ("commission", "side", "--yes", "--for", "0.1s", *report),
            ("watch", "side", "--for", "1s"),
        ):
            shown = " ".join(invoke(shop, *verb).output.split())
            if verb[0] == "commission":
                shown = " ".join((tmp_path / "report.md").read_text().split())
            assert sentence in shown, verb
        assert stop(process)[0] == 0
    finally:
        process.kill()
        process.communicate()
