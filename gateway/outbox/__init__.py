"""The durable queue on TinyDB: `Outbox` records and hands out, `OutboxReader` looks beside a running daemon."""

from gateway.outbox.losses import DescribeLoss
from gateway.outbox.outbox import Outbox
from gateway.outbox.query import QueryError, parse_query
from gateway.outbox.reader import OutboxReader
from gateway.outbox.record import Damage
from gateway.outbox.recovery import Created
from gateway.outbox.sealing import PLAIN, Sealing
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.status import OutboxStatus, Positions
from gateway.outbox.writing import InlineWriter, ThreadWriter, Writer

__all__ = [
    "PLAIN",
    "Created",
    "Damage",
    "DescribeLoss",
    "InlineWriter",
    "Outbox",
    "OutboxReader",
    "OutboxSettings",
    "OutboxStatus",
    "Positions",
    "QueryError",
    "Sealing",
    "ThreadWriter",
    "Writer",
    "parse_query",
]
