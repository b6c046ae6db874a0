"""The demonstration without a person: run, cut the line, mend it, wait until all is delivered, stop, sum up.

Law: it ends by itself, within its time and `COMPLETE_WITHIN_S`, and says in lines what happens.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.consumer.messages import Delivery
from gateway.consumer.words import line_of
from gateway.demo.stage import Stage, Summary

LENGTH_S = 30.0
CUT_FROM = 0.35
CUT_THROUGH = 0.75
"""Shares of the length: the line is cut from there to there."""
UP_WITHIN_S = 15.0
COMPLETE_WITHIN_S = 20.0
TOLD_EVERY_S = 2.0

Say = Callable[[str], object]


class Script:
    """Plays on a stage; `say` takes each line."""

    def __init__(self, stage: Stage, say: Say, length_s: float = LENGTH_S) -> None:
        self.stage = stage
        self.say = say
        self.length_s = length_s
        self._backlog_told = 0

    def play(self) -> Summary:
        """Play to the end. Raises Unavailable where the daemon ends by itself."""
        stage = self.stage
        self.say(f"a broker ({stage.broker.name}, MQTT {stage.protocol}), a simulated shop and the daemon are running")
        self._until(lambda: stage.is_up, UP_WITHIN_S)
        began_s = stage.now_s()
        self._until(lambda: False, self.length_s * CUT_FROM)
        self.say("--- the line to the broker is cut: events are recorded on, and wait")
        stage.cut()
        self._until(lambda: False, self.length_s * (CUT_THROUGH - CUT_FROM))
        waiting = stage.backlog
        self.say(f"--- the line is mended: {waiting} events wait; live ones go first, the others beside them (late)")
        stage.mend()
        mended_s = stage.now_s()
        if self._until(lambda: stage.is_all_delivered, COMPLETE_WITHIN_S):
            self.say(f"--- all of them delivered, {stage.now_s() - mended_s:.1f} s after the line was mended")
        self._until(lambda: False, began_s + self.length_s - stage.now_s())
        self.say("--- the daemon is asked to stop")
        summary, last = stage.finish()
        self._tell(last)
        return summary

    def _until(self, done: Callable[[], bool], within_s: float) -> bool:
        """Let things happen, telling them, until `done()` (True) or for `within_s` (False)."""
        stage = self.stage
        until_s = stage.now_s() + within_s
        while not done():
            left_s = until_s - stage.now_s()
            if left_s <= 0:
                return False
            self._tell(stage.pump(wait_s=min(0.1, left_s)))
            self._tell_backlog()
            stage.check()
        return True

    def _tell(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.say(line_of(delivery))

    def _tell_backlog(self) -> None:
        second = int(self.stage.now_s() / TOLD_EVERY_S)
        if self.stage.line.is_cut and second != self._backlog_told:
            self._backlog_told = second
            self.say(f"              (cut)        {self.stage.backlog} events wait in the outbox")


def lines_of(summary: Summary) -> list[str]:
    """Write a summary for people."""
    verdict = "complete" if summary.complete else "NOT complete"
    stopped = "stopped cleanly" if summary.clean else "did not stop cleanly"
    counts = ("recorded", "delivered", "duplicates", "gaps", "lost")
    return [
        "",
        ", ".join(f"{name} {getattr(summary, name)}" for name in counts),
        f"The consumer's ledger is {verdict}: {summary.cuts} cut{'' if summary.cuts == 1 else 's'} of the line, "
        f"up to {summary.backlog_max} events waited; the daemon {stopped}.",
    ]
