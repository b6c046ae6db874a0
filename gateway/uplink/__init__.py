"""The uplink: what goes to the broker when, and what an answer means. Values, signals and time in, orders out.

`policy` decides on the link's life, `conversation` on one connection; `traffic` weighs `lanes`, `window` and those sent
alone (`suspects`) against each other. It opens no socket and reads no clock: the link itself is `gateway.mqtt`.
"""

from gateway.uplink.policy import Pace, Uplink
from gateway.uplink.settings import BrokerSettings, Endpoint
from gateway.uplink.status import UplinkStatus

__all__ = ["BrokerSettings", "Endpoint", "Pace", "Uplink", "UplinkStatus"]
