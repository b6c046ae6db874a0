"""The support bundle: what helps is in it, and nothing that identifies a stranger or opens a door."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.cli.support_bundle import redactor
from gateway.config import loads

NAMED, STRANGER = "c4:64:e3:00:00:01", "de:ad:be:ef:00:01"
SCANNER = f'[[scanner]]\nid = "ble"\ntags = [{{ tag = "cart", address = "{NAMED}" }}]\n'


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"heard {STRANGER} at -70", "heard [address] at -70"),
        (f"heard {STRANGER.upper().replace(':', '_')}", "heard [address]"),
        (f"heard {NAMED} and {NAMED.upper()}", f"heard {NAMED} and {NAMED.upper()}"),
        ("password=hunter2 next", "password=[secret] next"),
        ("Token: abc", "Token: [secret]"),
        ("password_file = /etc/gateway/broker.password", "password_file = /etc/gateway/broker.password"),
        ("mqtts://gw:hunter2@h:8883", "mqtts://[user]@h:8883"),
        ("at 2026-11-22T09:00:00.000Z door.passed", "at 2026-11-22T09:00:00.000Z door.passed"),
    ],
)
def test_redaction(text: str, redacted: str) -> None:
    assert redactor(loads(f'[site]\nstore = "1"\n{SCANNER}'))(text) == redacted


def test_a_bundle_is_made_without_a_daemon_and_without_an_outbox(write_configuration: Any, tmp_path: Path) -> None:
    path = write_configuration(SCANNER)
    bundle = tmp_path / "bundle.tar.gz"
    result = CliRunner().invoke(gateway, ["support-bundle", "--json", "--config", str(path), "--output", str(bundle)])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    with tarfile.open(bundle) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames()]
        assert names == told["contents"]
        status = archive.extractfile(next(name for name in archive.getnames() if name.endswith("status.json")))
        assert status is not None
        assert "no daemon runs" in json.load(status)["error"]


def test_a_place_that_cannot_be_written_is_a_sentence(write_configuration: Any, tmp_path: Path) -> None:
    arguments = ["support-bundle", "--config", str(write_configuration("")), "--output", str(tmp_path / "absent/x")]
    result = CliRunner().invoke(gateway, arguments)
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
