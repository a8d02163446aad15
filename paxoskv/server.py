"""One acceptor as a trio TCP server.

Each connection has a task that reads what has arrived, answers it in order, and sends
the replies, and one for each turn that it waits for, up to a limit; while a client does not
take its replies, nothing more is read from it. So a connection costs a bounded amount of
memory, and none can hold up another. What all of them together hold has a limit as well.
That no reply leaves before what it rests on is on disk is `paxoskv.host`'s business.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Final, NoReturn

import trio

from .errors import ProtocolError, StoreDamaged, StoreError
from .heard import Heard, Hearing
from .host import Host, Store
from .identity import Address, Identity
from .limits import (
    COMPLAINT_PAUSE,
    DEFAULT_KEEP,
    FAREWELL_PATIENCE,
    MAX_BATCH_BYTES,
    MAX_CONNECTIONS,
    MAX_HELD_BYTES,
    MAX_SEARCHES,
    MAX_TURNS_AWAITED,
    SLOWEST_LINK,
    STALLED_FRAME_TIMEOUT,
)
from .lines import Place
from .paxos.messages import END, Commit, Find, ProposalId, Reply, Request, Scan, Status, Turn
from .paxos.series import Accepts, CommitSeries, Votes
from .stream import Stream
from .tasks import leaves
from .wire import (
    FrameBuffer,
    Requests,
    decode_requests,
    encode_farewell,
    encode_greeting,
    encode_replies,
    encode_votes,
    run,
    size_of,
)

logger: Final = logging.getLogger(__name__)

_SEARCHES: Final = Scan, Status  # requests for which the store is searched whatever they ask
_RESTS_ON_NOTHING: Final = Commit, CommitSeries, Turn  # requests of which the answers do; see above


async def listen(address: Address) -> list[trio.SocketListener]:
    """Open the listeners for an address; port 0 takes a free one.

    Raises:
        OSError: the address cannot be listened on.
    """
    return await trio.open_tcp_listeners(address.port, host=address.host)


@contextmanager
def closed_at_the_end(listeners: Sequence[trio.SocketListener]) -> Iterator[None]:
    """A block with listeners, which are closed at its end, whether they came to serve or not."""
    try:
        yield
    finally:
        for each in listeners:
            each.socket.close()


async def serve(
    identity: Identity,
    store: Store,
    listeners: Sequence[trio.SocketListener],
    *,
    keep: int = DEFAULT_KEEP,
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
        keep: how many of the newest chosen versions of a key to keep (rule R9).
        task_status: how ``nursery.start`` learns the address.

    Raises:
        StoreDamaged: what is on disk is not what was written; it must not go on.
    """
    await Server(Host(identity, store, keep)).serve(listeners, task_status=task_status)


class Server:
    """Serves the clients of an acceptor.

    Args:
        host: the acceptor.
        connections: how many it serves at a time.
    """

    def __init__(self, host: Host, connections: int = MAX_CONNECTIONS) -> None:
        self.host = host
        self.greeting = encode_greeting(host.identity)
        self._most = connections
        self._hearing = Hearing()
        self._connections: dict[Connection, None] = {}  # those that are not given up
        self._held = 0  # bytes, by all connections
        self._complained = -COMPLAINT_PAUSE  # when it did so last
        self._unsaid = 0  # complaints since then

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Serve until cancelled; see :func:`serve`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.host.tend)
            await nursery.start(trio.serve_listeners, self._handle, list(listeners))
            host, port = listeners[0].socket.getsockname()[:2]
            task_status.started(str(Address(host, port)))
        raise AssertionError("trio.serve_listeners never returns")

    async def _handle(self, accepted: trio.SocketStream) -> None:
        """Serve one connection to its end. Cancelled, it just drops the connection."""
        if len(self._connections) >= self._most:
            longest = min(self._connections, key=lambda each: each.idle_since)
            if longest.idle_since == math.inf:
                self.complain(f"refused a connection: {len(self._connections)} are busy already")
                return
            self._give_up(longest)  # its client opens another connection when it needs one
        with Stream(accepted) as stream, self._hearing.one() as heard:
            connection = Connection(self, stream, heard)
            self._connections[connection] = None
            try:
                await connection.serve()
            finally:
                self._give_up(connection)

    def hold(self, connection: Connection, size: int) -> None:
        """A connection holds so many bytes more in memory, or less.

        If all hold too much, one is closed that holds much, and has for long: what others hold
        may be gone in a moment.
        """
        if not size or connection not in self._connections:
            return
        if not connection.held:
            connection.holds_since = trio.current_time()
        connection.held += size
        self._held += size
        while self._held > MAX_HELD_BYTES:
            now = trio.current_time()
            most = max(self._connections, key=lambda each: (each.burden(now), each.held))
            self.complain(f"closed the connection from {most.peer}: it holds {most.held} bytes")
            self._give_up(most)

    def _give_up(self, connection: Connection) -> None:
        """Close a connection; it counts no more."""
        if connection in self._connections:
            del self._connections[connection]
            self._held -= connection.held
            connection.scope.cancel()

    def complain(self, what: str) -> None:
        """Say what clients do wrong, now and then: they may do so without end."""
        now = trio.current_time()
        if now - self._complained < COMPLAINT_PAUSE:
            self._unsaid += 1
            return
        unsaid = f", and {self._unsaid} more of such" if self._unsaid else ""
        logger.warning("%s%s", what, unsaid)
        self._complained, self._unsaid = now, 0


class Connection:
    """A connection of a client.

    Args:
        server: whose client it is.
        stream: the connection.
        heard: the series of Accepts that came on it.

    Attributes:
        scope: in which it is served.
        held: how many bytes it holds in memory, as the server counts them.
        holds_since: when that began.
        idle_since: when it began to wait for the next frame; ``math.inf``: it does not.
    """

    def __init__(self, server: Server, stream: Stream, heard: Heard) -> None:
        self.scope = trio.CancelScope()
        self.held = 0
        self.holds_since = 0.0
        self.idle_since = math.inf
        self._server = server
        self._host = server.host
        self._stream = stream
        self._sender = _Sender(stream)
        self._buffer = FrameBuffer()
        self._heard = heard
        self._chosen: list[ProposalId] = []  # by their names, those to be learned
        self._began = 0.0  # when the unfinished frame did, if there is one

    def burden(self, now: float) -> float:
        """How much it has held for how long by now, in bytes times seconds."""
        return self.held * (now - self.holds_since)

    @property
    def peer(self) -> str:
        """Where its client is, for people."""
        try:
            host, port = self._stream.socket.getpeername()[:2]
        except OSError:
            return "a client that is gone"
        return str(Address(host, port))

    async def serve(self) -> None:
        """Serve the client as long as it keeps the rules, and say what ended that."""
        try:
            with self.scope:
                await self._converse()
        # Its tasks may end with an error each.
        except* StoreDamaged:
            raise
        except* StoreError as group:
            with (
                trio.move_on_after(FAREWELL_PATIENCE) as self.scope,
                suppress(trio.BrokenResourceError, trio.TooSlowError),
            ):
                await self._sender.send(encode_farewell(str(next(leaves(group)))))
        except* ProtocolError as group:
            self._closed(str(next(leaves(group))))
        except* trio.TooSlowError:
            self._closed("it stalled")
        except* trio.BrokenResourceError:
            logger.debug("the connection from %s broke", self.peer)

    def _closed(self, why: str) -> None:
        self._server.complain(f"closed the connection from {self.peer}: {why}")

    async def _converse(self) -> None:
        """Answer what arrives, with one flush and one send for all that arrived together."""
        await self._sender.send(self._server.greeting)
        async with trio.open_nursery() as nursery:
            # What a call has taken is let go with it: who is idle holds no frames.
            while await self._take(await self._receive(), nursery):
                pass
            nursery.cancel_scope.cancel()

    async def _receive(self) -> bytes:
        """What comes next. Between frames a client may be quiet for ever; within one it may not.

        Raises:
            trio.TooSlowError: a frame that has begun stalls.
            trio.BrokenResourceError: the connection broke.
        """
        if self._buffer:
            # As long as what has come would take: who sends nothing has little time.
            with trio.fail_at(self._began + _patience(len(self._buffer))):
                return await self._stream.receive()
        self.idle_since = trio.current_time()
        try:
            return await self._stream.receive()
        finally:
            self.idle_since = math.inf
            self._began = trio.current_time()

    async def _take(self, data: bytes, nursery: trio.Nursery) -> bool:
        """Answer what has arrived in full; False at the end of the connection."""
        if not data:
            return False
        replies = bytearray()
        rests = False  # whether any of them rests on what is saved
        searched = 0  # how often the store was searched for them
        held = 0  # bytes of the frames that they answer
        answered = False
        frames = self._feed(data)
        data = b""
        for payload in frames:
            answered = True
            first, requests = decode_requests(payload)
            if first is None:
                for _ in self._answer(0, requests):
                    pass  # nobody wants to know
                continue
            # Who asks for a turn asks for nothing else: then the answer may take a while.
            if len(requests) == 1 and isinstance(turn := requests[0], Turn):
                room = len(nursery.child_tasks) < MAX_TURNS_AWAITED
                place = self._host.lines.enter(turn.key, self) if room else None
                if place is not None:
                    nursery.start_soon(self._give_turn, first, turn, place)
                    continue
            rests = rests or not all(isinstance(each, _RESTS_ON_NOTHING) for each in requests)
            size = len(payload)
            payload = b""
            self._server.hold(self, size)
            held += size
            for part, searches in self._answer(first, requests):
                replies += part
                searched += searches
                if len(replies) >= MAX_BATCH_BYTES or searched >= MAX_SEARCHES:
                    part = b""
                    await self._send(replies, rests)
                    replies, searched = bytearray(), 0
                    self._server.hold(self, size - held)  # this one is not answered in full
                    held = size
                    await trio.lowlevel.checkpoint()  # and others have their turn
        if replies:
            await self._send(replies, rests)
        self._server.hold(self, -held)
        await self._learn()
        if answered:  # which may have taken its time, and that was not the next frame's
            self._began = trio.current_time()
        return True

    async def _learn(self) -> None:
        """Learn what was told to be chosen, for which nobody waits, once all is answered."""
        chosen, self._chosen = self._chosen, []
        for number, name in enumerate(chosen):
            if number:
                await trio.lowlevel.checkpoint()  # and others have their turn
            commits = self._heard.take(name)
            if commits is not None:
                self._host.learn(commits, self)

    def _feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete by now; what is left of the next one is held."""
        before = len(self._buffer)
        frames = self._buffer.feed(data)
        data = b""
        for payload in frames:
            self._server.hold(self, len(self._buffer) - before)
            before = len(self._buffer)
            yield payload
        self._server.hold(self, len(self._buffer) - before)

    def _answer(self, first: int, requests: Requests) -> Iterator[tuple[bytes, int]]:
        """Answer a frame of requests, in frames of replies that are cut where they took much.

        Returns:
            Frames, and how often the store was searched for each.
        """
        pending: list[Reply] = []
        size = searches = 0

        def cut() -> tuple[bytes, int]:
            nonlocal first, pending, size, searches
            part = run(first, encode_replies(pending)), searches
            first += len(pending)
            pending, size, searches = [], 0, 0
            return part

        for request in requests:
            replies: Iterable[Reply]
            if isinstance(request, Accepts):
                self._heard.note(request)
                voted = self._host.vote(request)
                if voted == len(request):
                    if pending:
                        yield cut()
                    yield run(first, encode_votes(voted)), 0
                    first += voted
                    continue
                others = islice(request, voted, None)  # one by one, for they may be large
                reply_to = self._host.reply
                replies = chain(Votes(request.vers[:voted]), (reply_to(e, self) for e in others))
            elif isinstance(request, CommitSeries):
                self._chosen.append(request.name)
                continue
            else:
                replies = (self._host.reply(request, self),)
            for reply in replies:
                pending.append(reply)
                size += size_of(reply)
                searches += _searches(request)
                if size >= MAX_BATCH_BYTES or searches >= MAX_SEARCHES:
                    yield cut()
        if pending:
            yield cut()

    async def _send(self, replies: bytearray, rests: bool) -> None:
        """Send replies, and where they rest on what is saved only once it is on disk."""
        self._server.hold(self, len(replies))
        if rests:
            await self._host.durable(id(self))
        await self._sender.send(replies)
        self._server.hold(self, -len(replies))

    async def _give_turn(self, first: int, turn: Turn, place: Place) -> None:
        """Answer who waits in line once the turn comes, and then at once: see `Told`."""
        await place.wait()
        size = 0

        def made() -> bytes:
            nonlocal size
            told = run(first, encode_replies([self._host.reply(turn)]))
            size = len(told)
            self._server.hold(self, size)
            return told

        await self._sender.send_made(made)
        self._server.hold(self, -size)


class _Sender:
    """Sends on one connection, one after the other, in time.

    What was begun and was not sent to its end is the end of the connection.
    """

    __slots__ = ("_cut", "_lock", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._cut = False  # whether something was begun, and not yet sent to its end

    async def send(self, data: bytes | bytearray) -> None:
        """Send it; see :meth:`send_made`."""
        await self.send_made(lambda: data)

    async def send_made(self, make: Callable[[], bytes | bytearray]) -> None:
        """Send what this makes when its turn has come: before, it takes no memory.

        Raises:
            trio.TooSlowError: the client takes too long to read it.
            trio.BrokenResourceError: the connection broke, or is at its end.
            Exception: what making it raises; then nothing was begun.
        """
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()  # whoever has it gives it back in time
        try:
            data = make()
            if self._cut:
                raise trio.BrokenResourceError("something was not sent to its end")
            sent = self._stream.send_now(data)
            if sent < len(data):
                self._cut = True
                with memoryview(data) as whole, trio.fail_after(_patience(len(data))):
                    await self._stream.send_all(whole[sent:])
                self._cut = False
        finally:
            self._lock.release()


def _searches(request: Request | Accepts | CommitSeries) -> bool:
    """Whether it may have to look at many records, though it takes and gives few bytes."""
    return isinstance(request, _SEARCHES) or (isinstance(request, Find) and request.below < END)


def _patience(size: int) -> float:
    """How long so many bytes may take to arrive or to leave, in seconds."""
    return STALLED_FRAME_TIMEOUT + size / SLOWEST_LINK
