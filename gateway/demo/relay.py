"""The line between the gateway and its broker, which can be cut and mended: a TCP relay on the loopback interface.

What is cut is the network, not the broker: so the consumer beside the broker stays connected, and what the broker has
acknowledged it has also delivered.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from gateway.demo.loop import LoopThread

CHUNK_BYTES = 65_536
HOST = "127.0.0.1"


class Relay:
    """Relays from `port` to the broker's port. Begins whole."""

    def __init__(self, broker_port: int) -> None:
        self.broker_port = broker_port
        self.is_cut = True
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = LoopThread("demo-line")
        self.mend()

    def cut(self) -> None:
        """Break every connection as a dead network does (reset, no farewell); new ones are refused."""
        if not self.is_cut:
            self._thread.call(self._cut())
            self.is_cut = True

    def mend(self) -> None:
        """Connections are taken again, on the same port."""
        if self.is_cut:
            self._thread.call(self._listen())
            self.is_cut = False

    def close(self) -> None:
        """Cut, for good."""
        self.cut()
        self._thread.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._relay, HOST, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            with suppress(OSError):
                linger_none = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
            writer.transport.abort()
        self._open.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward = await asyncio.open_connection(HOST, self.broker_port)
        except OSError:
            writer.close()
            return
        for one in (writer, onward):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open |= {writer, onward}
        await asyncio.gather(self._copy(reader, onward), self._copy(onward_reader, writer))
        self._open -= {writer, onward}

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
        writer.close()
