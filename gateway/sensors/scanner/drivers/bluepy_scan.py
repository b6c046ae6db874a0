"""The scanner's driver on bluepy: a continuous scan that is watched, begun anew, and never trusted.

One thread serves one helper program at a time (`bluepy_helper`). What the helper or the adapter refuses becomes a fault
with its reason; the thread then tries again with back-off. Silence is met by the ladder of `silence`: scan, helper,
adapter power, and at last the sentence that a person has to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S
from gateway.sensors.drivers import DriverError, Supervised
from gateway.sensors.scanner.drivers.adapter_power import cycle_power
from gateway.sensors.scanner.drivers.bluepy_helper import ADAPTERS, HelperCounts, HelperRun, Patience, Stopped
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.silence import STEP_S, Rung, Silence

LISTEN_S = 1.0
SETTLED_S = 10.0
"""A helper that died sooner is not taken for well again at its first advertisement."""
RENEWED_MAX = 20
"""Times that a scan may end by itself within `RENEWED_WITHIN_S`; active, the kernel ends it every 10.24 s."""
RENEWED_WITHIN_S = 30.0


@dataclass(slots=True)
class LadderCounts:
    """How often each rung of the ladder was tried."""

    scans_restarted: int = 0
    helpers_restarted: int = 0
    power_cycled: int = 0
    power_refused: int = 0


class BluepyScan(Supervised):
    """Driver of one `[[scanner]]`. The constructor's last arguments are for tests."""

    def __init__(
        self,
        settings: ScannerSettings,
        clock: Clock,
        patience: Patience = Patience(),  # noqa: B008 (frozen)
        silence_step_s: float = STEP_S,
        settled_s: float = SETTLED_S,
        adapters: Path = ADAPTERS,
    ) -> None:
        super().__init__(settings.id, clock)
        self._settings = settings
        self._patience = patience
        self._settled_ns = int(settled_s * NS_PER_S)
        self._adapters = adapters
        self._listen_s = min(LISTEN_S, silence_step_s)
        self._silence = Silence(clock.now().boot_ns, silence_step_s)
        self._helper = HelperCounts()
        self._ladder = LadderCounts()
        self._is_shaky = False

    def counted(self) -> Mapping[str, int]:
        silence_s = self._silence.silence_s(self.clock.now().boot_ns)
        return {
            **asdict(self._helper),
            **asdict(self._ladder),
            "silence_s": silence_s,
        }

    def work(self) -> None:
        while not self.stopping.is_set():
            self.alive()
            run = HelperRun(
                sensor=self._settings.id,
                adapter=self._settings.adapter,
                is_active=self._settings.mode == "active",
                clock=self.clock,
                emit=self.emit,
                stopping=self.stopping,
                counts=self._helper,
                patience=self._patience,
                adapters=self._adapters,
            )
            began_ns = self.clock.now().boot_ns
            try:
                run.start()
                self._serve(run, began_ns)
            except Stopped:
                return
            except DriverError:
                self._is_shaky = self.clock.now().boot_ns - began_ns < self._settled_ns
                raise
            finally:
                run.close()

    def _serve(self, run: HelperRun, began_ns: int) -> None:
        """Listen until the helper is to be started anew."""
        renewed_ns: list[int] = []
        while not self.stopping.is_set():
            self.alive()
            heard_ns = run.heard_ns
            run.listen(self._listen_s)
            now_ns = self.clock.now().boot_ns
            is_settled = now_ns - began_ns >= self._settled_ns
            if run.heard_ns is not None and run.heard_ns != heard_ns:
                self._silence.heard(run.heard_ns)
                if is_settled or not self._is_shaky:
                    self.good()
            elif is_settled and not self._silence.is_told:
                self.good()  # the adapter obeyed and the helper lives: all that can be known in a quiet room
            if run.scan_ended:
                self._renew(run, renewed_ns, now_ns)
            elif (rung := self._silence.step(now_ns)) is not None and self._climb(rung, run):
                return

    def _renew(self, run: HelperRun, renewed_ns: list[int], now_ns: int) -> None:
        self._helper.scans_renewed += 1
        renewed_ns.append(now_ns)
        if len(renewed_ns) > RENEWED_MAX and now_ns - renewed_ns.pop(0) < RENEWED_WITHIN_S * NS_PER_S:
            raise DriverError(
                "scan_refused", f"another program keeps ending the scan of {self._settings.adapter} (bluetoothd?)"
            )
        run.begin_scan()

    def _climb(self, rung: Rung, run: HelperRun) -> bool:
        """Try one rung; return whether the helper is to be started anew."""
        if rung == "scan":
            self._ladder.scans_restarted += 1
            run.restart_scan()
            return False
        if rung == "power":
            run.close()
            if cycle_power(self._settings.adapter, self.stopping):
                self._ladder.power_cycled += 1
            else:
                self._ladder.power_refused += 1
        elif rung == "silent":
            minutes = self._silence.silence_s(self.clock.now().boot_ns) // 60
            self.fail(
                "silent",
                f"nothing has been heard for {minutes} min, longer than is usual here, though the adapter "
                f"{self._settings.adapter} obeys; hold a phone near it, and if that is not heard, reboot the gateway",
            )
        self._ladder.helpers_restarted += 1
        return True
