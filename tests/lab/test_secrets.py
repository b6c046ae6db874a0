"""The broker's password reaches the service alone: root keeps it, systemd hands it over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon import Consumer
from tests.lab.prepared import installed, woken
from tests.lab.shop import Shop
from tests.uplink.brokers import mosquitto

pytestmark = pytest.mark.lab

USER, WORD = "gw-0042", "open sesame"
HANDED = "/run/credentials/gateway.service/secrets_broker.password"


@pytest.mark.core
def test_password_that_only_root_may_read_opens_the_broker(lab: None, tmp_path: Path) -> None:
    with (
        woken(installed()) as machine,
        mosquitto(tmp_path, users={USER: WORD}, extra=("allow_anonymous true",)) as broker,
        Consumer(broker.port) as consumer,
    ):
        front = Shop(machine, broker, consumer, more=f'username = "{USER}"\npassword_file = "{HANDED}"')
        machine.put("/etc/gateway/secrets/broker.password", WORD + "\n")
        machine.sh("chmod 600 /etc/gateway/secrets/broker.password")
        front.open()
        assert machine.try_run("runuser -u gateway -- cat /etc/gateway/secrets/broker.password").status != 0
        assert machine.sh(f"runuser -u gateway -- cat {HANDED}").strip() == WORD
        assert machine.try_run(f"runuser -u nobody -- cat {HANDED}").status != 0
        front.walk("in")
        front.expect("door.passed")


def test_service_starts_without_secrets_and_without_their_folder(front: Shop) -> None:
    front.machine.sh("rm -rf /etc/gateway/secrets")
    front.open()
    front.walk("in")
    front.expect("door.passed")
