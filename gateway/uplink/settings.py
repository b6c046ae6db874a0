"""The `[broker]` table: where to send, as whom, and within which limits (contract section 6).

Law: a value that cannot work is refused when it is built, with a sentence that names the key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Le

from gateway.units import Bytes, Seconds

Scheme = Literal["mqtt", "mqtts", "ws", "wss"]
PORTS: dict[str, int] = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
INFLIGHT_BYTES_MIN = 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address, taken apart; `path` is for WebSockets."""

    scheme: Scheme
    host: str
    port: int
    path: str = "/mqtt"

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("mqtts", "wss")

    @property
    def is_websocket(self) -> bool:
        return self.scheme in ("ws", "wss")

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read `mqtts://host:8883`; ValueError says what is allowed."""
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"the port of {url!r} must be a number from 1 to 65535") from error
        if scheme not in PORTS or not parts.hostname:
            raise ValueError(
                "write mqtt://, mqtts://, ws:// or wss:// and a host, for example mqtts://mqtt.example.com"
            )
        if parts.username is not None or parts.password is not None:
            raise ValueError("no user or password in the address: use username and password_file")
        if parts.query or parts.fragment or (scheme in ("mqtt", "mqtts") and parts.path not in ("", "/")):
            raise ValueError(f"nothing may follow host and port in {url!r}")
        if port == 0:
            raise ValueError(f"the port of {url!r} must be a number from 1 to 65535")
        path = parts.path or "/mqtt"
        return cls(scheme, parts.hostname, port or PORTS[scheme], path)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to reach the broker. `url` None: nothing is sent (replay, diagnose)."""

    url: str | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_id: str | None = None
    """Default: `{store}.{gateway}`."""
    profile: Literal["generic", "aws-iot", "azure-event-grid", "hivemq-cloud", "emqx-cloud"] = "generic"
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: Annotated[Seconds, Ge(1), Le(65_535)] = 30
    reconnect_max_s: Annotated[Seconds, Ge(2), Le(86_400)] = 300
    inflight_max: Annotated[int, Ge(1), Le(65_535)] = 100
    inflight_bytes_max: Literal["adaptive"] | Bytes = "adaptive"
    resync: Literal["live-first", "in-order"] = "live-first"
    backfill_compression: Literal["none", "gzip"] = "none"
    topic_prefix: str = "stores"

    def __post_init__(self) -> None:
        if self.url is not None:
            Endpoint.parse(self.url)
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username beside it")
        if self.inflight_bytes_max != "adaptive" and self.inflight_bytes_max < INFLIGHT_BYTES_MIN:
            raise ValueError(f'inflight_bytes_max must be "adaptive" or at least {INFLIGHT_BYTES_MIN} bytes')
        segments = self.topic_prefix.split("/")
        if not all(s and s.isascii() and s.replace("-", "").replace("_", "").isalnum() for s in segments):
            raise ValueError("topic_prefix must be segments of A-Z a-z 0-9 _ - joined by /")
