"""This gateway's own certificate, its key and its authorities: when they end, and what is wrong with the files.

Law: nothing is judged by a clock that is not synchronised, except where the broker itself says so. Files are looked at
each time and read where they changed, so that a renewed certificate is seen without a restart, and a look costs the
engine a `stat`. Without the package `cryptography` the ends are not known, and that is said.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.machine.bounded import read_bounded
from gateway.model import Instant
from gateway.mqtt.reasons import Cause, of_encrypted_key, of_file
from gateway.uplink.settings import BrokerSettings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

WARN_DAYS = (3, 14, 30)
"""A certificate's end is told from the last of these days on, and more urgently from each."""
FILE_BYTES_MAX = 1 << 20
KEPT_MAX = 8  # what was read of files that did not change: the three of one broker, and those of a reload
END_UNKNOWN = "certificate.end_unknown"
RENEW = "renew it and put the new one, with its key, in cert_file and key_file; it is taken at the next connect"
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def concerns(settings: BrokerSettings, now: Instant | None) -> Iterator[Cause]:
    """Yield what is wrong with the files of mutual TLS, or will be soon; nothing where all is well or unknown.

    Without `now` nothing is said of their ends.
    """
    own, key = settings.cert_file, settings.key_file
    today = _today(now)
    for name, path in (("ca_file", settings.ca_file), ("cert_file", own)):
        if path is None:
            continue
        try:
            found = _certificates(name, path)
        except _Wrong as wrong:
            yield wrong.cause
            continue
        if not found and name == "cert_file" and today is not None:
            said = (
                f"when this gateway's certificate {path} ends is not known: the package cryptography is not installed"
            )
            advice = f"install it beside the gateway, or look yourself: openssl x509 -enddate -noout -in {path}"
            yield Cause(END_UNKNOWN, said, advice)
        if not found or today is None:
            continue
        if name == "cert_file":
            yield from _ends(found[0], path, today)
        elif all(one.not_valid_after_utc < today for one in found):
            end = day(max(one.not_valid_after_utc for one in found))
            said = f"the authority in ca_file {path} ended on {end}: no broker's certificate is trusted by it"
            yield Cause("certificate.authority_ended", said, "set broker.ca_file to the authority's new certificate")
    if own is not None and key is not None:
        yield from _pair(own, key)


def end_of(settings: BrokerSettings) -> datetime.datetime | None:
    """Return when this gateway's certificate ends; None: it has none, or it cannot be read."""
    if settings.cert_file is None:
        return None
    try:
        found = _certificates("cert_file", settings.cert_file)
    except _Wrong:
        return None
    return found[0].not_valid_after_utc if found else None


def days_left(settings: BrokerSettings, now: Instant) -> int | None:
    """Return the whole days until this gateway's certificate ends, negative after it; None: not known."""
    end, today = end_of(settings), _today(now)
    return None if end is None or today is None else (end - today).days


def refused(cause: Cause, settings: BrokerSettings, now: Instant) -> Cause:
    """Return more of why the broker refused this gateway's certificate: that it ended, or who signed it."""
    if cause.code != "tls.client_certificate_refused":
        return cause
    if settings.cert_file is None:
        advice = "set broker.cert_file and broker.key_file to a certificate that the broker's authority signed"
        return Cause(cause.code, "the broker wants a certificate of this gateway, and none is configured", advice)
    try:
        found = _certificates("cert_file", settings.cert_file)
    except _Wrong as wrong:
        return wrong.cause
    if not found:
        return cause
    own, at = found[0], datetime.datetime.fromtimestamp(now.wall_ns / 1e9, datetime.UTC)
    if own.not_valid_after_utc < at:
        said = f"the broker refuses this gateway's certificate: yours ended on {day(own.not_valid_after_utc)}"
        return Cause(cause.code, said, RENEW)
    if at < own.not_valid_before_utc:
        said = f"the broker refuses this gateway's certificate: yours begins on {day(own.not_valid_before_utc)}"
        return Cause(cause.code, said, "check the date with `timedatectl`, or wait")
    signer = own.issuer.rfc4514_string()
    advice = f"let the broker trust {signer}"
    if not any(one.subject == own.issuer for one in found):
        advice += f"; where that is an intermediate, append its certificate to {settings.cert_file}"
    return Cause(cause.code, f"the broker refuses this gateway's certificate, which is signed by {signer}", advice)


def day(at: datetime.datetime) -> str:
    """Write a day as a person does: `3 March 2027`."""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


class _Wrong(Exception):
    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.detail)
        self.cause = cause


def _today(now: Instant | None) -> datetime.datetime | None:
    is_known = now is not None and now.clock == "synced"
    return datetime.datetime.fromtimestamp(now.wall_ns / 1e9, datetime.UTC) if now and is_known else None


def _ends(own: Certificate, path: Path, today: datetime.datetime) -> Iterator[Cause]:
    end = own.not_valid_after_utc
    if end < today:
        yield Cause("certificate.ended", f"this gateway's certificate {path} ended on {day(end)}", RENEW)
        return
    if today < own.not_valid_before_utc:
        said = f"this gateway's certificate {path} begins only on {day(own.not_valid_before_utc)}"
        yield Cause("certificate.not_yet_valid", said, "wait, or have another one made")
        return
    left = end - today
    for days in WARN_DAYS:
        if left <= datetime.timedelta(days=days):
            in_days = f"in {left.days} day{'' if left.days == 1 else 's'}" if left.days else "within a day"
            said = f"this gateway's certificate {path} ends on {day(end)}, {in_days}"
            yield Cause(f"certificate.ends_within_{days}_days", said, RENEW)
            return


def _content(name: str, path: Path) -> bytes:
    try:
        content = read_bounded(path, FILE_BYTES_MAX)
    except OSError as error:
        raise _Wrong(of_file(name, path, error)) from error
    if not content.strip():
        raise _Wrong(Cause(f"file.{name}", f"{name} {path} is empty", f"put into {path} what belongs there"))
    if b"-----BEGIN " not in content:
        what = "pkey" if name == "key_file" else "x509"
        said = f"{name} {path} is not PEM" + (" but DER" if content[:1] == b"\x30" else "")
        raise _Wrong(Cause(f"file.{name}", said, f"write it as PEM: openssl {what} -in {path} -out {path}.pem"))
    return content


def _stamp(name: str, path: Path) -> tuple[int, ...]:
    """Return what changes whenever the file does, or who may read it."""
    try:
        at = path.stat()
    except OSError as error:
        raise _Wrong(of_file(name, path, error)) from error
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns


def _certificates(name: str, path: Path) -> list[Certificate]:
    return _read_certificates(name, path, _stamp(name, path))


@lru_cache(maxsize=KEPT_MAX)
def _read_certificates(name: str, path: Path, stamp: tuple[int, ...]) -> list[Certificate]:
    content = _content(name, path)
    if b"-----BEGIN CERTIFICATE-----" not in content and b"-----BEGIN TRUSTED CERTIFICATE-----" not in content:
        said = f"{name} {path} has no certificate in it"
        if b"PRIVATE KEY-----" in content:
            said += ", but a private key"
        raise _Wrong(Cause(f"file.{name}", said, f"let broker.{name} name the certificate's file"))
    try:
        from cryptography import x509
    except ImportError:
        return []
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        said = f"{name} {path} has a certificate that cannot be read"
        raise _Wrong(Cause(f"file.{name}", said, "have it written anew, or copied again")) from error


def _pair(cert_file: Path, key_file: Path) -> tuple[Cause, ...]:
    """Return what is wrong with the key, by itself or beside the certificate."""
    try:
        return _compared(cert_file, key_file, _stamp("cert_file", cert_file), _stamp("key_file", key_file))
    except _Wrong as wrong:
        return (wrong.cause,) if wrong.cause.code == "file.key_file" else ()


@lru_cache(maxsize=KEPT_MAX)
def _compared(cert_file: Path, key_file: Path, *stamps: tuple[int, ...]) -> tuple[Cause, ...]:
    return tuple(_differences(cert_file, key_file))


def _differences(cert_file: Path, key_file: Path) -> Iterator[Cause]:
    content, own = _content("key_file", key_file), _certificates("cert_file", cert_file)
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        return
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError:
        yield of_encrypted_key(key_file)
        return
    except (ValueError, UnsupportedAlgorithm):
        said = f"key_file {key_file} has no private key that can be read"
        yield Cause("file.key_file", said, "let broker.key_file name the certificate's private key, as PEM")
        return
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if own and own[0].public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        said = f"key_file {key_file} is not the key of cert_file {cert_file}"
        yield Cause("certificate.key_differs", said, "put the key there that was made with the certificate")
