"""The durable queue on TinyDB: `Outbox` records and hands out, `OutboxReader` looks beside a running daemon."""

from gateway.outbox.outbox import DescribeLoss, Outbox, OutboxStatus, Positions
from gateway.outbox.recovery import Created
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter, ThreadWriter, Writer

__all__ = [
    "Created",
    "DescribeLoss",
    "InlineWriter",
    "Outbox",
    "OutboxSettings",
    "OutboxStatus",
    "Positions",
    "ThreadWriter",
    "Writer",
]
