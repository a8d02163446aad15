"""One TCP connection, with what trio's streams do not have: it can send at once.

What the system takes without waiting is sent by a plain call, in which nothing can be
cancelled and no other task runs. So a message leaves without a pass of the scheduler, and is
whole or is left to whoever waits for the rest.
"""

from __future__ import annotations

import socket
from typing import Self

import trio

from .identity import Address
from .limits import RECEIVE_BYTES


async def connect(address: Address) -> Stream:
    """Open a connection to an address.

    Raises:
        OSError: there is none.
    """
    return Stream(await trio.open_tcp_stream(address.host, address.port))


class Stream:
    """A connection; at the end of a ``with`` block it is closed.

    Args:
        stream: the connection as trio opened or accepted it. It is taken over.

    Attributes:
        socket: what trio's had; it knows the addresses.
    """

    __slots__ = ("socket",)

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = socket.socket(fileno=stream.socket.detach())
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send as much as the system takes at once, and return how many bytes that were.

        None are taken by a connection that broke: :meth:`send_all` says so.
        """
        try:
            return self.socket.send(data)
        except OSError:  # it would block, too
            return 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Cancelled, some of it may have been sent.

        Raises:
            trio.BrokenResourceError: the connection broke.
        """
        with memoryview(data) as rest:
            sent = 0
            while sent < len(rest):
                await trio.lowlevel.wait_writable(self.socket)
                try:
                    sent += self.socket.send(rest[sent:])
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise trio.BrokenResourceError("the connection broke") from error

    async def receive(self) -> bytes:
        """Receive some of what has arrived; b"" at the end of the connection.

        Raises:
            trio.BrokenResourceError: the connection broke.
        """
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return self.socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError("the connection broke") from error
