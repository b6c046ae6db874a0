"""A broker and the network before it, impolite within what MQTT allows; and the link to it (implements engine.Link).

Law: what a polite broker never does is a `Manners` above zero: refused connections, lost, late, doubled and reordered
acknowledgements, closes in order and not, refusals that pass, acknowledged messages that it forgets. What it is for the
whole history is its `Nature`: versions, limits, events that it refuses for good or chokes on. Whatever is sent against
its limits is a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from gateway.model import (
    NS_PER_MS,
    NS_PER_S,
    Acknowledged,
    CommandReceived,
    Connect,
    Disconnect,
    LinkDown,
    LinkUp,
    Message,
    Order,
    Signal,
    Subscribe,
    Subscribed,
)
from tests.simulation.checker import Checker
from tests.simulation.clock import Agenda, Trace
from tests.simulation.lives import Parsed, Violation
from tests.simulation.topics import CLOSED

NOTICED_NS = 15 * NS_PER_S  # a dead link is told at the latest then
FORWARD_NS = 2 * NS_PER_S  # from PUBACK to the consumers
PASSING = (0x80, 0x83, 0x97)
FINAL = (0x95, 0x99)
SUCCESS, NO_SUBSCRIBERS = 0x00, 0x10


LIKELY_MAX: Mapping[str, float] = {
    "refuses": 0.4,
    "loses_ack": 0.05,
    "doubles_ack": 0.4,
    "reorders_ack": 0.5,
    "late_ack": 0.5,
    "closes": 0.05,
    "resets": 0.05,
    "passing": 0.3,
    "forgets": 0.5,
}
"""What a rude broker does at most; above, nothing would ever get through."""


@dataclass(slots=True)
class Manners:
    """How likely each impoliteness is; all zero is a fair broker. `delay_ns` is a packet's longest way."""

    delay_ns: int = 20 * NS_PER_MS
    refuses: float = 0.0  # a connection
    loses_ack: float = 0.0
    doubles_ack: float = 0.0
    reorders_ack: float = 0.0
    late_ack: float = 0.0  # of a connection that has ended
    closes: float = 0.0  # in order, at a message
    resets: float = 0.0  # at a message
    passing: float = 0.0  # refusal of a message
    forgets: float = 0.0  # all it has not handed on, at a reset

    def worsen(self, random: Random) -> None:
        """Be rude in some ways from now on."""
        self.delay_ns = random.choice((20, 200, 2000)) * NS_PER_MS
        for name, likely in LIKELY_MAX.items():
            setattr(self, name, random.choice((0.0, random.uniform(0.0, likely))))

    def polite(self) -> None:
        """Be fair from now on."""
        for name in LIKELY_MAX:
            setattr(self, name, 0.0)
        self.delay_ns = 20 * NS_PER_MS


@dataclass(slots=True)
class Nature:
    """What this broker is, for the whole history. One in `hates_one_in` events is refused or choked on; 0: none."""

    speaks_5: bool = True
    refuses_5_by: int | None = 0x84  # CONNACK code; None: closes without one
    receive_maximum: int | None = None
    packet_bytes_max: int | None = None
    hates_one_in: int = 0
    chokes: bool = False  # closes at what it hates, instead of refusing it
    no_backfill: bool = False  # not authorized for the backfill topic


@dataclass(eq=False, slots=True)
class Connection:
    """One TCP connection; `waiting` are messages whose acknowledgement has not been told, by token, oldest first."""

    number: int
    protocol: str
    emit: Callable[[Signal], object]
    is_open: bool = True
    accepted: bool = False
    arrival_ns: int = 0
    waiting: dict[int, Parsed] = field(default_factory=dict)


class Broker:
    """See the module. `queue` holds what is acknowledged and not handed on to consumers yet."""

    def __init__(self, agenda: Agenda, random: Random, checker: Checker, trace: Trace, nature: Nature) -> None:
        self.manners = Manners()
        self.nature = nature
        self.reachable = True
        self.answers: list[bytes] = []
        self.checker = checker
        self._agenda, self._random, self._checker, self._trace = agenda, random, checker, trace
        self._salt = random.randbytes(4)
        self._connection: Connection | None = None
        self._queue: list[tuple[Message, Parsed]] = []
        self._forwarding = False

    # What the link does.

    def connect(self, order: Connect, emit: Callable[[Signal], object]) -> Connection:
        if self._connection is not None:
            self._end(self._connection)
        connection = self._connection = Connection(order.link, order.protocol, emit)
        self._agenda.after(self._way_ns() * 2, self._greet, connection)
        return connection

    def publish(self, connection: Connection, message: Message) -> None:
        """A message is on its way; the engine must not send more than it was allowed."""
        parsed = self._checker.sent(message.topic, message.payload)
        if not connection.is_open:
            return
        connection.waiting[message.token] = parsed
        limit = self.nature.receive_maximum if connection.protocol == "5" else None
        if limit is not None and len(connection.waiting) > limit:
            raise Violation(f"{len(connection.waiting)} messages under way, the broker allows {limit}")
        connection.arrival_ns = max(connection.arrival_ns, self._agenda.now_ns + self._way_ns())
        self._agenda.at(connection.arrival_ns, self._arrive, connection, message, parsed)

    def subscribe(self, connection: Connection, order: Subscribe) -> None:
        """Grant what is asked for, while the connection stands."""
        granted = Subscribed(connection.number, order.filters, (1,) * len(order.filters))
        way_ns = 2 * self.manners.delay_ns
        self._agenda.after(way_ns, lambda: connection.emit(granted) if connection.is_open else None)

    def leave(self, connection: Connection) -> None:
        """The client ends the connection itself."""
        self._end(connection)

    # What the world does.

    def cut(self, hangs: bool) -> None:
        """The network is gone, noticed at once or, where it `hangs`, later."""
        self.reachable = False
        self._trace.say("network cut" + (", hanging" if hangs else ""))
        if (connection := self._connection) is not None and connection.is_open:
            after_ns = self._random.randint(0, NOTICED_NS) if hangs else 0
            code = "link.timeout" if hangs else "tcp.reset"
            self._drop(connection, code, after_ns=after_ns)

    def mend(self) -> None:
        self.reachable = True
        self._trace.say("network back")

    def reset(self) -> None:
        """The broker restarts; perhaps it forgets what it has not handed on."""
        if self._random.random() < self.manners.forgets:
            self._forget()
        if self._connection is not None:
            self._drop(self._connection, "tcp.reset")

    def has_gateway(self) -> bool:
        """Tell whether the gateway is connected."""
        connection = self._connection
        return connection is not None and connection.accepted and connection.is_open

    def command(self, verb: str, payload: bytes) -> bool:
        """Hand a command to the gateway; False where it is not there."""
        connection = self._connection
        if connection is None or not self.has_gateway():
            return False
        connection.emit(CommandReceived(connection.number, verb, payload))
        return True

    # Inside.

    def _way_ns(self) -> int:
        return self._random.randint(NS_PER_MS, max(NS_PER_MS, self.manners.delay_ns))

    def _greet(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        if not self.reachable:
            self._drop(connection, "tcp.timeout", after_ns=10 * NS_PER_S)
        elif self._random.random() < self.manners.refuses:
            code = self._random.choice((None, 0x88, 0x89, 0x97, 0x86))
            name = {None: "tcp.refused", 0x86: "connack.bad_credentials"}.get(code, "connack.refused")
            self._drop(connection, name, connack=code)
        elif connection.protocol == "5" and not self.nature.speaks_5:
            connack = self.nature.refuses_5_by
            name = "connack.closed" if connack is None else "connack.refused"
            self._drop(connection, name, connack=connack, in_order=True)
        else:
            connection.accepted = True
            self._trace.say(f"link {connection.number} up, MQTT {connection.protocol}")
            if connection.protocol == "5":
                limits = self.nature.receive_maximum, self.nature.packet_bytes_max
            else:
                limits = None, None
            connection.emit(LinkUp(connection.number, connection.protocol, *limits))  # type: ignore[arg-type]

    def _arrive(self, connection: Connection, message: Message, parsed: Parsed) -> None:
        if not connection.is_open:
            return
        self._check_size(connection, message)
        manners, dice = self.manners, self._random.random()
        hated = next((number for number in parsed.numbers if self._hates(parsed, number)), None)
        if hated is not None and self.nature.chokes:
            self._trace.say(f"broker chokes on {hated}")
            self._close(connection)
        elif dice < manners.closes + manners.resets:
            if self._random.random() < 0.5:
                self._accept(message, parsed)
            self._close(connection) if dice < manners.closes else self.reset()
        else:
            code = self._verdict(parsed, hated is not None) if connection.protocol == "5" else SUCCESS
            if code < 0x80:
                self._accept(message, parsed)
            elif hated is not None or parsed.lane == "live":
                self._checker.topics.refused(parsed.events)
            self._answer(connection, message, parsed, code)

    def _verdict(self, parsed: Parsed, is_hated: bool) -> int:
        """The reason code of the PUBACK."""
        if is_hated:
            return self._random.choice(FINAL)
        if parsed.lane == "backfill" and self.nature.no_backfill:
            return 0x87
        if self._random.random() < self.manners.passing:
            return self._random.choice(PASSING)
        return self._random.choice((SUCCESS, SUCCESS, NO_SUBSCRIBERS))

    def _check_size(self, connection: Connection, message: Message) -> None:
        limit = self.nature.packet_bytes_max if connection.protocol == "5" else None
        size = 5 + 2 + len(message.topic) + 2 + 1 + len(message.payload)
        if limit is not None and size > limit:
            raise Violation(f"a packet of {size} bytes on {message.topic}, the broker allows {limit}")

    def _hates(self, parsed: Parsed, number: tuple[str, str, int]) -> bool:
        """Tell by the event itself, so that it is always the same ones; never by which connection or batch it came."""
        if not self.nature.hates_one_in or crc32(repr(number).encode() + self._salt) % self.nature.hates_one_in:
            return False
        event = parsed.events[parsed.numbers.index(number)]
        if event["type"] == "store.gateway.events_dropped":
            return False  # a broker that hates what is told of its hate has no end
        self._checker.hated.add(number)
        return True

    def _accept(self, message: Message, parsed: Parsed) -> None:
        self._checker.accepted(parsed)
        if parsed.lane == "answer":
            self.answers.append(message.payload)
        self._queue.append((message, parsed))
        if not self._forwarding:
            self._forwarding = True
            self._agenda.after(FORWARD_NS, self._forward)

    def _forward(self) -> None:
        self._forwarding = False
        queue, self._queue = self._queue, []
        for message, parsed in queue:
            self._checker.consumed(message.topic, message.payload, parsed)

    def _forget(self) -> None:
        queue, self._queue = self._queue, []
        numbers = [number for _, parsed in queue for number in parsed.numbers]
        self._checker.forgot(numbers)
        self._trace.say(f"broker forgets {len(numbers)} events")

    def _answer(self, connection: Connection, message: Message, parsed: Parsed, code: int) -> None:
        if self._random.random() < self.manners.loses_ack:
            self._checker.topics.refused(parsed.events, CLOSED)
            return
        way_ns = self._way_ns()
        if self._random.random() < self.manners.reorders_ack:
            way_ns += self._random.randint(0, 10 * self.manners.delay_ns)
        self._agenda.after(way_ns, self._acknowledge, connection, message.token, parsed, code)
        if self._random.random() < self.manners.doubles_ack:
            self._agenda.after(way_ns + self._way_ns(), self._acknowledge, connection, message.token, parsed, code)

    def _acknowledge(self, connection: Connection, token: int, parsed: Parsed, code: int) -> None:
        if not connection.is_open and self._random.random() >= self.manners.late_ack:
            return
        if connection.is_open:
            connection.waiting.pop(token, None)
        if code < 0x80:
            self._checker.acknowledged(parsed)
        connection.emit(Acknowledged(connection.number, token, code))

    def _close(self, connection: Connection) -> None:
        """End the connection in order; the client cannot know at which of its messages."""
        for parsed in connection.waiting.values():
            self._checker.closes.update(parsed.numbers)
            self._checker.topics.refused(parsed.events, CLOSED)
        self._drop(connection, "broker.disconnected", in_order=True)

    def _drop(
        self,
        connection: Connection,
        code: str,
        connack: int | None = None,
        in_order: bool = False,
        after_ns: int = 0,
    ) -> None:
        if not connection.is_open:
            return
        self._end(connection)
        had_connack = connection.accepted or connack is not None
        told = LinkDown(connection.number, code, code, connack=connack, had_connack=had_connack, in_order=in_order)
        self._trace.say(f"link {connection.number} down, {code}")
        self._agenda.after(after_ns, connection.emit, told)

    def _end(self, connection: Connection) -> None:
        connection.is_open = False
        if self._connection is connection:
            self._connection = None


class BrokerLink:
    """The engine's end; dies with its process."""

    def __init__(self, broker: Broker, emit: Callable[[Signal], object]) -> None:
        self._broker, self._emit = broker, emit
        self._connection: Connection | None = None

    def obey(self, order: Order) -> None:
        match order:
            case Connect():
                self._connection = self._broker.connect(order, self._emit)
            case Message():
                if self._connection is None:
                    raise Violation(f"a message for {order.topic} before any connection")
                self._broker.publish(self._connection, order)
            case Subscribe() if self._connection is not None:
                self._broker.subscribe(self._connection, order)
            case Disconnect():
                self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._broker.leave(self._connection)
            self._connection = None
