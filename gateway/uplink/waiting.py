"""What waits though the link is up and other events go: topics that are held, events refused again and again. Pure."""

from __future__ import annotations

from gateway.model import rfc3339
from gateway.uplink.status import Reason
from gateway.uplink.suspects import Suspects
from gateway.uplink.verdicts import Verdicts
from gateway.uplink.ways import Ways

NOTES_MAX = 4
STUCK_AFTER = 6  # refusals of one event, a minute and more


def waiting_notes(verdicts: Verdicts, ways: Ways, suspects: Suspects, prefix: str) -> tuple[Reason, ...]:
    """Return what waits while the rest goes on, for a person; empty where nothing does."""
    found = [
        Reason(
            "publish.topic_refused",
            f"the broker refuses every event on {topic}: {hold.why}; since {rfc3339(hold.since.wall_ns)} they are "
            "kept here, all others go on, and one message asks again now and then",
            f"let this client publish to {topic} (mosquitto's access list: topic write {topic}); then all is sent",
        )
        for topic, hold in verdicts.held_topics()
    ]
    if len(found) > NOTES_MAX:
        more = f"the broker refuses every event of {len(found) - NOTES_MAX} more topics, which are kept here"
        advice = f"let this client publish to {prefix}/event/#; then all is sent"
        found[NOTES_MAX:] = [Reason("publish.topic_refused", more, advice)]
    shut = [
        Reason(
            "publish.topic_refused",
            f"the broker refuses {topic}: {hold.why}; since {rfc3339(hold.since.wall_ns)} what belongs there goes "
            "another way, nothing waits, and one message asks again now and then",
            f"let this client publish to {topic} (mosquitto's access list: topic write {topic})",
        )
        for topic, hold in ways.all_shut()
    ]
    found += shut[:NOTES_MAX]
    stuck = (
        []
        if verdicts.hold is not None
        else [
            one
            for one in suspects.singles()
            if one.refusals >= STUCK_AFTER and not verdicts.holds(one.parcel.entries[0])
        ]
    )
    if stuck:
        entry = stuck[0].parcel.entries[0]
        said = f"{len(stuck)} event{'' if len(stuck) == 1 else 's'} refused again and again, others are taken: "
        said += f"{stuck[0].why} ({entry.stream} {entry.sequence} on {verdicts.topic(stuck[0])})"
        advice = f"look at the broker's log; gateway outbox show {entry.stream} {entry.sequence} has its content"
        found.append(Reason("publish.put_off", said, advice))
    return tuple(found)
