"""The commented configuration that `gateway config example` writes: it passes `gateway config check` as it stands."""

EXAMPLE = """\
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

[[door]]                             # two beams, one behind the other, tell the direction
id = "entrance"
outer_pin = 17
inner_pin = 27
# blocked_after_s = 10
# counted_every = "15 min"

[[door]]                             # a single beam counts, without direction
id = "back"
beam_pin = 22
# wiring = "beam"                    # or "reed" (door opened), "turnstile" (a pulse a turn), "mat" (steps)
# pull = "up"                        # or "down", "floating"
# broken_when = "low"                # or "high": the pin's level while the beam is broken or the contact closed

[[shelf]]
id = "aisle-3"
driver = "hx711"
data_pin = 5
clock_pin = 6
rate_hz = 10                         # the chip's RATE pin: 10 or 80
products = [{ sku = "4006381333931", unit_grams = 330.0, capacity = 24, low_below = 6 }]
calibration = { offset_counts = 84213, counts_per_gram = 21.5 }

[[scanner]]
id = "ble"
adapter = "hci0"
# driver = "bluepy"                  # or "bleak": through BlueZ, without capabilities; always an active scan
# mode = "passive"                   # or "active"
# left_after_s = 30
tags = [
  { tag = "loyalty", ibeacon = { uuid = "f7826da6-4fa2-4e98-8024-bc5b71e0893e" } },
  { tag = "cart-12", address = "c4:64:e3:00:00:01" },
  { tag = "fridge", eddystone = { namespace = "edd1ebeac04e5defa017" } },
  { tag = "cold-room", address = "c4:64:e3:00:00:02", telemetry = true },
  # Devices that change their address or identifier, by their keys: 32 hex digits in a file; store-gateway[bthome]
  # { tag = "badge", irk_file = "/etc/gateway/badge.irk" },
  # { tag = "crate", eddystone_eid = { key_file = "/etc/gateway/crate.eid", started = "2026-01-31T09:00:00Z" } },
]

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
