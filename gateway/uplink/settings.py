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
PROXY_PORTS: dict[str, int] = {"http": 3128, "socks5": 1080}
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

    @property
    def is_this_machine(self) -> bool:
        """True for a broker on the gateway itself, which no other gateway waits for."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def has_default_port(self) -> bool:
        return self.port == PORTS[self.scheme]

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
class Proxy:
    """A proxy on the way to the broker. It looks the broker's name up itself."""

    scheme: Literal["http", "socks5"]
    host: str
    port: int
    username: str | None = None

    @classmethod
    def parse(cls, url: str, username: str | None = None) -> Proxy:
        """Read `http://host:3128` or `socks5://host:1080`; ValueError says what is allowed."""
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"the port of {url!r} must be a number from 1 to 65535") from error
        if scheme not in PROXY_PORTS or not parts.hostname or port == 0:
            raise ValueError("write the proxy as http://host:3128 or socks5://host:1080")
        if parts.username is not None or parts.password is not None:
            raise ValueError("no user or password in the proxy's address: use proxy_username and proxy_password_file")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"nothing may follow host and port in {url!r}")
        return cls(scheme, parts.hostname, port or PROXY_PORTS[scheme], username)  # type: ignore[arg-type]


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
    discovery: Literal["none", "home-assistant"] = "none"
    """Whether Home Assistant is told what there is to see."""
    proxy: str | None = None
    """`http://host:3128` or `socks5://host:1080`; without it the way is direct."""
    proxy_username: str | None = None
    proxy_password_file: Path | None = None

    @property
    def via(self) -> Proxy | None:
        """The proxy, taken apart."""
        return None if self.proxy is None else Proxy.parse(self.proxy, self.proxy_username)

    def __post_init__(self) -> None:
        if self.proxy is None and (self.proxy_username is not None or self.proxy_password_file is not None):
            raise ValueError("proxy_username and proxy_password_file need proxy beside them")
        if self.proxy_password_file is not None and self.proxy_username is None:
            raise ValueError("proxy_password_file needs proxy_username beside it")
        if self.proxy_username is not None and not 1 <= len(self.proxy_username.encode()) <= 255:
            raise ValueError("proxy_username must have 1 to 255 bytes")
        if self.proxy is not None:
            Proxy.parse(self.proxy)
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
