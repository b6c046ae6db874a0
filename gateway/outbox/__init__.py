"""The durable queue on TinyDB: `Outbox` records and hands out, `OutboxReader` looks beside a running daemon."""
