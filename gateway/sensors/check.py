"""What `gateway doctor` finds about the hardware and the libraries of one sensor, without opening either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INSTALL = "pip install 'store-gateway[pi]' in the gateway's environment"


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at. `why` says why it matters, `advice` what to do; `code` is stable."""

    result: Literal["ok", "warning", "failed"]
    found: str
    why: str = ""
    advice: str = ""
    code: str = ""
