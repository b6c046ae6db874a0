"""The link to a broker: the only room that knows MQTT's library, its sockets, and why a connection failed.

`link` obeys the uplink's orders on paho, `dial` reads what a connection needs, `reasons` says failures in words.
"""

from gateway.mqtt.link import LinkTimes, PahoLink

__all__ = ["LinkTimes", "PahoLink"]
