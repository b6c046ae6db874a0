"""The way to the broker through a proxy: HTTP CONNECT and SOCKS5, what each refuses, and what hangs."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config import loads
from gateway.mqtt import dial
from gateway.technician.checks import Check
from gateway.technician.checks.broker import examinations
from gateway.uplink.settings import BrokerSettings, Proxy
from tests.uplink.brokers import Authority, mosquitto
from tests.uplink.scripted_broker import scripted
from tests.uplink.shop import QUICK, Shop

Agreement = Callable[[socket.socket], "tuple[str, int] | None"]
"""What a proxy of ours does with a connection: where it leads, None: nowhere."""


class ScriptedProxy:
    """A proxy on bare sockets; `asked` is what clients wanted to reach."""

    def __init__(self, agree: Agreement, reach: int) -> None:
        self.asked: list[tuple[str, int]] = []
        self._agree, self._reach = agree, reach
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                place = self._agree(near)
                if place is None:
                    return
                self.asked.append(place)
                with socket.create_connection(("127.0.0.1", self._reach)) as far:
                    threading.Thread(target=_pass_on, args=(far, near), daemon=True).start()
                    _pass_on(near, far)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while said := source.recv(65536):
            sink.sendall(said)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def proxy(agree: Agreement, reach: int) -> Iterator[ScriptedProxy]:
    scripted_proxy = ScriptedProxy(agree, reach)
    try:
        yield scripted_proxy
    finally:
        scripted_proxy.close()


def read_request(sock: socket.socket) -> list[str]:
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += sock.recv(1)
    return said.decode().split("\r\n")


def http(login: str | None = None, answer: str = "200 Connection established") -> Agreement:
    """Agree as an HTTP proxy; `login` is `user:password` where it wants one."""

    def agree(sock: socket.socket) -> tuple[str, int] | None:
        lines = read_request(sock)
        method, place, _ = lines[0].split(" ")
        assert method == "CONNECT"
        wanted = login and f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}"
        said = answer if wanted is None or wanted in lines else "407 Proxy Authentication Required"
        sock.sendall(f"HTTP/1.1 {said}\r\nVia: 1.1 shop\r\n\r\n".encode())
        host, _, port = place.rpartition(":")
        return (host, int(port)) if said.startswith("200") else None

    return agree


def socks5(login: str | None = None, reply: int = 0) -> Agreement:
    """Agree as a SOCKS5 proxy that is told names, not addresses."""

    def agree(sock: socket.socket) -> tuple[str, int] | None:
        _, count = sock.recv(1), sock.recv(1)[0]
        methods = sock.recv(count)
        method = 0 if login is None else 2 if 2 in methods else 0xFF
        sock.sendall(bytes((5, method)))
        if method == 0xFF:
            return None
        if login is not None:
            sock.recv(1)
            name = sock.recv(sock.recv(1)[0])
            secret = sock.recv(sock.recv(1)[0])
            right = f"{name.decode()}:{secret.decode()}" == login
            sock.sendall(bytes((1, 0 if right else 1)))
            if not right:
                return None
        assert sock.recv(4) == b"\x05\x01\x00\x03"
        host = sock.recv(sock.recv(1)[0]).decode()
        port = int.from_bytes(sock.recv(2), "big")
        sock.sendall(bytes((5, reply, 0, 1, 0, 0, 0, 0, 0, 0)))
        return None if reply else (host, port)

    return agree


def settings(scheme: str, proxy_port: int, url: str = "mqtt://broker.invalid:1884", **more: Any) -> BrokerSettings:
    return BrokerSettings(url=url, proxy=f"{scheme}://127.0.0.1:{proxy_port}", **more)


@pytest.mark.parametrize(("scheme", "agree"), [("http", http), ("socks5", socks5)])
@pytest.mark.parametrize("login", [None, "shop:s3cret"])
def test_events_reach_the_broker_and_the_proxy_looks_its_name_up(
    tmp_path: Path, scheme: str, agree: Callable[[str | None], Agreement], login: str | None
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    more: dict[str, Any] = {}
    if login is not None:
        more = {"proxy_username": "shop", "proxy_password_file": tmp_path / "secret"}
    with scripted() as broker, proxy(agree(login), broker.port) as between:
        shop = Shop(settings(scheme, between.port, **more))
        shop.passed(5)
        shop.drain()
        assert between.asked == [("broker.invalid", 1884)]
        shop.close()


def test_tls_is_with_the_broker_not_with_the_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with mosquitto(tmp_path, tls=authority.sign("server")) as broker, proxy(http(), broker.port) as between:
        shop = Shop(settings("http", between.port, "mqtts://127.0.0.1:8883", ca_file=authority.ca_file))
        shop.passed(5)
        shop.drain()
        assert between.asked == [("127.0.0.1", 8883)]
        shop.close()
        elsewhere = Shop(settings("http", between.port, "mqtts://elsewhere.test", ca_file=authority.ca_file))
        elsewhere.until(lambda: elsewhere.downs)
        assert elsewhere.downs[0].code == "tls.wrong_host"
        elsewhere.close()


@pytest.mark.parametrize(
    ("scheme", "agree", "expected"),
    [
        ("http", http("shop:other"), "proxy.login"),
        ("http", http(answer="403 Forbidden"), "proxy.refused"),
        ("http", lambda sock: sock.sendall(b"SSH-2.0-x\r\n\r\n\r\n"), "proxy.failed"),
        ("http", lambda sock: None, "proxy.failed"),
        ("http", lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000), "proxy.failed"),
        ("socks5", socks5("shop:other"), "proxy.login"),
        ("socks5", socks5(reply=2), "proxy.refused"),
        ("socks5", lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "proxy.failed"),
    ],
)
def test_each_refusal_of_a_proxy_has_its_own_reason(scheme: str, agree: Agreement, expected: str) -> None:
    with proxy(agree, 1) as between:
        shop = Shop(settings(scheme, between.port))
        shop.until(lambda: shop.downs)
        assert shop.downs[0].code == expected
        assert shop.downs[0].advice
        shop.close()


def test_a_proxy_that_is_not_there_is_not_called_the_broker() -> None:
    shop = Shop(settings("http", 1))
    shop.until(lambda: shop.downs)
    assert shop.downs[0].code == "proxy.tcp_refused"
    assert "broker.proxy" in shop.downs[0].advice
    shop.close()


def test_the_doctor_looks_at_the_proxy_and_through_it() -> None:
    site = '[site]\nstore = "0042"\ngateway = "front"\n[broker]\nurl = "mqtt://broker.invalid"\nproxy = "{}"\n'

    def looked(address: str) -> dict[str, Check]:
        found: dict[str, Check] = {}
        for examination in examinations(loads(site.format(address))):
            checks = examination.look()
            for check in [checks] if isinstance(checks, Check) else checks:
                found[check.name] = check
        return found

    with scripted() as broker, proxy(http(), broker.port) as between:
        good = looked(f"http://127.0.0.1:{between.port}")
        assert {name: check.result for name, check in good.items()} == {
            **dict.fromkeys(("name", "tcp", "connect", "publish", "subscribe"), "ok"),
            "tls": "warning",
        }
        assert between.asked == [("broker.invalid", 1883)]
    assert looked("http://127.0.0.1:1")["tcp"].code == "proxy.tcp_refused"


def trickle(sock: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x" * 1000:
        sock.sendall(bytes((byte,)))
        time.sleep(0.1)


@pytest.mark.parametrize("what", ["http proxy", "socks5 proxy", "websocket"])
def test_a_handshake_of_a_byte_at_a_time_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(dial, "HANDSHAKE_S", 0.6)
    with proxy(trickle, 1) as between:
        if what == "websocket":
            chosen = BrokerSettings(url=f"ws://127.0.0.1:{between.port}")
        else:
            chosen = settings(what.split()[0], between.port)
        shop = Shop(chosen, times=QUICK)
        shop.until(lambda: shop.downs, 6)
        connection = shop.link._current
        assert connection is not None
        connection.thread.join(2)
        assert not connection.thread.is_alive()
        shop.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy", Proxy("http", "proxy", 3128)),
        ("SOCKS5://[::1]:9050", Proxy("socks5", "::1", 9050)),
        ("https://proxy", None),
        ("http://u:p@proxy", None),
        ("http://proxy/x", None),
        ("http://proxy:0", None),
        ("http://proxy:port", None),
        ("proxy", None),
    ],
)
def test_a_proxys_address_is_taken_apart_or_refused(url: str, expected: Proxy | None) -> None:
    if expected is not None:
        assert Proxy.parse(url) == expected
        return
    with pytest.raises(ValueError):
        BrokerSettings(url="mqtt://h", proxy=url)


@pytest.mark.parametrize("table", [{"proxy_username": "u"}, {"proxy": "http://p", "proxy_password_file": Path("p")}])
def test_a_proxys_login_without_the_rest_is_a_mistake(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="proxy"):
        BrokerSettings(url="mqtt://h", **table)  # type: ignore[arg-type]
