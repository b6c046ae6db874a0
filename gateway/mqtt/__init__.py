"""The link to a broker: the only room that knows MQTT's library, its sockets, and why a connection failed.

`link` obeys the uplink's orders by one `connection` after the other; `client` makes paho's Client from what `dial`
reads, over a `line` that may lead through a `proxy`; `heard` is what the broker said, `reasons` says failures in words.
"""
