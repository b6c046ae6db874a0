"""Publishes a dead gateway's exported events under their own names: batches on their own backfill topic, QoS 1.

Law: an envelope is sent as it was exported, byte for byte: the same id, source, outbox, epoch, stream and sequence. So
a consumer drops what the dead gateway had delivered already, and its completeness counts on. At least once: what is not
acknowledged when this ends is sent again by the next import. It has one connection beside the daemon's, made alike.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gateway.errors import GatewayError, Unavailable
from gateway.model import Acknowledgements, LinkDown, Message
from gateway.mqtt.visit import Visit, as_error
from gateway.uplink.refusals import refusal_sentence
from gateway.uplink.settings import BrokerSettings

BATCH_EVENTS_MAX = 100
BATCH_BYTES_MAX = 32 * 1024  # contract section 5
INFLIGHT_MAX = 8  # batches on the way: nobody waits for this, and a shop's line is thin
ANSWER_WITHIN_S = 10.0
FAILURE = 0x80
CONTENT_TYPE = "application/cloudevents-batch+json"


class NotTaken(GatewayError):
    """The broker refused a batch for good: most often it lets a gateway write below its own topic only."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Envelopes of one gateway, and the topic they go to."""

    topic: str
    envelopes: tuple[bytes, ...]

    @property
    def payload(self) -> bytes:
        return b"[" + b",".join(self.envelopes) + b"]"


def batches(events: Iterable[tuple[str, bytes]]) -> Iterator[Batch]:
    """Gather (topic, envelope) in their order into batches of at most 100 events and 32 KiB, one topic each."""
    topic, gathered, size = "", list[bytes](), 2
    for where, envelope in events:
        is_full = len(gathered) >= BATCH_EVENTS_MAX or size + len(envelope) + 1 > BATCH_BYTES_MAX
        if gathered and (where != topic or is_full):
            yield Batch(topic, tuple(gathered))
            gathered, size = [], 2
        topic = where
        gathered.append(envelope)
        size += len(envelope) + 1
    if gathered:
        yield Batch(topic, tuple(gathered))


def republish(
    settings: BrokerSettings, events: Iterable[tuple[str, bytes]], taken: Callable[[int], None] = lambda count: None
) -> int:
    """Publish all of `events` and wait for each acknowledgement; return how many events the broker has taken.

    `taken` is told the number of events of each acknowledged batch. Raises Unavailable where no broker answers or the
    connection ends, NotTaken where it refuses a batch.
    """
    assert settings.url is not None
    visit = Visit(settings, f"import-{secrets.token_hex(6)}")
    done = 0
    waiting: dict[int, Batch] = {}
    try:
        said = visit.connect()
        if isinstance(said, LinkDown):
            raise as_error(settings.url, said)
        for number, batch in enumerate(batches(events), 1):
            visit.obey(Message(number, batch.topic, batch.payload, content_type=CONTENT_TYPE))
            waiting[number] = batch
            while len(waiting) >= min(INFLIGHT_MAX, said.receive_maximum or INFLIGHT_MAX):
                done += _hear(visit, waiting, taken)
        while waiting:
            done += _hear(visit, waiting, taken)
    finally:
        visit.close()
    return done


def _hear(visit: Visit, waiting: dict[int, Batch], taken: Callable[[int], None]) -> int:
    """Wait for what the broker says of the batches under way; return how many events it has taken."""
    said = visit.next(ANSWER_WITHIN_S)
    if said is None or isinstance(said, LinkDown):
        why = f"nothing was heard for {ANSWER_WITHIN_S:g} s" if said is None else said.detail
        raise Unavailable(f"the connection to the broker ended: {why}", "run it again: nothing is counted twice")
    done = 0
    for number, code in said.words if isinstance(said, Acknowledgements) else ():
        batch = waiting.pop(number, None)
        if batch is None:
            continue
        if code >= FAILURE:
            raise NotTaken(
                f"the broker does not take events on {batch.topic}: {refusal_sentence(code)}",
                "publish them below this gateway's own topic with --here, or let this client write there",
            )
        taken(len(batch.envelopes))
        done += len(batch.envelopes)
    return done
