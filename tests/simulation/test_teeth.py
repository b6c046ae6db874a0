"""The simulator bites: bugs planted in the real rooms, one at a time, each found within a stated number of histories.

A bug is what somebody might write in good faith. Where none of the histories complains, the simulator has lost a tooth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway import wire
from gateway.engine import assembly, interpretation
from gateway.model import STREAMS, Acknowledged, Instant
from gateway.outbox import commit, losses, outbox, retention, saving, stream
from gateway.uplink import conversation, lanes, policy, traffic
from tests.simulation import histories
from tests.simulation.disk import ModelDisk
from tests.simulation.histories import Failed, run

Patch = pytest.MonkeyPatch


def published_before_durable(patch: Patch) -> None:
    """What is appended counts as recorded at once."""
    push = stream.StreamLog.push

    def pushing(self: Any, payload: bytes, now_ns: int) -> int:
        number = push(self, payload, now_ns)
        self.durable = number
        return number

    patch.setattr(stream.StreamLog, "push", pushing)


def no_rewind_when_the_link_ends(patch: Patch) -> None:
    """The next connection goes on behind what was sent, not behind what was acknowledged."""
    opening, pop = lanes.Lanes.open, lanes.Lanes._pop

    def open_behind(self: Any, now: Instant) -> None:
        opening(self, now)
        for name, track in self._back.items():
            track.after = max(track.after, getattr(self, "sent", {}).get(name, 0))

    def popping(self: Any, name: Any, track: Any) -> Any:
        entry = pop(self, name, track)
        if entry is not None:
            self.sent = {**getattr(self, "sent", {}), name: entry.sequence}
        return entry

    patch.setattr(lanes.Lanes, "open", open_behind)
    patch.setattr(lanes.Lanes, "_pop", popping)


def the_highest_is_acknowledged(patch: Patch) -> None:
    """An acknowledgement counts for everything before it, too."""
    acknowledge = outbox.Outbox.acknowledge
    patch.setattr(outbox.Outbox, "acknowledge", lambda self, name, first, last: acknowledge(self, name, 1, last))


def a_refusal_is_an_acknowledgement(patch: Patch) -> None:
    """The reason code of a PUBACK is not looked at."""
    acknowledged = conversation.Conversation.acknowledged

    def any_code(self: Any, token: int, reason_code: int, now: Instant) -> None:
        acknowledged(self, token, 0, now)

    patch.setattr(conversation.Conversation, "acknowledged", any_code)


def losses_are_not_told(patch: Patch) -> None:
    """What is set aside or shed is settled without a record."""

    def quietly(self: Any, now: Instant, is_flooded: bool) -> None:
        for loss in self.owed:
            self._logs[loss.stream].settle(loss.first, loss.last)
        self.owed = []

    patch.setattr(losses.Losses, "record", quietly)


def the_epoch_is_not_raised(patch: Patch) -> None:
    """An opening goes on in the epoch that it finds."""
    patch.setattr(outbox, "leap_epoch", lambda epoch, leap: max(1, epoch - 1))


def backfill_begins_behind_the_highest_interval(patch: Patch) -> None:
    """What lies between the backlog's beginning and the last thing acknowledged is passed over."""
    opening = lanes.Lanes.open

    def open_behind(self: Any, now: Instant) -> None:
        opening(self, now)
        for name, track in self._back.items():
            log = self._outbox._logs[name]
            track.after = max(track.after, log.settled.highest)

    patch.setattr(lanes.Lanes, "open", open_behind)


def an_unsynced_time_is_now_at_sending(patch: Patch) -> None:
    """An estimate is made as the entry leaves, by a clock that has gone on since."""

    envelope = wire.Wire.envelope

    def later(self: Any, entry: Any, anchors: Any) -> bytes:
        return envelope(self, entry, {boot: anchor_ms + 5_000 for boot, anchor_ms in anchors.items()})

    patch.setattr(wire.Wire, "envelope", later)


def totals_know_more_than_the_disk(patch: Patch) -> None:
    """The memory is saved as it is, whatever of it has been recorded."""

    def taking(self: Any, memory: Any) -> None:
        marks: Any = {name: log.durable for name, log in self.logs.items()}
        self.remembered = saving.Remembered(memory.text(), marks)

    patch.setattr(saving.Saver, "snapshot", taking)


def totals_are_not_brought_up_to_date(patch: Patch) -> None:
    """After a power cut the memory is taken as it was saved."""
    patch.setattr(assembly, "recall", lambda box, remember: box.memory.streams.get("door", {}))


def no_directory_is_synced(patch: Patch) -> None:
    """A new file's name is left to the kernel."""
    patch.setattr(ModelDisk, "sync_directory", lambda self, path: None)


def the_bound_is_forgotten(patch: Patch) -> None:
    """There is always room for one more file."""
    patch.setattr(retention.Retention, "has_room", lambda self, name, size_bytes: True)


def the_window_is_forgotten(patch: Patch) -> None:
    """Receive Maximum is the broker's affair."""
    patch.setattr(traffic.Traffic, "has_slot", lambda self, flights: True)


def commits_wait_for_company(patch: Patch) -> None:
    """A commit is made when ten seconds have passed, whatever the interval."""
    due = commit.Committer.due_ns
    patch.setattr(commit.Committer, "due_ns", lambda self, log: None if (at := due(self, log)) is None else at + 10**10)


def an_old_links_word_is_believed(patch: Patch) -> None:
    """Tokens begin anew with each connection, as packet ids do, and nobody asks of which one a word is."""
    handle, link_up = policy.Uplink.handle, policy.Uplink._link_up

    def any_link(self: Any, signal: Any, now: Instant) -> None:
        handle(self, replace(signal, link=self._link) if isinstance(signal, Acknowledged) else signal, now)

    def anew(self: Any, signal: Any, now: Instant) -> None:
        self._tokens = itertools.count(1)
        link_up(self, signal, now)

    patch.setattr(policy.Uplink, "handle", any_link)
    patch.setattr(policy.Uplink, "_link_up", anew)


def who_asks_again_has_the_rest(patch: Patch) -> None:
    """What a consumer asks for is taken as delivered before it is."""
    resend = lanes.Lanes.resend

    def settled(self: Any, name: Any, first: int, last: int) -> Any:
        ranges = resend(self, name, first, last)
        for run_first, run_last in ranges:
            self._outbox.acknowledge(name, run_first, run_last)
        return ranges

    patch.setattr(lanes.Lanes, "resend", settled)


def a_resend_overtakes(patch: Patch) -> None:
    """What is asked for again goes at once, also where it was never sent."""
    patch.setattr(lanes.Lanes, "_unacknowledged", lambda self, name, first, found: set())


def a_resend_dies_with_its_link(patch: Patch) -> None:
    """What was asked for is forgotten when the link ends."""
    close = lanes.Lanes.close

    def forgetting(self: Any) -> None:
        close(self)
        self._resends.clear()

    patch.setattr(lanes.Lanes, "close", forgetting)


def an_interpreter_may_raise_through(patch: Patch) -> None:
    """Whatever the interpretation raises leaves the step."""

    def raising(self: Any, reading: Any) -> Any:
        raise KeyError(reading.sensor)

    patch.setattr(interpretation.Interpretation, "read", raising)


BUGS: tuple[tuple[Callable[[Patch], None], int, int], ...] = (
    (published_before_durable, 0, 10),
    (no_rewind_when_the_link_ends, 12, 60),
    (the_highest_is_acknowledged, 0, 20),
    (a_refusal_is_an_acknowledgement, 0, 20),
    (losses_are_not_told, 0, 20),
    (the_epoch_is_not_raised, 0, 20),
    (backfill_begins_behind_the_highest_interval, 51, 100),
    (an_unsynced_time_is_now_at_sending, 0, 20),
    (totals_know_more_than_the_disk, 120, 100),
    (totals_are_not_brought_up_to_date, 16, 40),
    (no_directory_is_synced, 0, 10),
    (the_bound_is_forgotten, 350, 60),
    (the_window_is_forgotten, 0, 10),
    (commits_wait_for_company, 0, 10),
    (an_old_links_word_is_believed, 61, 20),
    (who_asks_again_has_the_rest, 0, 20),
    (a_resend_overtakes, 315, 40),
    (a_resend_dies_with_its_link, 101, 20),
    (an_interpreter_may_raise_through, 0, 1),
)
"""The bug, a seed to begin with (the rare ones near one that finds them, to be quick), and within how many it is found.
"""


@pytest.mark.parametrize(("plant", "first", "within"), BUGS, ids=[bug[0].__name__ for bug in BUGS])
def test_a_planted_bug_is_found(monkeypatch: Patch, plant: Callable[[Patch], None], first: int, within: int) -> None:
    plant(monkeypatch)
    for seed in range(first, first + within):
        try:
            run(seed)
        except Failed:
            return
    pytest.fail(f"{within} histories, and nobody noticed")


def test_a_failure_tells_its_seed_and_its_history(monkeypatch: Patch) -> None:
    published_before_durable(monkeypatch)
    with pytest.raises(Failed, match=r"seed 0: (.|\n)* start, boot (.|\n)*--seed 0 -v"):
        run(0)


def test_every_stream_takes_part() -> None:
    taking_part: set[str] = set()
    for seed in range(10):
        history = histories.History(seed)
        with histories.chance_of(history.random):
            history.run()
        taking_part |= {name for (_, name), account in history.checker.accounts.items() if account.claimed}
    assert taking_part == set(STREAMS)
