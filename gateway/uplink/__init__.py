"""The uplink: what goes to the broker when, and what an answer means. Values, signals and time in, orders out.

`policy` decides on the link's life, `conversation` on one connection; `traffic` weighs `lanes`, `window` and those sent
alone (`suspects`) against each other. It opens no socket and reads no clock: the link itself is `gateway.mqtt`.
"""
