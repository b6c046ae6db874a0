"""The settings of a scanner: its adapter, its rules of tags, its spans of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from gateway.sensors.scanner.tags import TagRule, repeated_selectors
from gateway.units import Identifier, Pattern, Seconds
from gateway.wrong import Wrong, refuse

RSSI_DBM_MIN = -126
RSSI_DBM_MAX = 20
"""Outside, RSSI is not available (Core Specification vol 4 part E section 7.7.65.2: 127)."""


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """One `[[scanner]]`."""

    id: Identifier
    adapter: Annotated[str, Pattern(r"hci[0-9]{1,2}", 'a Bluetooth adapter such as "hci0"')] = "hci0"
    driver: Literal["bluepy", "bleak"] = "bluepy"
    mode: Literal["passive", "active"] = "passive"
    left_after_s: Annotated[Seconds, Ge(1), Le(86_400)] = 30.0
    counted_every: Annotated[Seconds, Ge(1), Le(86_400)] = 900.0
    telemetry_every: Annotated[Seconds, Ge(0), Le(86_400)] = 300.0
    arrive_rssi_dbm: Annotated[int, Ge(RSSI_DBM_MIN), Le(RSSI_DBM_MAX)] = -90
    path_loss_exponent: Annotated[float, Gt(0), Le(10)] = 2.5
    tags: tuple[TagRule, ...] = ()

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if repeated := repeated_selectors(self.tags):
            yield Wrong("tags", f"two rules of tags look for the same: {', '.join(repeated)}", is_shown=False)
