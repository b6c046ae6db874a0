"""The commented configuration that `gateway config example` writes: it passes `gateway config check` as it stands."""

from gateway.model import STREAMS
from gateway.sensors import kinds

HEAD = """\
# The configuration of one gateway. Check it with: gateway config check --config FILE
# What stands behind a # is a default, or what else is possible. Pins are BCM numbers (GPIO17 is 17), as on the drawing
# of `gateway wiring`. Durations and sizes are texts with a unit: "10 s", "15 min", "30 d", "512 MiB".

[site]
store = "0042"                       # which shop: 1 to 64 of A-Z a-z 0-9 _ -
gateway = "front"                    # which gateway of it; without this line: the host name
timezone = "Europe/Berlin"           # without this line: the machine's

[broker]
url = "mqtts://mqtt.example.com:8883"                 # mqtt, mqtts, ws or wss
# username = "gw-0042"
# password_file = "/etc/gateway/broker.password"      # one line, readable by the gateway's user alone
# password_file = "/run/credentials/gateway.service/secrets_broker.password"   # for root alone, in /etc/gateway/secrets
# ca_file = "/etc/gateway/ca.pem"                     # without this line: the system's store
# cert_file = "/etc/gateway/gateway.pem"              # mutual TLS, with key_file
# key_file = "/etc/gateway/gateway.key"
# client_id = "0042.front"                            # without this line: {store}.{gateway}
# profile = "generic"                                 # or aws-iot, azure-event-grid, hivemq-cloud, emqx-cloud
# protocol = "auto"                                   # or "5", "3.1.1"
# keepalive_s = 30
# reconnect_max_s = 300
# inflight_max = 100
# inflight_bytes_max = "adaptive"                     # or a size
# resync = "live-first"                               # or "in-order"
# backfill_compression = "none"                       # or "gzip"
# topic_prefix = "stores"
# discovery = "none"                                  # or "home-assistant": door totals, shelf levels, health
# proxy = "http://proxy.example.com:3128"             # or socks5://; it looks the broker's name up
# proxy_username = "gateway"                          # with proxy_password_file

[outbox]
directory = "/var/lib/gateway/outbox"
# bytes_max = "1 GiB"                                 # of everything in the directory
# age_max = "30 d"
# commit_interval_ms = { door = 50, shelf = 200, beacon = 1000, gateway = 1000 }   # what a power cut may cost
# keep_acknowledged = "2 h"                           # for the cloud's `resend`
# key_file = "/run/credentials/gateway.service/secrets_outbox.key"   # /etc/gateway/secrets/outbox.key: sealed
# old_key_file = "/etc/gateway/old.key"               # opens what is sealed, seals nothing: a key on its way out
"""
TAIL = """\
[privacy]
# identity = "pseudonym"             # or "plain", "none"
# anonymous_min = 5                  # strangers are counted, and fewer than this are not told

[commands]
# allow = ["ping", "status", "doctor", "resend"]      # what the cloud may order
#   key_file = "/etc/gateway/command.pub"   # Ed25519: config and restart must be signed by its private key
#   resend_bytes_per_hour = "64 MiB"   # as much of what "resend" asks for
#   config_keys = ["health.every"]   # what "config" may change; never hosts, files, pins, identities
#   response_prefix = "answers/"     # answers go below it too, not only below the own topics

[health]
# every = "5 min"
"""


def example() -> str:
    """Return the whole text; each kind of sensor brings an example of its own."""
    in_order = sorted(kinds(), key=lambda kind: STREAMS.index(kind.stream))
    return "\n".join([HEAD, *(kind.example for kind in in_order if kind.example), TAIL])
