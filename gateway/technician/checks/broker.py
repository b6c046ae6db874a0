"""Checks of the way to the broker, layer by layer: name, TCP, TLS, CONNACK, the right to publish and to subscribe.

The last three over a real connection of the daemon's own link, under another client id (`...-doctor`), so that the
running daemon keeps its own; one after the other, so that the end of the connection blames the
right one. What is published is an answer to a doctor's command that nobody gave: consumers of events
and state do not see it. What the broker's first refusing layer hides is skipped.
"""

from __future__ import annotations

import json
import queue
import socket
from collections.abc import Callable, Iterator
from typing import Any, Literal

from gateway.config import Configuration
from gateway.machine.clock import SystemClock
from gateway.model import (
    NS_PER_S,
    Acknowledgements,
    Connect,
    Disconnect,
    LinkDown,
    LinkUp,
    Message,
    Subscribe,
    Subscribed,
)
from gateway.mqtt import reasons
from gateway.mqtt.dial import DialRefused, tls_context
from gateway.mqtt.link import PahoLink
from gateway.mqtt.reasons import Cause
from gateway.technician.checks import Check, Examination
from gateway.uplink.fallback import NO_ANSWER_TO_5
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
    if way.endpoint.is_tls and way.settings.via is None:  # else the proxy stands between; `connect` tells of TLS
        yield Examination("broker", "tls", way.tls, TCP_WITHIN_S * 2 + 1)
    elif not way.endpoint.is_tls and not way.endpoint.is_this_machine:
        why = "everybody on the way can read, and change, what is sent, the password too"
        advice = "write mqtts:// (port 8883) where the broker offers it"
        bare = Check("broker", "tls", "warning", "the connection is not encrypted", why, advice, "tls.none")
        yield Examination("broker", "tls", lambda: bare)
    yield Examination("broker", "connect", way.connect, 2 * LINK_WITHIN_S + 5)


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
        wanted = self.settings.protocol
        versions: list[Literal["5", "3.1.1"]] = ["5", "3.1.1"] if wanted == "auto" else [wanted]
        for version in versions:
            checks = self._conversation(version)
            if checks[0].result == "ok" or version == versions[-1] or not _refuses_version(checks[0]):
                yield from checks
                return

    def _conversation(self, version: Literal["5", "3.1.1"]) -> list[Check]:
        signals: queue.Queue[Any] = queue.Queue()
        link = PahoLink(self.settings, self.client_id, signals.put)
        topic = f"{self.prefix}/command/self-test/result"
        will = Message(0, topic, _words("this check ended without a farewell"))
        link.obey(Connect(1, version, will))
        try:
            return self._listened(link, signals, version, Message(1, topic, _words("this gateway may publish")))
        finally:
            link.obey(Disconnect(1, gently=True))
            link.close()

    def _listened(self, link: PahoLink, signals: queue.Queue[Any], version: str, message: Message) -> list[Check]:
        connect = publish = subscribe = None
        filters: tuple[str, ...] = ()
        deadline_ns = self._clock.now().boot_ns + int(LINK_WITHIN_S * NS_PER_S)
        while publish is None or subscribe is None:
            left_s = (deadline_ns - self._clock.now().boot_ns) / NS_PER_S
            try:
                signal = signals.get(timeout=max(0.0, left_s))
            except queue.Empty:
                break
            if isinstance(signal, LinkUp):
                limits = "".join(f"; it {words}" for words in limits_of(signal))
                found = f"the broker lets {self.client_id} in, MQTT {signal.protocol}{limits}"
                connect = Check("broker", "connect", "ok", found, code="connack.accepted")
                filters = (self.commands.filter,) if signal.wildcards_available else self.commands.each
                link.obey(message)
            elif isinstance(signal, Acknowledgements):
                publish = _published(message.topic, signal.words[-1][1])
                link.obey(Subscribe(1, filters))
            elif isinstance(signal, Subscribed):
                subscribe = _subscribed(signal)
            elif isinstance(signal, LinkDown):
                cause = Cause(signal.code, signal.detail, signal.advice)
                if connect is None:
                    return [_failed("connect", cause), _skipped("publish"), _skipped("subscribe")]
                if publish is None:
                    publish = _failed("publish", _closed(cause))
                else:
                    subscribe = subscribe or _closed_at_subscribe(filters, cause)
                break
        if connect is None:
            return [_failed("connect", reasons.CONNACK_TIMEOUT), _skipped("publish"), _skipped("subscribe")]
        silent = Cause("publish.timeout", f"no acknowledgement within {LINK_WITHIN_S:g} s", "look at the broker's log")
        return [connect, publish or _failed("publish", silent), subscribe or _unanswered(publish)]


def _words(result: str) -> bytes:
    return json.dumps({"ok": True, "result": result}).encode()


def _refuses_version(check: Check) -> bool:
    return check.code in ("connack.unsupported_protocol", "connack.malformed", *NO_ANSWER_TO_5)


def _closed(cause: Cause) -> Cause:
    advice = "give this gateway's user the right to publish below its prefix (the broker's access list)"
    return Cause(cause.code, f"the connection ended at the first message: {cause.detail}", advice)


def _published(topic: str, code: int) -> Check:
    if code < FAILURE:
        heard = " (nobody is subscribed to it)" if code == NO_SUBSCRIBERS else ""
        return Check("broker", "publish", "ok", f"{topic} is acknowledged{heard}", code="publish.granted")
    advice = "give this gateway's user the right to publish below its prefix (the broker's access list)"
    found = f"{topic}: {refusal_sentence(code)}"
    return Check("broker", "publish", "failed", found, WHY["publish"], advice, "publish.refused")


def _subscribed(signal: Subscribed) -> Check:
    why = refused(signal)
    if not why:
        return Check("broker", "subscribe", "ok", f"{', '.join(signal.filters)} is granted", code="subscribe.granted")
    return _without_commands(why, "refused")


def _closed_at_subscribe(filters: tuple[str, ...], cause: Cause) -> Check:
    found = f"the connection ended when {', '.join(filters)} was asked for ({cause.detail}); events go on without it"
    return _without_commands(found, "closed")


def _unanswered(publish: Check | None) -> Check:
    if publish is None or publish.result != "ok":
        return _skipped("subscribe")
    return _without_commands(
        "the broker does not answer when asked for commands; events go on without them", "unanswered"
    )


def _without_commands(found: str, code: str) -> Check:
    advice = "give this gateway's user the right to subscribe to it (the broker's access list)"
    return Check("broker", "subscribe", "warning", found, WHY["subscribe"], advice, f"subscribe.{code}")


def _failed(name: str, cause: Cause) -> Check:
    return Check("broker", name, "failed", cause.detail, WHY[name], cause.advice, cause.code)


def _skipped(name: str) -> Check:
    return Check("broker", name, "skipped", "what comes before it failed", WHY[name], "", "skipped")
