"""One acceptor as a trio TCP server.

Each connection has a task that reads what has arrived, answers it in order, and sends
the replies, and one for each turn that it waits for, up to a limit; while a client does not
take its replies, nothing more is read from it. So a connection costs a bounded amount of
memory, and none can hold up another.

Rule R1, disk before word: what all connections have saved goes to disk in one flush, and
no reply leaves before what it may rest on is there. See :meth:`Host.answer`. Two kinds rest
on nothing there: that a commit has arrived, and what those in line are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NoReturn, Protocol

import trio

from ._version import __version__
from .errors import ProtocolError, StoreDamaged, StoreError
from .identity import Address, Identity
from .limits import (
    DEFAULT_KEEP,
    HINT_FLUSH_INTERVAL,
    MAX_BATCH_BYTES,
    MAX_CONNECTIONS,
    MAX_SEARCHES,
    MAX_TURNS_AWAITED,
    MAX_UNFINISHED_BYTES,
    MEND_PAUSE,
    QUICK_FLUSH,
    SLOWEST_LINK,
    STALLED_FRAME_TIMEOUT,
)
from .lines import Lines, Place
from .paxos import acceptor
from .paxos.messages import (
    END,
    Accept,
    Commit,
    Find,
    ProposalId,
    Reply,
    Request,
    Scan,
    Status,
    Turn,
    Voted,
)
from .stream import Stream
from .tasks import leaves
from .wire import (
    FrameBuffer,
    decode_requests,
    encode_farewell,
    encode_greeting,
    encode_replies,
    run,
    size_of,
)

logger: Final = logging.getLogger(__name__)

_FADING: Final = 0.9  # how slowly a slow flush is forgotten
_SEARCHES: Final = Scan, Status  # requests for which the store is searched whatever they ask


class Store(acceptor.Store, Protocol):
    """A store as a server needs it: with what makes it durable.

    Attributes:
        saved: how many saves there were.
        flushed: how many of these are durable.
    """

    @property
    def saved(self) -> int: ...  # noqa: D102 - as above
    @property
    def flushed(self) -> int: ...  # noqa: D102 - as above

    def flush(self) -> None:
        """Make durable what is saved by now; a worker thread may call it."""
        ...

    def reload(self) -> None:
        """After a failure: forget what is in memory, and read the disk again."""
        ...


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
    await Host(identity, store, keep).serve(listeners, task_status=task_status)


class Host:
    """An acceptor at home: its store kept durable, its connections served.

    Args:
        identity: who it is.
        store: what it remembers.
        keep: how many of the newest chosen versions of a key it keeps.
    """

    def __init__(self, identity: Identity, store: Store, keep: int = DEFAULT_KEEP) -> None:
        self.identity = identity
        self.acceptor = acceptor.Acceptor(store, keep, __version__)
        self._store = store
        self._greeting = encode_greeting(identity)
        self._lines = Lines()
        self._flushing = False
        self._flush_time = QUICK_FLUSH  # of the slowest one lately
        self._thread = trio.CapacityLimiter(1)  # of its own: look-ups of names may take all others
        self._flushed = trio.lowlevel.ParkingLot()  # those who wait for the next flush to end
        self._failures = 0
        self._failure = ""
        self._mending = trio.Event()
        self._connections = 0
        self._unfinished = 0  # bytes of frames that have not arrived, or been answered, in full
        self._idle: dict[trio.CancelScope, None] = {}  # between frames, the longest first

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Serve until cancelled; see :func:`serve`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mend)
            nursery.start_soon(self._flush_hints)
            await nursery.start(trio.serve_listeners, self._handle, list(listeners))
            host, port = listeners[0].socket.getsockname()[:2]
            task_status.started(str(Address(host, port)))
        raise AssertionError("trio.serve_listeners never returns")

    # --- disk before word --------------------------------------------------------------

    async def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests, and return the replies once all that they rest on is on disk.

        That includes what other connections have saved meanwhile. Cancelled, what was
        answered may have been kept or not, and no reply leaves.

        Raises:
            StoreError: the disk failed, and nothing may be said.
        """
        replies = [self._reply(request) for request in requests]
        await self._durable()
        return replies

    def _reply(self, request: Request, who: object = None) -> Reply:
        """The reply to a request, which may leave once what it rests on is durable.

        Args:
            request: what is asked.
            who: the one who asks, as the lines know him.
        """
        if self._mending.is_set():
            raise StoreError(self._failure)
        try:
            if not self._lines:
                return self.acceptor.handle(request)
            written = self._written(request)
            reply = self.acceptor.handle(request)
        except StoreDamaged:
            raise
        except StoreError as error:
            self._failed(error)
            raise
        if written:
            self._lines.written(written, who)
        if isinstance(reply, Voted) and isinstance(request, Accept):
            return Voted(reply.top, self._lines.crowded(request.instance.key, who))
        return reply

    def _written(self, request: Request) -> str:
        """The key of which the next in line may write a version, for this tells of a new one."""
        match request:
            case Commit((key, ver)):
                pass
            case Accept((key, ver), after=ProposalId()):
                ver -= 1
            case _:
                return ""
        return key if key in self._lines and self.acceptor.known(key).ver < ver else ""

    async def _durable(self) -> None:
        """Wait until all that is saved by now is on disk. One flush serves all who wait.

        Between the making of replies and this nothing may be awaited: a failure in between
        would not be noticed, after which the store has forgotten what they rest on.
        """
        failures, saved = self._failures, self._store.saved
        while self._failures == failures and self._store.flushed < saved:
            if self._flushing:
                await self._flushed.park()
            else:
                await self._flush()
        if self._failures != failures:
            raise StoreError(self._failure)

    async def _flush(self) -> None:
        self._flushing = True
        try:
            # All tasks that have read something by now get to answer it first.
            await trio.lowlevel.cancel_shielded_checkpoint()
            began = trio.current_time()
            if self._flush_time < QUICK_FLUSH:
                self._store.flush()
            else:
                # Not to be abandoned: when we are cancelled, others go on to rely on it.
                await trio.to_thread.run_sync(self._store.flush, limiter=self._thread)
            self._flush_time = max(trio.current_time() - began, _FADING * self._flush_time)
        except StoreError as error:
            self._failed(error)
        finally:
            self._flushing = False
            self._flushed.unpark_all()

    def _failed(self, error: StoreError) -> None:
        """Nothing that was not flushed may be relied on from now on."""
        if not self._mending.is_set():
            logger.error("cannot serve: %s", error)
        self._failures += 1
        self._failure = str(error)
        self._mending.set()

    async def _flush_hints(self) -> None:
        """Flush now and then what was saved and nobody waits for, until cancelled."""
        while True:
            await trio.sleep(HINT_FLUSH_INTERVAL)
            if self._mending.is_set():
                continue  # nothing can be flushed, and a try would be in the way
            with suppress(StoreError):  # which has been seen to already
                await self._durable()

    async def _mend(self) -> None:
        """Read the store again after it failed, until that succeeds."""
        while True:
            await self._mending.wait()
            await trio.sleep(MEND_PAUSE)
            if self._flushing:
                continue
            try:
                # In this thread, so that nobody meets a store that is half read.
                self._store.reload()
            except StoreDamaged:
                raise
            except StoreError as error:
                logger.debug("still cannot serve: %s", error)
            else:
                logger.error("serves again")
                # The commits that were not flushed are forgotten, and nobody repeats them.
                self.acceptor.missed_unnamed = True
                self._mending = trio.Event()

    # --- connections -------------------------------------------------------------------

    async def _handle(self, accepted: trio.SocketStream) -> None:
        """Serve one connection to its end. Cancelled, it just drops the connection."""
        if self._connections >= MAX_CONNECTIONS:
            if not self._idle:
                logger.warning("refused a connection: %d are busy already", self._connections)
                return
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.cancel()  # its client opens another connection when it needs one
        self._connections += 1
        try:
            with Stream(accepted) as stream:
                await self._serve(stream)
        finally:
            self._connections -= 1

    async def _serve(self, stream: Stream) -> None:
        """Serve a client as long as it keeps the rules, and say what ended that."""
        sender = _Sender(stream)
        try:
            with trio.CancelScope() as scope:
                await self._converse(stream, sender, scope)
        # Its tasks may end with an error each.
        except* StoreDamaged:
            raise
        except* StoreError as group:
            with suppress(trio.BrokenResourceError, trio.TooSlowError):
                await sender.send(encode_farewell(str(next(leaves(group)))))
        except* ProtocolError as group:
            logger.warning("closed the connection from %s: %s", _peer(stream), next(leaves(group)))
        except* trio.TooSlowError:
            logger.warning("closed the connection from %s: it stalled", _peer(stream))
        except* trio.BrokenResourceError:
            logger.debug("the connection from %s broke", _peer(stream))

    async def _converse(self, stream: Stream, sender: _Sender, scope: trio.CancelScope) -> None:
        """Answer what arrives, with one flush and one send for all that arrived together."""
        await sender.send(self._greeting)
        buffer = FrameBuffer()
        try:
            async with trio.open_nursery() as nursery:
                await self._read_and_answer(stream, sender, scope, buffer, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._unfinished -= len(buffer)

    async def _read_and_answer(
        self,
        stream: Stream,
        sender: _Sender,
        scope: trio.CancelScope,
        buffer: FrameBuffer,
        nursery: trio.Nursery,
    ) -> None:
        began = trio.current_time()  # of the unfinished frame, if there is one
        while True:
            data = await self._receive(stream, scope, buffer, began)
            if not data:
                return
            replies = bytearray()
            rests = False  # whether any of them rests on what is saved
            searched = 0  # how often the store was searched for them
            if not buffer:
                began = trio.current_time()
            answered = False
            for payload in self._feed(buffer, data):
                answered = True
                first, requests = decode_requests(payload)
                if first is None:
                    for request in requests:
                        self._reply(request, sender)  # which nobody wants to know
                    continue
                # Who asks for a turn asks for nothing else: then the answer may take a while.
                if len(requests) == 1 and isinstance(turn := requests[0], Turn):
                    room = len(nursery.child_tasks) < MAX_TURNS_AWAITED
                    place = self._lines.enter(turn.key, sender) if room else None
                    if place is not None:
                        nursery.start_soon(self._give_turn, sender, first, turn, place)
                        continue
                # The answers to these rest on nothing here: see `Noted` and `Told`.
                rests = rests or not all(isinstance(each, Commit | Turn) for each in requests)
                size = len(payload)
                payload = b""
                self._unfinished += size
                try:
                    for part, searches in self._answer(first, requests, sender):
                        replies += part
                        searched += searches
                        if len(replies) >= MAX_BATCH_BYTES or searched >= MAX_SEARCHES:
                            await self._send(sender, replies, rests)
                            replies, searched = bytearray(), 0
                            await trio.lowlevel.checkpoint()  # and others have their turn
                finally:
                    self._unfinished -= size
            if replies:
                await self._send(sender, replies, rests)
            if answered:  # which may have taken its time, and that was not the next frame's
                began = trio.current_time()

    async def _receive(
        self, stream: Stream, scope: trio.CancelScope, buffer: FrameBuffer, began: float
    ) -> bytes:
        """What comes next. Between frames a client may be quiet for ever; within one it may not.

        Raises:
            trio.TooSlowError: a frame that began then stalls.
            trio.BrokenResourceError: the connection broke.
        """
        if buffer:
            # As long as what has come would take: who sends nothing has little time.
            with trio.fail_at(began + _patience(len(buffer))):
                return await stream.receive()
        self._idle[scope] = None
        try:
            return await stream.receive()
        finally:
            self._idle.pop(scope, None)

    async def _give_turn(self, sender: _Sender, first: int, turn: Turn, place: Place) -> None:
        """Answer who waits in line once the turn comes, and then at once: see `Told`."""
        await place.wait()
        await sender.send_made(lambda: run(first, encode_replies([self._reply(turn)])))

    def _feed(self, buffer: FrameBuffer, data: bytes | bytearray) -> Iterator[bytes]:
        """Take bytes, within what all unfinished frames together may hold."""
        self._unfinished -= len(buffer)
        try:
            yield from buffer.feed(data)
        finally:
            self._unfinished += len(buffer)
        if self._unfinished > MAX_UNFINISHED_BYTES:
            raise ProtocolError("too many frames are unfinished at a time")

    def _answer(
        self, first: int, requests: Sequence[Request], who: object
    ) -> Iterator[tuple[bytes, int]]:
        """Answer a frame of requests, in frames of replies that are cut where they took much.

        Returns:
            Frames, and how often the store was searched for each.
        """
        replies: list[Reply] = []
        size = searches = 0
        for request in requests:
            reply = self._reply(request, who)
            replies.append(reply)
            size += size_of(reply)
            searches += _searches(request)
            if size >= MAX_BATCH_BYTES or searches >= MAX_SEARCHES:
                yield run(first, encode_replies(replies)), searches
                first += len(replies)
                replies, size, searches = [], 0, 0
        if replies:
            yield run(first, encode_replies(replies)), searches

    async def _send(self, sender: _Sender, replies: bytearray, rests: bool) -> None:
        """Send replies, and where they rest on what is saved only once it is on disk."""
        if rests:
            await self._durable()
        await sender.send(replies)


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


def _searches(request: Request) -> bool:
    """Whether it may have to look at many records, though it takes and gives few bytes."""
    return isinstance(request, _SEARCHES) or (isinstance(request, Find) and request.below < END)


def _patience(size: int) -> float:
    """How long so many bytes may take to arrive or to leave, in seconds."""
    return STALLED_FRAME_TIMEOUT + size / SLOWEST_LINK


def _peer(stream: Stream) -> str:
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return "a client that is gone"
    return str(Address(host, port))
