"""Why a link failed, in words for a person: one stable code, one sentence, one piece of advice for each cause.

Law: the log, `gateway status` and `gateway doctor` say the same words. A code is never renamed; what is not foreseen
has a code of its own family (`tcp.failed`, `tls.failed`, `connack.refused`, `broker.disconnected`). No paho here.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

QUOTED_MAX = 200


@dataclass(frozen=True, slots=True)
class Cause:
    """A stable code, and sentences for a person."""

    code: str
    detail: str
    advice: str = ""


CONNACK_CAUSES: Mapping[int, Cause] = {
    0x80: Cause("connack.unspecified", "the broker refused the connection without a reason", "look at its log"),
    0x81: Cause("connack.malformed", "the broker could not read our CONNECT", "set broker.protocol to 3.1.1"),
    0x82: Cause("connack.protocol_error", "the broker calls our CONNECT wrong", "set broker.protocol to 3.1.1"),
    0x83: Cause("connack.implementation", "the broker refuses this client by a rule of its own", "look at its log"),
    0x84: Cause(
        "connack.unsupported_protocol",
        "the broker does not speak this version of MQTT",
        'set broker.protocol to "auto" or "3.1.1"',
    ),
    0x85: Cause(
        "connack.client_id_refused", "the broker refuses the client id", "set broker.client_id to what it expects"
    ),
    0x86: Cause(
        "connack.bad_credentials", "the broker refuses the user name or password", "check username and password_file"
    ),
    0x87: Cause(
        "connack.not_authorized",
        "the broker does not let this client in",
        "check username, password_file, client_id and the broker's access list",
    ),
    0x88: Cause("connack.unavailable", "the broker is there but not available", "wait, or look at its log"),
    0x89: Cause("connack.busy", "the broker is busy", "it is tried again later"),
    0x8A: Cause("connack.banned", "the broker has banned this client", "ask its operator"),
    0x8C: Cause("connack.bad_authentication", "the broker wants another way of authentication", "ask its operator"),
    0x90: Cause("connack.will_topic_refused", "the broker refuses the topic of the will", "check topic_prefix"),
    0x95: Cause("connack.packet_too_large", "the broker calls our CONNECT too large", "shorten client_id or username"),
    0x97: Cause("connack.quota", "the broker's quota is used up", "ask its operator"),
    0x99: Cause("connack.will_payload_refused", "the broker refuses the payload of the will", "ask its operator"),
    0x9A: Cause("connack.retain_refused", "the broker keeps no retained messages", "it is tried again without them"),
    0x9B: Cause(
        "connack.qos_refused",
        "the broker takes only QoS 0, where nothing is acknowledged: events are held, for they could be lost unseen",
        "use a broker that takes QoS 1, or raise its limit (mosquitto: max_qos)",
    ),
    0x9C: Cause("connack.use_another_server", "the broker sends us to another server", "set broker.url to it"),
    0x9D: Cause("connack.server_moved", "the broker has moved for good", "set broker.url to its new address"),
    0x9F: Cause("connack.rate_exceeded", "the broker admits no more connects now", "it is tried again later"),
}

DISCONNECT_CAUSES: Mapping[int, Cause] = {
    0x81: Cause("broker.malformed", "the broker could not read one of our packets", "please report it"),
    0x82: Cause("broker.protocol_error", "the broker calls one of our packets wrong", "please report it"),
    0x87: Cause("broker.not_authorized", "the broker no longer lets this client in", "check its access list"),
    0x89: Cause("broker.busy", "the broker is busy", "it is tried again later"),
    0x8B: Cause("broker.shutting_down", "the broker is shutting down", "it is tried again until it is back"),
    0x8D: Cause("broker.keepalive_timeout", "the broker heard nothing from us for too long", "check the network"),
    0x8E: Cause(
        "link.taken_over",
        "another client connected with our client id: another gateway, from a copied card?",
        "stop the other one; give each gateway a card and a site.gateway (or broker.client_id) of its own",
    ),
    0x90: Cause("broker.topic_refused", "the broker calls a topic invalid", "check topic_prefix"),
    0x93: Cause("broker.receive_maximum", "the broker says that too much was under way", "please report it"),
    0x95: Cause("broker.packet_too_large", "the broker calls a packet too large", "raise the broker's packet limit"),
    0x96: Cause("broker.rate_too_high", "the broker says that we send too fast", "set broker.profile to the service"),
    0x97: Cause("broker.quota", "the broker's quota is used up", "ask its operator"),
    0x98: Cause("broker.administrative", "an operator of the broker ended the connection", "ask its operator"),
    0x9C: Cause("broker.use_another_server", "the broker sends us to another server", "set broker.url to it"),
    0x9D: Cause("broker.server_moved", "the broker has moved for good", "set broker.url to its new address"),
    0x9F: Cause("broker.rate_exceeded", "the broker admits no more connects now", "it is tried again later"),
    0xA0: Cause("broker.connect_time", "the broker's limit of a connection's time is reached", "it connects again"),
}


BLAMES_NO_MESSAGE = frozenset({0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0})
"""Reasons of DISCONNECT that speak of the broker or the session, whatever was sent last."""


def quoted(text: str | None) -> str | None:
    """Return what a stranger wrote in a form fit for a terminal and a log: one line, escaped, bounded."""
    if not text:
        return None
    safe = "".join(one if one.isprintable() else "?" for one in text[:QUOTED_MAX])
    return safe + ("..." if len(text) > QUOTED_MAX else "")


def told(cause: Cause, reason: str | None, reference: str | None) -> Cause:
    """Return the cause with the broker's own words: its Reason String, and the server it refers to (never followed)."""
    words = f'; the broker says "{quoted(reason)}"' if reason else ""
    words += f'; it refers to "{quoted(reference)}"' if reference else ""
    return replace(cause, detail=cause.detail + words)


def of_connack(code: int) -> Cause:
    """The broker refused the connection with this MQTT 5 code."""
    return CONNACK_CAUSES.get(code) or Cause("connack.refused", f"the broker refused the connection (0x{code:02x})")


def of_disconnect(code: int) -> Cause:
    """The broker ended the connection with this MQTT 5 code."""
    said = f"the broker ended the connection (0x{code:02x})"
    return DISCONNECT_CAUSES.get(code) or Cause("broker.disconnected", said, "look at the broker's log")


CLOSED_BEFORE_CONNACK = Cause(
    "connack.closed",
    "the broker closed the connection without an answer to CONNECT",
    "check that the port speaks MQTT, and with TLS where the address says so",
)
CONNACK_TIMEOUT = Cause(
    "connack.timeout", "the broker took the connection but did not answer CONNECT", "check that the port speaks MQTT"
)
NOT_MQTT = Cause("link.garbage", "what came from the broker is not MQTT", "check the port and the scheme of broker.url")
LINK_CLOSED = Cause("broker.closed", "the broker closed the connection", "look at the broker's log")
LINK_RESET = Cause("link.lost", "the connection was reset", "check the network")
LINK_SILENT = Cause("link.timeout", "the broker no longer answers", "check the network and the broker")
OVERRUN = Cause("link.overrun", "more waits for the network than it takes", "check the network")

OVERSIZED = Cause(
    "link.oversized",
    "the broker announced a packet larger than any command; the connection was closed before it was read",
    "see who publishes such messages to this gateway's command topics (the broker's access list)",
)
UNASKED = Cause(
    "link.unasked",
    "the broker sent a message with QoS 2, which was never asked for",
    "look at the broker's log, or use another broker",
)


class Unwanted(OSError):
    """A packet that is not read: its fixed header shows that it was never asked for."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.detail)
        self.cause = cause


_TLS_VERIFY: Mapping[int, Cause] = {
    # X509_V_ERR_*, openssl/x509_vfy.h
    9: Cause(
        "tls.not_yet_valid",
        "the broker's certificate is not valid yet: this gateway's clock is behind, or the certificate is too new",
        "check the date with `timedatectl`; without network time set it by hand",
    ),
    10: Cause(
        "tls.expired",
        "the broker's certificate has expired (or this gateway's clock is ahead)",
        "renew the broker's certificate; check the date with `timedatectl`",
    ),
    62: Cause(
        "tls.wrong_host",
        "the broker's certificate is for another host name",
        "write the name that the certificate has into broker.url",
    ),
    64: Cause(
        "tls.wrong_host",
        "the broker's certificate is not for this address",
        "write the name that the certificate has into broker.url",
    ),
}
_UNKNOWN_CA = Cause(
    "tls.unknown_ca",
    "the broker's certificate is signed by nobody this gateway trusts",
    "set broker.ca_file to the authority's certificate",
)
_CLIENT_REFUSED = Cause(
    "tls.client_certificate_refused",
    "the broker refuses this gateway's certificate, or wants one and got none",
    "check cert_file and key_file, and that the broker trusts their authority",
)
_CLIENT_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_ACCESS_DENIED",
    "ALERT_HANDSHAKE_FAILURE",
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")

_ERRNO: Mapping[int, Cause] = {
    errno.ECONNREFUSED: Cause(
        "tcp.refused", "nothing listens at the broker's address and port", "check broker.url and that the broker runs"
    ),
    errno.ETIMEDOUT: Cause("tcp.timeout", "the broker's address does not answer", "check broker.url and the firewall"),
    errno.ENETUNREACH: Cause("tcp.unreachable", "there is no way to the broker's network", "check cable, Wi-Fi, route"),
    errno.EHOSTUNREACH: Cause("tcp.unreachable", "there is no way to the broker's host", "check cable, Wi-Fi, route"),
    errno.ENETDOWN: Cause("tcp.unreachable", "the network is down", "check cable and Wi-Fi"),
    errno.ECONNRESET: Cause("tcp.reset", "the broker's address reset the connection", "check port and scheme"),
}


def of_proxy(cause: Cause) -> Cause:
    """The proxy, not the broker, could not be reached."""
    code = "proxy." + cause.code.replace(".", "_")
    return Cause(code, f"the proxy could not be reached: {cause.detail}", "check broker.proxy and the network")


def of_connect(error: Exception, host: str) -> Cause:
    """The connection could not be made: DNS, TCP or TLS said this."""
    if isinstance(error, socket.gaierror):
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return Cause("dns.unknown", f"there is no host named {host}", "check broker.url")
        if error.errno == socket.EAI_AGAIN:
            return Cause("dns.timeout", f"no name server answers for {host}", "check the network and its name server")
        return Cause("dns.failed", f"{host} could not be looked up: {error.strerror}", "check broker.url")
    if isinstance(error, ssl.SSLError):
        return of_tls(error)
    if isinstance(error, TimeoutError):
        return _ERRNO[errno.ETIMEDOUT]
    if isinstance(error, OSError) and error.errno is not None and error.errno in _ERRNO:
        return _ERRNO[error.errno]
    if type(error).__name__ == "WebsocketConnectionError":
        return Cause("websocket.refused", f"no WebSocket for MQTT here: {error}", "check port and path of broker.url")
    return Cause("tcp.failed", f"the broker could not be reached: {error}", "check broker.url and the network")


def of_end(error: OSError | None, hung_up: bool, had_connack: bool) -> tuple[Cause, bool]:
    """A connection ended with this error, if any; `hung_up`: a FIN came first. Also return whether it was in order."""
    if isinstance(error, Unwanted):
        return error.cause, False
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return of_tls(error), False
    # EPIPE, not ECONNRESET: the FIN came first, the reset only answered what we wrote after it (Linux tcp_reset).
    in_order = isinstance(error, BrokenPipeError) or (hung_up and (error is None or isinstance(error, ssl.SSLEOFError)))
    if not had_connack:
        return CLOSED_BEFORE_CONNACK, in_order
    if in_order:
        return LINK_CLOSED, True
    return LINK_SILENT if isinstance(error, TimeoutError) else LINK_RESET, False


def of_tls(error: ssl.SSLError) -> Cause:
    """TLS failed, in the handshake or by an alert after it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _TLS_VERIFY.get(error.verify_code, _UNKNOWN_CA)
    reason = error.reason or str(error).upper().replace(" ", "_")
    if any(word in reason for word in _CLIENT_ALERTS):
        return _CLIENT_REFUSED
    if any(word in reason for word in _NO_TLS) or isinstance(error, ssl.SSLEOFError):
        return Cause("tls.not_spoken", "the port does not speak TLS", "check the port, or write mqtt:// (not secret)")
    if "PROTOCOL" in reason or "VERSION" in reason:
        return Cause("tls.too_old", "the broker speaks no TLS 1.2 or newer", "renew the broker")
    return Cause("tls.failed", f"TLS failed: {reason}", "look at the broker's log")


def of_file(key: str, path: Path, error: Exception) -> Cause:
    """A file that the configuration names cannot be used."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Cause(f"file.{key}", f"{key} {path} cannot be used: {said}", "check the path, its owner and its content")


def of_encrypted_key(path: Path) -> Cause:
    """The private key is encrypted; a daemon has nobody who types its passphrase."""
    return Cause(
        "file.key_file",
        f"key_file {path} is encrypted, and nobody is there to type its passphrase",
        f"decrypt it: openssl pkey -in {path} -out {path}.plain, and let broker.key_file name that",
    )
