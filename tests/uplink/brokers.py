"""mosquitto on a free loopback port with a configuration of its own, and certificates made in the test.

`with mosquitto(tmp_path) as broker:` starts it and ends it by its own process id. A test that needs it is skipped, by
name, where the program is missing.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

READY_S = 5.0
DAY = datetime.timedelta(days=1)


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Authority:
    """A certificate authority in a directory: `ca.pem`, and what it signs."""

    directory: Path
    name: str = "test authority"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.ca_file = self.directory / "ca.pem"
        self._subject = subject
        built = (
            self._builder(subject, self.key, -DAY, 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        self.ca_file.write_bytes(built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime.timedelta, end: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
        )

    def sign(
        self,
        name: str,
        host: str = "127.0.0.1",
        start: datetime.timedelta = -DAY,
        end: datetime.timedelta = DAY,
    ) -> tuple[Path, Path]:
        """Return the files of a certificate for `host` (address or name) and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName]
        try:
            names = [x509.IPAddress(ipaddress.ip_address(host))]
        except ValueError:
            names = [x509.DNSName(host)]
        built = (
            self._builder(subject, key, start, end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        cert_file = self.directory / f"{name}.pem"
        key_file = self.directory / f"{name}.key"
        cert_file.write_bytes(built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file


@dataclass
class Mosquitto:
    """A running broker. `url` is how to reach it."""

    port: int
    url: str
    log_file: Path
    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it takes connections."""
        log = self.log_file.open("ab")
        program = shutil.which("mosquitto")
        assert program is not None
        self.process = subprocess.Popen([program, "-c", str(self.config)], stdout=log, stderr=log)
        log.close()
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, self.log_file.read_text()
            time.sleep(0.01)
        raise AssertionError(f"mosquitto did not start: {self.log_file.read_text()}")

    def kill(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal and wait."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(5)
            self.process = None

    def freeze(self) -> None:
        """Half open: the kernel answers, the broker does not."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def mosquitto(
    directory: Path,
    *,
    tls: tuple[Path, Path] | None = None,
    ca_file: Path | None = None,
    users: dict[str, str] | None = None,
    extra: tuple[str, ...] = (),
    port: int | None = None,
) -> Iterator[Mosquitto]:
    """Run mosquitto in `directory`. `tls` is certificate and key; `ca_file` makes client certificates required."""
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not on the PATH")
    port = free_port() if port is None else port
    lines = ["persistence false", "log_type all", "set_tcp_nodelay true", f"listener {port} 127.0.0.1"]
    if os.getuid() == 0:
        lines.insert(0, "user root")
    if tls is not None:
        lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
    if ca_file is not None:
        lines += [f"cafile {ca_file}", "require_certificate true"]
    if users is not None:
        passwords = directory / "passwords"
        passwords.write_text("".join(f"{name}:{word}\n" for name, word in users.items()))
        passwords.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        lines += ["allow_anonymous false", f"password_file {passwords}"]
    else:
        lines += ["allow_anonymous true"]
    config = directory / f"mosquitto-{port}.conf"
    config.write_text("\n".join([*lines, *extra]) + "\n")
    broker = Mosquitto(
        port, f"{'mqtts' if tls else 'mqtt'}://127.0.0.1:{port}", directory / f"mosquitto-{port}.log", config
    )
    broker.start()
    try:
        yield broker
    finally:
        if broker.process is not None:
            broker.process.send_signal(signal.SIGCONT)
            broker.kill(signal.SIGKILL)
