"""What the well-known MQTT services allow. The broker's CONNACK can only tighten these.

Law: facts as data, each with its page. Rates are used at 80 %, so that bursts stay under the service's own meter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RATE_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits of one service; None: the service states none."""

    name: str
    inflight_max: int | None = None
    messages_per_s: float | None = None
    bytes_per_s: float | None = None
    payload_bytes_max: int | None = None
    topic_bytes_max: int = 65_535
    topic_slashes_max: int | None = None
    client_id_max: int | None = None
    retain_available: bool = True
    alpn_on_443: str | None = None


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("generic"),
        # docs.aws.amazon.com/general/latest/gr/iot-core.html; ALPN: the AWS IoT page on protocols and ports
        Profile("aws-iot", 100, 100.0, 512 * 1024.0, 128 * 1024, 256, 7, 128, alpn_on_443="x-amzn-mqtt-ca"),
        # learn.microsoft.com/azure/event-grid/quotas-limits (the older, tighter copy for the rate)
        Profile("azure-event-grid", 1000, 100.0, 1_000_000.0, 512 * 1024, 256, 7, 128),
        # docs.hivemq.com: payloads are read from CONNACK
        Profile("hivemq-cloud"),
        # docs.emqx.com, serverless restrictions: 10 messages/s a client, 1 MB
        Profile("emqx-cloud", None, 10.0, None, 1_000_000, client_id_max=1024),
    )
}
