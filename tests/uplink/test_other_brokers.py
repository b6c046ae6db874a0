"""The uplink on paho against brokers that are not mosquitto: RabbitMQ and amqtt (3.1.1), and over WebSockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.mqtt import dial
from gateway.mqtt.link import LinkTimes
from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import free_port
from tests.uplink.rabbitmq import rabbitmq
from tests.uplink.shop import QUICK, Shop
from tests.uplink.test_mosquitto import Consumer

PATIENT = LinkTimes(connect_s=4.0, connack_s=4.0, ping_s=4, user_timeout_s=4.0)


@pytest.mark.slow
def test_rabbitmq_refuses_5_by_closing_and_gets_everything_by_3_1_1(tmp_path: Path) -> None:
    with rabbitmq(tmp_path) as broker:
        shop = Shop(BrokerSettings(url=broker.url), times=PATIENT)
        shop.passed(300)
        shop.drain(30, hurry=True)
        assert [up.protocol for up in shop.ups] == ["3.1.1"]
        assert [down.code for down in shop.downs] == ["connack.closed", "connack.closed"]
        shop.close()
        again = Shop(BrokerSettings(url=broker.url), shop.outbox, times=PATIENT)
        again.passed(20)
        again.drain(10)
        assert not again.downs, "what was learnt is remembered"
        again.until(lambda: again.subscribed)  # a command that comes before is for nobody
        command = Consumer(broker.port, "3.1.1")
        command.client.publish(f"{again.wire.prefix}/command/ping", b"{}", qos=1)
        again.until(lambda: again.commands, 10)
        assert (again.commands[0].verb, again.commands[0].response_topic) == ("ping", None)
        command.close()
        again.close()


@contextmanager
def amqtt(listener: str = "tcp") -> Iterator[int]:
    """Run amqtt in a thread of this process; yield its port."""
    from amqtt.broker import Broker

    for name in ("amqtt", "transitions", "websockets"):
        logging.getLogger(name).propagate = False
    port = free_port()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> Broker:
        broker = Broker(
            {
                "listeners": {"default": {"type": listener, "bind": f"127.0.0.1:{port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            },
            loop=asyncio.get_running_loop(),
        )
        await broker.start()
        return broker

    broker = asyncio.run_coroutine_threadsafe(start(), loop).result(15)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


@pytest.mark.parametrize(("listener", "scheme"), [("tcp", "mqtt"), ("ws", "ws")])
def test_amqtt_takes_everything_by_tcp_and_by_websocket(listener: str, scheme: str) -> None:
    with amqtt(listener) as port:
        shop = Shop(BrokerSettings(url=f"{scheme}://127.0.0.1:{port}", protocol="3.1.1"), times=PATIENT)
        shop.passed(120)
        shop.drain(15)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(20)
        shop.drain(15)
        assert shop.uplink.counters.connects == 1
        shop.close()


def test_a_websocket_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        shop = Shop(BrokerSettings(url=f"ws://127.0.0.1:{listener.getsockname()[1]}"), times=QUICK)
        shop.until(lambda: shop.downs, 5)
        assert shop.downs[0].advice
        shop.close()


def test_a_tls_handshake_of_a_byte_at_a_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HANDSHAKE_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_trickle, args=(listener,), daemon=True).start()
        shop = Shop(BrokerSettings(url=f"mqtts://127.0.0.1:{listener.getsockname()[1]}"), times=QUICK)
        began = time.monotonic()
        shop.until(lambda: shop.downs, 9)
        assert time.monotonic() - began < 7, "its hundred bytes take ten seconds"
        assert shop.downs[0].code.startswith(("tls.", "tcp.")), "by whichever of the two falls first"
        shop.close()


def _trickle(listener: socket.socket) -> None:
    """Begin a ServerHello of 16 KiB, a byte at a time."""
    sock, _ = listener.accept()
    with sock:
        try:
            sock.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
            for _ in range(100):
                sock.sendall(b"\x00")
                time.sleep(0.1)
        except OSError:
            return
