"""Checks of the way to the broker, layer by layer: name, TCP, TLS, CONNACK, the right to publish and to subscribe.

The last three over a real connection of the daemon's own link, under another client id (`...-doctor`), so that the
running daemon keeps its own; one after the other, so that the end of the connection blames the
right one. What is published is an answer to a doctor's command that nobody gave: consumers of events
and state do not see it. What the broker's first refusing layer hides is skipped.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

from gateway.config import Configuration
from gateway.machine.clock import SystemClock
from gateway.model import (
    NS_PER_S,
    Acknowledgements,
    LinkDown,
    Message,
    Subscribe,
    Subscribed,
)
from gateway.mqtt import reasons
from gateway.mqtt.dial import DialRefused, tls_context
from gateway.mqtt.reasons import Cause
from gateway.mqtt.visit import Visit
from gateway.technician.checks import Check, Examination
from gateway.uplink.refusals import refusal_sentence
from gateway.uplink.settings import Endpoint
from gateway.uplink.status import limits_of
from gateway.uplink.subscriptions import Subscription, commands, refused
from gateway.wire import Wire

DNS_WITHIN_S = 6.0
TCP_WITHIN_S = 5.0
LINK_WITHIN_S = 12.0
SUFFIX = "-doctor"
NO_SUBSCRIBERS = 0x10
FAILURE = 0x80

WHY = {
    "name": "without its address the broker cannot be reached",
    "tcp": "without a connection nothing is sent; events are recorded and sent later",
    "tls": "without TLS nobody knows that the broker is the broker",
    "connect": "the broker must let this gateway in",
    "publish": "events are published there",
    "subscribe": "commands from the cloud, such as resend, come that way",
}


def examinations(configuration: Configuration) -> Iterator[Examination]:
    """Yield the layers in their order; each looks only where those before it were good."""
    if configuration.broker.url is None:
        found = "no broker is configured"
        advice = 'add [broker] with url = "mqtts://HOST:8883"'
        check = Check("broker", "address", "skipped", found, "nothing is sent", advice, "broker.none")
        yield Examination("broker", "address", lambda: check)
        return
    way = Way(configuration)
    yield Examination("broker", "name", way.name, DNS_WITHIN_S)
    yield Examination("broker", "tcp", way.tcp, TCP_WITHIN_S * 2 + 1)
    if way.endpoint.is_tls and way.settings.via is None:  # else the proxy stands between; `connect` reports TLS
        yield Examination("broker", "tls", way.tls, TCP_WITHIN_S * 2 + 1)
    elif not way.endpoint.is_tls and not way.endpoint.is_this_machine:
        why = "everybody on the way can read, and change, what is sent, the password too"
        advice = "write mqtts:// (port 8883) where the broker offers it"
        bare = Check("broker", "tls", "warning", "the connection is not encrypted", why, advice, "tls.none")
        yield Examination("broker", "tls", lambda: bare)
    yield Examination("broker", "connect", way.connect, 3 * LINK_WITHIN_S + 5)


class Way:
    """The way to one broker. `reached` is false from the first layer that failed on."""

    def __init__(self, configuration: Configuration) -> None:
        settings = configuration.broker
        assert settings.url is not None
        site = configuration.site
        self.settings = settings
        self.endpoint = Endpoint.parse(settings.url)
        self._near = settings.via or self.endpoint
        self.client_id = (settings.client_id or f"{site.store}.{site.gateway}") + SUFFIX
        wire = Wire(site.store, site.gateway, "", settings.topic_prefix)
        self.prefix = wire.prefix
        self.commands: Subscription = commands(wire, configuration.commands.allow)
        self.reached = False
        self._clock = SystemClock()

    def name(self) -> Check:
        """Look the host up, or the proxy's, which looks the broker's up."""
        host = self._near.host
        try:
            found = socket.getaddrinfo(host, self._near.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return _failed("name", self._why(error))
        self.reached = True
        addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
        return Check("broker", "name", "ok", f"{host}: {', '.join(addresses)}", code="dns.found")

    def tcp(self) -> Check:
        """Open a connection and close it."""
        return self._layer("tcp", self._tcp)

    def tls(self) -> Check:
        """Shake hands as the daemon does."""
        return self._layer("tls", self._tls)

    def _layer(self, name: str, look: Callable[[], Check]) -> Check:
        if not self.reached:
            return _skipped(name)
        self.reached = False
        try:
            check = look()
        except (OSError, ValueError) as error:
            return _failed(name, self._why(error))
        self.reached = check.result != "failed"
        return check

    def _why(self, error: Exception) -> Cause:
        cause = reasons.of_connect(error, self._near.host)
        return cause if self.settings.via is None else reasons.of_proxy(cause)

    def _tcp(self) -> Check:
        before_ns = self._clock.now().boot_ns
        with socket.create_connection((self._near.host, self._near.port), TCP_WITHIN_S) as sock:
            took_ms = (self._clock.now().boot_ns - before_ns) / 1e6
            found = f"{sock.getpeername()[0]} port {self._near.port} answers in {took_ms:.0f} ms"
        return Check("broker", "tcp", "ok", found, code="tcp.open")

    def _tls(self) -> Check:
        try:
            context = tls_context(self.settings, self.endpoint)
        except DialRefused as refused:
            return _failed("tls", refused.cause)
        with (
            socket.create_connection((self.endpoint.host, self.endpoint.port), TCP_WITHIN_S) as plain,
            context.wrap_socket(plain, server_hostname=self.endpoint.host) as sock,
        ):
            certificate: Any = sock.getpeercert() or {}
            found = f"{sock.version()}, certificate until {certificate.get('notAfter', 'unknown')}"
        return Check("broker", "tls", "ok", found, code="tls.good")

    def connect(self) -> Iterator[Check]:
        """Connect, publish once, subscribe: MQTT 5, then 3.1.1 where the broker refuses 5 and it is allowed."""
        if not self.reached:
            yield from (_skipped(name) for name in ("connect", "publish", "subscribe"))
            return
        topic = f"{self.prefix}/command/self-test/result"
        visit = Visit(self.settings, self.client_id)
        try:
            said = visit.connect(Message(0, topic, _words("this check ended without a farewell")), LINK_WITHIN_S)
            if isinstance(said, LinkDown):
                yield _failed("connect", Cause(said.code, said.detail, said.advice))
                yield from (_skipped(name) for name in ("publish", "subscribe"))
                return
            limits = "".join(f"; it {words}" for words in limits_of(said))
            found = f"the broker lets {self.client_id} in, MQTT {said.protocol}{limits}"
            yield Check("broker", "connect", "ok", found, code="connack.accepted")
            filters = (self.commands.filter,) if said.wildcards_available else self.commands.each
            until_ns = self._clock.now().boot_ns + int(LINK_WITHIN_S * NS_PER_S)
            visit.obey(Message(1, topic, _words("this gateway may publish")))
            publish = _published(topic, self._answer(visit, until_ns))
            yield publish
            if publish.code.startswith("publish."):  # else the connection has ended
                visit.obey(Subscribe(visit.number, filters))
                yield _subscribed(filters, publish, self._answer(visit, until_ns))
            else:
                yield _skipped("subscribe")
        finally:
            visit.close()

    def _answer(self, visit: Visit, until_ns: int) -> object:
        """Return what the broker says next; None where it says nothing until then."""
        return visit.next(max(0, until_ns - self._clock.now().boot_ns) / NS_PER_S)


def _words(result: str) -> bytes:
    return json.dumps({"ok": True, "result": result}).encode()


def _published(topic: str, said: object) -> Check:
    advice = "give this gateway's user the right to publish below its prefix (the broker's access list)"
    if isinstance(said, LinkDown):
        found = f"the connection ended at the first message: {said.detail}"
        return _failed("publish", Cause(said.code, found, advice))
    if not isinstance(said, Acknowledgements):
        silent = f"no acknowledgement within {LINK_WITHIN_S:g} s"
        return _failed("publish", Cause("publish.timeout", silent, "look at the broker's log"))
    code = said.words[-1][1]
    if code < FAILURE:
        heard = " (nobody is subscribed to it)" if code == NO_SUBSCRIBERS else ""
        return Check("broker", "publish", "ok", f"{topic} is acknowledged{heard}", code="publish.granted")
    found = f"{topic}: {refusal_sentence(code)}"
    return _failed("publish", Cause("publish.refused", found, advice))


def _subscribed(filters: tuple[str, ...], publish: Check, said: object) -> Check:
    if isinstance(said, LinkDown):
        asked = ", ".join(filters)
        found = f"the connection ended when {asked} was asked for ({said.detail}); events go on without it"
        return _without_commands(found, "closed")
    if not isinstance(said, Subscribed):
        if publish.result != "ok":
            return _skipped("subscribe")
        found = "the broker does not answer when asked for commands; events go on without them"
        return _without_commands(found, "unanswered")
    if why := refused(said):
        return _without_commands(why, "refused")
    return Check("broker", "subscribe", "ok", f"{', '.join(said.filters)} is granted", code="subscribe.granted")


def _without_commands(found: str, code: str) -> Check:
    advice = "give this gateway's user the right to subscribe to it (the broker's access list)"
    return Check("broker", "subscribe", "warning", found, WHY["subscribe"], advice, f"subscribe.{code}")


def _failed(name: str, cause: Cause) -> Check:
    return Check("broker", name, "failed", cause.detail, WHY[name], cause.advice, cause.code)


def _skipped(name: str) -> Check:
    return Check("broker", name, "skipped", "what comes before it failed", WHY[name], "", "skipped")
