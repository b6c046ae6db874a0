"""The `[outbox]` section of the configuration: where, how much, how long, and what a power cut may cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from gateway.model import STREAMS, Stream
from gateway.streams import declared
from gateway.units import Bytes, Milliseconds, Seconds
from gateway.wrong import Wrong, refuse

BYTES_MAX_LEAST = 256 << 10  # below it the segments of four streams, the state and a floor each do not fit
COMMIT_INTERVALS_MS: dict[Stream, float] = {one.name: one.commit_interval_ms for one in declared()}
if TYPE_CHECKING:
    StreamKey = Stream
else:
    StreamKey = Literal[STREAMS]  # so that a key that is none is reported with the nearest that is


@dataclass(frozen=True, slots=True)
class PerStream:
    """Marks a table with one value a stream that may also be written as one value for all, or only in part."""

    defaults: dict[Stream, float]

    def read(self, value: Any) -> Any:
        """Return the full table."""
        if isinstance(value, dict):
            return {**self.defaults, **value}
        return dict.fromkeys(STREAMS, value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        quantity = {"type": ["number", "string"]}
        table = {
            "type": "object",
            "properties": dict.fromkeys(STREAMS, quantity),
            "additionalProperties": False,
        }
        return {"anyOf": [quantity, table]}


CommitIntervals = Annotated[dict[StreamKey, Milliseconds], PerStream(COMMIT_INTERVALS_MS)]


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """What the outbox may use and what it promises."""

    directory: str = "/var/lib/gateway/outbox"  # systemd's StateDirectory
    bytes_max: Bytes = 1 << 30  # of everything in `directory`: some 3 million events, on the smallest card still sold
    age_max: Seconds = 30 * 86_400.0  # older counts help nobody; applied only while the clock is trusted
    commit_interval_ms: CommitIntervals = field(
        default_factory=lambda: dict(COMMIT_INTERVALS_MS)
    )  # card wear against loss
    keep_acknowledged: Seconds = 7200.0  # a PUBACK is not durability at the broker: time to notice a gap and ask
    key_file: Path | None = None  # 32 random bytes, raw or as hex or base64: what is recorded is sealed under them
    old_key_file: Path | None = None  # opens what is sealed, and seals nothing: a key that was changed, or taken out

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if self.bytes_max < BYTES_MAX_LEAST:
            yield Wrong("bytes_max", f"must be at least 256 KiB, found {self.bytes_max} bytes", is_shown=False)
        unknown = set(self.commit_interval_ms) - set(STREAMS)
        if unknown:
            why = f"knows {', '.join(STREAMS)}, found {', '.join(sorted(unknown))}"
            yield Wrong("commit_interval_ms", why, is_shown=False)
        if any(not 0 <= interval <= 60_000 for interval in self.commit_interval_ms.values()):
            stream, interval = next(one for one in self.commit_interval_ms.items() if not 0 <= one[1] <= 60_000)
            why = f"{stream} must lie between 0 and 60000 ms, found {interval:g} ms"
            yield Wrong("commit_interval_ms", why, is_shown=False)
        if not self.directory:
            yield Wrong("directory", "must not be empty")
        if self.age_max <= 0:
            yield Wrong("age_max", "must be longer than nothing")

    def interval_ns(self, stream: Stream) -> int:
        """Return how long an event of the stream may wait for its commit, in nanoseconds."""
        return int(self.commit_interval_ms.get(stream, COMMIT_INTERVALS_MS[stream]) * 1e6)
