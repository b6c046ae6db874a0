"""A whole support bundle where each of its files would carry a secret: the daemon's answer, the doctor, the outbox."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import gateway, outbox_at_rest
from gateway.config import load
from gateway.control.serving import ControlServer
from gateway.technician import doctor

PASSWORD, STRANGER, NAMED = "hunter2-tulip", "de:ad:be:ef:00:01", "c4:64:e3:00:00:01"
FORMS = (PASSWORD, STRANGER, STRANGER.upper().replace(":", "_"), STRANGER.replace(":", ""))
SPILT = {
    "plain": f"it said {PASSWORD} of {STRANGER}",
    "deep": [{"device": f"/org/bluez/hci0/dev_{STRANGER.upper().replace(':', '_')}"}],
    "password": PASSWORD,
    "hex": f"payload of {STRANGER.replace(':', '')}",
    "named": f"the cart {NAMED}",
    STRANGER: 1,
}


def test_nothing_spilt_into_any_file_leaves_in_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[site]\nstore = "1"\n[broker]\nurl = "mqtts://127.0.0.1:9"\nusername = "gw"\n'
        f'password_file = "{tmp_path}/password"\n[outbox]\ndirectory = "{tmp_path}/outbox"\n'
        f'[[scanner]]\nid = "ble"\ntags = [{{ tag = "cart", address = "{NAMED}" }}]\n'
    )
    (tmp_path / "outbox").mkdir()
    journal = tmp_path / "bin/journalctl"
    journal.parent.mkdir()
    journal.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(SPILT)}\n{SPILT['plain']}\nEND\n")
    journal.chmod(0o755)
    monkeypatch.setenv("PATH", f"{journal.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(doctor, "examine", lambda configuration: {"checks": [SPILT], "result": "ok"})
    monkeypatch.setattr(outbox_at_rest, "outbox_at_rest", lambda *given: (dict(SPILT), {}))
    server = ControlServer(load([config]), lambda verb, arguments: dict(SPILT))
    server.start()
    try:
        words = ["support-bundle", "--config", str(config), "--output", str(tmp_path / "bundle.tar.gz")]
        assert CliRunner().invoke(gateway, words).exit_code == 0
    finally:
        server.close()
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            text, name = file.read().decode(), member.name.rpartition("/")[2]
            assert not [form for form in FORMS if form in text], name
            if name in ("status.json", "doctor.json", "outbox.json", "log.txt"):
                assert f"the cart {NAMED}" in text, f"{name} is there, and what a rule names stays"
