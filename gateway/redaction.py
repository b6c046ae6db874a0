"""Takes out of a text what nobody else may read: secrets and radio addresses, by what a value is.

What is known (the configured secrets, the content of their files, the keys) goes in every notation: as it is, escaped
as JSON, Python, a shell or HTML do, percent-encoded, in base64 at any offset, in hex with and without separators, as
numbers, backwards. What is not known goes by its form: addresses in every notation, hex of keys and payloads, bytes,
PEM, user names in URLs, and what follows a name such as `password`. Kept are UUIDs and the addresses that a rule of the
configuration names. No text takes long, whoever wrote it. Pure: text in, text out.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

SECRET, ADDRESS, HEX, USER = "[secret]", "[address]", "[hex]", "[user]"
SHORT = 4
"""Characters; a shorter secret is taken out as a whole word only, or nothing else could be read."""
BASE64_LEAST = 5
SLASHES = r"\\{0,8}"
"""Backslashes before an escaped character, more of them each time that it is escaped again."""
ADDRESS_BYTES = 6

_NAME = (
    r"[\w.-]*(?:password|passwd|passphrase|passwort|pwd|pass|secret|token|credentials?|(?:api|private|bind|identity|"
    r"encryption|signing|access)[ _-]?key|key|psk|irk|ltk|csrk|login|authorization|user(?:[ _-]?name)?)"
)
_QUOTE = r"\\*[\"']"
_VALUE = rf"(?P<open>{_QUOTE})(?:(?!(?P=open))(?:\\.|[^\n]))*(?P<close>(?P=open))?|[^\s,;}}\]]+"
NAMED = re.compile(
    rf"(?i)(?P<name>(?<![\w.-]){_NAME}(?:{_QUOTE})?\s*(?:=>|[=:])\s*)(?!\[\w+\])(?P<value>{_VALUE})", re.M
)
KEY = re.compile(rf"(?i){_NAME}")
HEADER = re.compile(r"(?im)\b((?:proxy-)?authorization\s*[=:]\s*|(?:set-)?cookie\s*:\s*)[^\n]+")
SCHEME = re.compile(r"(?i)\b(bearer\s+|(?:basic|digest|token)\s+(?=\S*[\d._=/+-]))\S{3,}")
SPOKEN = re.compile(
    r"(?i)\b((?:password|passwd|passphrase|pwd|secret|token|psk|irk|bind ?key)(?:\s+(?:is|was|of|to))?\s+)"
    r"(?!(?-i:[A-Za-z]?[a-z]+(?:_file)?[.,:;)]*(?=\s|$))|\S*/\S*/|\[)\S+"
)
PEM = re.compile(r"-----BEGIN [^-\n]+-----.*?(?:-----END [^-\n]+-----|\Z)", re.S)
URL_USER = re.compile(r"(?i)(//|%2f%2f)[^\s\"'<>]{1,512}(@|%40)")
BYTES = re.compile(r"\bb(['\"])(?:\\.|(?!\1)[^\n])*\\x(?:\\.|(?!\1)[^\n])*\1|(?:\\x[0-9A-Fa-f]{2}){4,}")
_OCTET = "(?:0[xX])?[0-9A-Fa-f]{2}"
SEPARATED = re.compile(rf"{_OCTET}(?P<by>[:_-]|%3[aA]|%2[dD]|\\u003[aA]|\\x3[aA]|\\:){_OCTET}(?:(?P=by){_OCTET}){{4,}}")
SPACED = re.compile(rf"(?<![0-9A-Za-z]){_OCTET}(?P<by>, ?|[ .]){_OCTET}(?:(?P=by){_OCTET}){{4,}}(?![0-9A-Za-z])")
"""As numbers in a table stand too: hex only with a letter in it."""
DOTTED = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{4}([.:-])[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}(?![0-9A-Fa-f]|\1[0-9A-Fa-f])")
EUI64 = re.compile(r"(?i)(?:[0-9a-f]{0,4}:){0,7}:?[0-9a-f]{1,2}ff:fe[0-9a-f]{2}:[0-9a-f]{1,4}")
"""An IPv6 address that is made from a hardware address."""
DECIMALS = re.compile(r"[\[(](?:\d{1,3}, ?){5}\d{1,3}[\])]")
UUID = r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])"
RUN = re.compile(rf"(?P<uuid>{UUID})|(?:0[xX])?(?<![0-9A-Fa-f])(?P<hex>[0-9A-Fa-f]{{12,}})(?![0-9A-Fa-f])")
DIGITS_MAX = 23
"""A run of decimal digits up to here is a number: times in nanoseconds and sequence numbers have 19 and 16."""

OF_DEVICE = re.compile(r"(?i)(?:[\"'/]|(?:mac|addr|address|bdaddr|dev|device|tag|peer|beacon|heard|from)[\s=:_]*)$")
OF_CONTENT = re.compile(r"sha256[\"':=\s]{1,4}$")
"""Before what tells one content from another, whole or its beginning: a configuration's, a file's."""
NEAR = 12
"""Characters before twelve decimal digits in which a word tells that they are an address; else they are a number."""


class Redactor:
    """Takes out `secrets`, and addresses but those `named` (`aa:bb:cc:dd:ee:ff`, any case)."""

    def __init__(self, secrets: Iterable[bytes] = (), named: Iterable[str] = ()) -> None:
        self._named = {_digits(address) for address in named}
        self._secrets = set(secrets)
        self._known = _pattern(self._secrets)
        self._addresses: re.Pattern[str] | None = None

    def learn(self, text: str) -> None:
        """Know the addresses that stand in `text` in a form that is an address, to find them in other forms too."""
        found = {
            bytes.fromhex(digits)
            for match in (*SEPARATED.finditer(text), *SPACED.finditer(text), *DOTTED.finditer(text))
            if len(digits := _digits(match[0])) == 2 * ADDRESS_BYTES and digits not in self._named
        }
        self._addresses = _pattern(found)

    def __call__(self, text: str) -> str:
        """Return the text without them."""
        text = PEM.sub(SECRET, text)
        if self._known is not None:
            text = self._known.sub(SECRET, text)
        text = URL_USER.sub(rf"\1{USER}\2", text)
        text = HEADER.sub(rf"\1{SECRET}", text)
        text = SCHEME.sub(rf"\1{SECRET}", text)
        text = NAMED.sub(_valued, text)
        text = SPOKEN.sub(rf"\1{SECRET}", text)
        text = BYTES.sub("[bytes]", text)
        text = SEPARATED.sub(self._separated, text)
        text = SPACED.sub(self._separated, text)
        text = DOTTED.sub(self._separated, text)
        text = EUI64.sub(ADDRESS, text)
        text = DECIMALS.sub(ADDRESS, text)
        text = RUN.sub(self._run, text)
        return text if self._addresses is None else self._addresses.sub(ADDRESS, text)

    def document(self, value: Any) -> Any:
        """Return a JSON value without them: numbers stay, and what stands under the name of a secret goes."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {
                self(str(key)): SECRET
                if isinstance(inner, str) and inner and KEY.fullmatch(str(key))
                else self.document(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.document(inner) for inner in value]
        return value

    def _separated(self, found: re.Match[str]) -> str:
        digits = _digits(found[0])
        if digits in self._named:
            return found[0]
        if found.re is not SEPARATED and not re.search("[a-fA-F]|0[xX]", found[0]):
            return found[0]
        return ADDRESS if len(digits) == 2 * ADDRESS_BYTES else HEX

    def _run(self, found: re.Match[str]) -> str:
        digits = found["hex"]
        if digits is None or digits.lower() in self._named:
            return found[0]
        before = found.string[max(0, found.start() - NEAR) : found.start()]
        if OF_CONTENT.search(before):
            return found[0]
        if digits.isdecimal() and len(digits) <= DIGITS_MAX:
            is_address = digits[0] == "0" or OF_DEVICE.search(before)
            return ADDRESS if len(digits) == 2 * ADDRESS_BYTES and is_address else found[0]
        return ADDRESS if len(digits) == 2 * ADDRESS_BYTES else HEX


def _valued(found: re.Match[str]) -> str:
    return f"{found['name']}{found['open'] or ''}{SECRET}{found['close'] or ''}"


def _digits(address: str) -> str:
    """Return the bare digits of an address or hex text in any notation."""
    bare = re.sub(r"(?i)%3a|%2d|\\u003a|\\x3a|0x", "", address)
    return re.sub("[^0-9a-f]", "", bare.lower())


def _pattern(secrets: Iterable[bytes]) -> re.Pattern[str] | None:
    """Return what finds these secrets in every notation, the longest first, None where there are none."""
    found = {form for secret in secrets if secret for form in _forms(secret)}
    return re.compile("|".join(sorted(found, key=len, reverse=True))) if found else None


def _forms(secret: bytes) -> Iterator[str]:
    """Yield a pattern for each notation of a secret."""
    texts = (
        {secret.decode("utf-8", "replace"), secret.decode("latin-1")} if secret.isascii() or _text(secret) else set()
    )
    for text in texts:
        if len(text) < SHORT:
            yield rf"(?<!\w){re.escape(text)}(?!\w)"
            continue
        yield "".join(
            map(_character, re.sub(r"\\+", r"\\", text))
        )  # of backslashes a run is one, however often escaped
    for octets in {secret, secret[::-1]}:
        if len(octets) >= SHORT:
            yield "(?i:" + "(?:[:_ .-]|, ?)?".join(rf"(?:0x|%|\\x)?{octet:02x}" for octet in octets) + ")"
        if len(octets) >= ADDRESS_BYTES:
            yield ",? ?".join(rf"(?<!\d)0*{octet}(?!\d)" for octet in octets)
            yield rf"(?<!\d){int.from_bytes(octets)}(?!\d)"
        for offset in range(3):
            whole = base64.b64encode(bytes(offset) + octets).decode()
            core = whole[(0, 2, 3)[offset] : (offset + len(octets)) * 8 // 6]
            if len(core) >= BASE64_LEAST:
                either = re.escape(core).replace(r"\+", "[+-]").replace("/", "[/_]")
                yield rf"[A-Za-z0-9+/_-]{{0,256}}{either}[A-Za-z0-9+/_-]*={{0,2}}"


def _character(one: str) -> str:
    """Return a pattern for a character of a text as it is and as JSON, Python, a shell, a URL and HTML write it.

    Each of them escapes some characters and not others, and escaped text may be escaped again.
    """
    octets = one.encode("utf-8", "surrogatepass")
    escaped = {one, json.dumps(one)[1:-1], repr(one)[1:-1], "".join(rf"\x{octet:02x}" for octet in octets)}
    bodies = {SLASHES.join(map(re.escape, form.lstrip("\\").split("\\"))) for form in escaped} - {""}
    exact = [f"{SLASHES}{body}" for body in bodies] + ([r"\\{1,64}"] if one == "\\" else [])
    encoded = {"".join(f"%{octet:02x}" for octet in octets), quote(one, safe=""), html.escape(one)}
    encoded |= {f"&#{ord(one)};", f"&#x{ord(one):x};", "+" if one == " " else one}
    loose = [f"(?i:{re.escape(form)})" for form in encoded - {one}]
    return f"(?:{'|'.join(sorted(exact) + sorted(loose))})"


def _text(secret: bytes) -> bool:
    try:
        return secret.decode().isprintable()
    except UnicodeDecodeError:
        return False
