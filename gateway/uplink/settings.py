"""The `[broker]` table: where to send, as whom, and within which limits (contract section 6).

Law: a value that cannot work is refused when it is built, with a sentence that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Le

from gateway.units import Bytes, Seconds
from gateway.wrong import Wrong, refuse

Scheme = Literal["mqtt", "mqtts", "ws", "wss"]
PORTS: dict[str, int] = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
PROXY_PORTS: dict[str, int] = {"http": 3128, "socks5": 1080}
INFLIGHT_BYTES_MIN = 1024
SCHEMES = ("mqtts", "mqtt", "wss", "ws")
LIKELY_SCHEMES = {
    "https": "wss is MQTT over HTTPS",
    "http": "ws is MQTT over HTTP",
    "ssl": "write mqtts",
    "tcp": "write mqtt",
}
URL_EXAMPLE = '"mqtts://mqtt.example.com:8883"'
NO_PORT = "the port is not a number from 1 to 65535"
MQTT_TEXT_BYTES_MAX = 65_535
"""MQTT 5, section 1.5.4."""
TOPIC_PREFIX = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


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
        """Read `mqtts://host:8883`; ValueError says what is wrong with it."""
        for why, advice in url_wrong(url):
            raise ValueError(f"{why}; {advice}" if advice else why)
        parts = urlsplit(url)
        assert parts.hostname is not None
        scheme: Scheme = parts.scheme  # type: ignore[assignment]
        return cls(scheme, parts.hostname, parts.port or PORTS[scheme], parts.path or "/mqtt")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy on the way to the broker. It looks the broker's name up itself."""

    scheme: Literal["http", "socks5"]
    host: str
    port: int
    username: str | None = None

    @classmethod
    def parse(cls, url: str, username: str | None = None) -> Proxy:
        """Read `http://host:3128` or `socks5://host:1080`; ValueError says what is wrong with it."""
        for why in proxy_wrong(url):
            raise ValueError(why)
        parts = urlsplit(url)
        assert parts.hostname is not None
        return cls(parts.scheme, parts.hostname, parts.port or PROXY_PORTS[parts.scheme], username)  # type: ignore[arg-type]


def url_wrong(url: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a broker's address, and what to do about it."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        yield (NO_PORT if "ort" in str(error) else str(error)), ""
        return
    if parts.scheme not in PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        why = "the scheme is not known" if "://" in url else "there is no scheme"
        yield why, LIKELY_SCHEMES.get(parts.scheme, "")
        return
    if parts.username is not None or parts.password is not None:
        yield "a user name stands in it", "write username = ... and password_file = ... instead"
    if not host or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
        yield ("the host is not one" if host else "there is no host in it"), ""
    if port == 0:
        yield NO_PORT, ""
    if parts.scheme in ("mqtt", "mqtts") and parts.path.strip("/"):
        yield "a path stands in it", "only ws and wss have a path"
    if parts.query or parts.fragment:
        yield "something follows host, port and path", "take away what stands after ? or #"


def proxy_wrong(url: str) -> Iterator[str]:
    """Yield what is wrong with a proxy's address."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        yield NO_PORT if "ort" in str(error) else str(error)
        return
    if parts.scheme not in PROXY_PORTS or not host or port == 0:
        yield "write the proxy as http://host:3128 or socks5://host:1080"
    elif parts.username is not None or parts.password is not None:
        yield "no user or password in the proxy's address: use proxy_username and proxy_password_file"
    elif parts.path not in ("", "/") or parts.query or parts.fragment:
        yield "nothing may follow host and port"


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//...@", url)  # it must not reach a log


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
    """Whether the sensors are announced to Home Assistant."""
    proxy: str | None = None
    """`http://host:3128` or `socks5://host:1080`; without it the way is direct."""
    proxy_username: str | None = None
    proxy_password_file: Path | None = None

    @property
    def via(self) -> Proxy | None:
        """The proxy, taken apart."""
        return None if self.proxy is None else Proxy.parse(self.proxy, self.proxy_username)

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if self.url is not None:
            words = f"{', '.join(SCHEMES)}, then :// and a host, such as {URL_EXAMPLE}"
            for why, advice in url_wrong(self.url):
                yield Wrong("url", why, words, advice, instead=_without_password(self.url))
        if not TOPIC_PREFIX.fullmatch(self.topic_prefix):
            words = 'segments of A-Z a-z 0-9 _ - with single slashes between them, such as "stores"'
            yield Wrong("topic_prefix", "", words, "no slash at either end, no + or #, no leading $")
        for key in ("client_id", "username"):
            text = getattr(self, key)
            if text is not None and not (0 < len(text.encode()) <= MQTT_TEXT_BYTES_MAX and text.isprintable()):
                words = "1 to 65535 bytes of text without control characters"
                is_short = len(text) <= 64
                why = "" if is_short else f"found a text of {len(text.encode())} bytes"
                yield Wrong(key, why, words, is_shown=is_short)
        yield from self._halves("cert_file", "key_file", "mutual TLS needs both")
        yield from self._halves("key_file", "cert_file", "mutual TLS needs both")
        yield from self._halves("password_file", "username", "a password belongs to a user name")
        if self.inflight_bytes_max != "adaptive" and self.inflight_bytes_max < INFLIGHT_BYTES_MIN:
            yield Wrong("inflight_bytes_max", f'must be "adaptive" or at least {INFLIGHT_BYTES_MIN} bytes')
        yield from self._proxy_wrong()

    def _halves(self, present: str, absent: str, why: str) -> Iterator[Wrong]:
        if getattr(self, present) is not None and getattr(self, absent) is None:
            advice = f"add {absent} = ..., or take {present} away: {why}"
            yield Wrong(present, f"stands there without {absent}", "", advice, also=(absent,), is_shown=False)

    def _proxy_wrong(self) -> Iterator[Wrong]:
        if self.proxy is not None:
            for why in proxy_wrong(self.proxy):
                yield Wrong("proxy", why, instead=_without_password(self.proxy))
        elif self.proxy_username is not None or self.proxy_password_file is not None:
            yield Wrong("", "proxy_username and proxy_password_file need proxy beside them", also=("proxy",))
        if self.proxy_password_file is not None and self.proxy_username is None:
            yield Wrong("proxy_password_file", "needs proxy_username beside it", also=("proxy_username",))
        if self.proxy_username is not None and not 1 <= len(self.proxy_username.encode()) <= 255:
            yield Wrong("proxy_username", "must have 1 to 255 bytes")
