"""One acceptor as a trio TCP server.

Each connection is one task: it reads what has arrived, answers it in order, and sends
the replies; while a client does not take its replies, nothing more is read from it. So
a connection costs a bounded amount of memory, and none can hold up another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import trio

from .errors import ProtocolError
from .identity import Address, Identity
from .limits import (
    MAX_BATCH_BYTES,
    MAX_CONNECTIONS,
    RECEIVE_BYTES,
    STALLED_FRAME_TIMEOUT,
)
from .paxos.acceptor import Acceptor, Store
from .paxos.messages import Reply, Request
from .wire import (
    FrameBuffer,
    decode_requests,
    encode_greeting,
    encode_replies,
    run,
    size_of,
)

logger: Final = logging.getLogger(__name__)


async def listen(address: Address) -> list[trio.SocketListener]:
    """Open the listeners for an address; port 0 takes a free one.

    Raises:
        OSError: the address cannot be listened on.
    """
    return await trio.open_tcp_listeners(address.port, host=address.host)


async def serve(
    identity: Identity,
    store: Store,
    listeners: Sequence[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve as this acceptor until cancelled.

    With ``await nursery.start(serve, identity, store, listeners)`` it gives back the
    address that it listens on, as ``HOST:PORT``. Whatever a client sends harms only
    its own connection.

    Args:
        identity: who this acceptor is; it greets with it.
        store: what this acceptor remembers. Only one server may use it.
        listeners: where it serves; they are closed at the end.
        task_status: how ``nursery.start`` learns the address.
    """
    handler = _Server(identity, store).handle
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handler, list(listeners))
        host, port = listeners[0].socket.getsockname()[:2]
        task_status.started(str(Address(host, port)))
    raise AssertionError("trio.serve_listeners never returns")


class _Server:
    def __init__(self, identity: Identity, store: Store) -> None:
        self._greeting = encode_greeting(identity)
        self._acceptor = Acceptor(store)
        self._connections = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end. Cancelled, it just drops the connection."""
        if self._connections >= MAX_CONNECTIONS:
            logger.warning("refused a connection: %d are open already", self._connections)
            return
        self._connections += 1
        try:
            await _send(stream, self._greeting)
            await self._converse(stream)
        except ProtocolError as error:
            logger.warning("closed the connection from %s: %s", _peer(stream), error)
        except trio.TooSlowError:
            logger.warning("closed the connection from %s: it stalled", _peer(stream))
        except trio.BrokenResourceError:
            logger.debug("the connection from %s broke", _peer(stream))
        finally:
            self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        """Answer what arrives, with one send for all that arrived together."""
        buffer = FrameBuffer()
        while True:
            # Between frames a client may be quiet for ever; in the middle of one it may not.
            with trio.fail_after(STALLED_FRAME_TIMEOUT if buffer else math.inf):
                data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                return
            replies = bytearray()
            for payload in buffer.feed(data):
                for reply_frame in self._answer(*decode_requests(payload)):
                    replies += reply_frame
                    if len(replies) >= MAX_BATCH_BYTES:
                        await _send(stream, replies)
                        replies = bytearray()
            if replies:
                await _send(stream, replies)

    def _answer(self, first: int, requests: Sequence[Request]) -> Iterator[bytes]:
        """Answer a frame of requests, in frames of replies that are cut at a size."""
        replies: list[Reply] = []
        size = 0
        for request in requests:
            reply = self._acceptor.handle(request)
            replies.append(reply)
            size += size_of(reply)
            if size >= MAX_BATCH_BYTES:
                yield run(first, encode_replies(replies))
                first += len(replies)
                replies, size = [], 0
        if replies:
            yield run(first, encode_replies(replies))


async def _send(stream: trio.SocketStream, data: bytes | bytearray) -> None:
    with trio.fail_after(STALLED_FRAME_TIMEOUT):
        await stream.send_all(data)


def _peer(stream: trio.SocketStream) -> str:
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return "a client that is gone"
    return str(Address(host, port))
