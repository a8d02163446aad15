"""One client's connection to one acceptor: many requests in flight, reconnects, bounded.

A link owns its stream, so a caller that is cancelled never leaves half a frame behind.
Callers hand it a batch, with :meth:`Link.ask` to wait for the answers, with :meth:`Link.post`
not to, or with :meth:`Link.tell` where there will be none. What the system takes at once leaves
at once, by a plain call; a task of the link sends the rest, and another one reads. With
:meth:`Link.ask` a batch outlives a lost connection: without its answer it is sent again when the
link is up again. That is safe, for an acceptor answers a repeated request as it would have answered
the first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from random import Random
from typing import TypeAlias

import trio

from .errors import PaxosKVError, ProtocolError, StoreError
from .identity import Address, Identity
from .limits import (
    CONNECT_TIMEOUT,
    MAX_BATCH_BYTES,
    MAX_GREETING_BYTES,
    MAX_UNANSWERED_BYTES,
    MAX_UNANSWERED_FRAMES,
    RECONNECT_FIRST,
    RECONNECT_MAX,
    SILENCE_TIMEOUT,
    SLOWEST_LINK,
)
from .paxos.messages import AcceptorId, Reply, Request, Turn, answers
from .paxos.series import Accepts, CommitSeries, Votes
from .stream import Stream, connect
from .wire import (
    FrameBuffer,
    decode_greeting,
    decode_replies,
    encode_requests,
    open_replies,
    run,
)

Deliver: TypeAlias = Callable[[int, Collection[Reply], bool, bool], None]
"""Takes replies as they arrive: the index in the batch of the first, the replies, whether the
batch had been sent before, so that the acceptor may have handled it already, and whether these
are the last that were missing."""

Ended: TypeAlias = Callable[["Exchange"], None]
"""Is told that a batch was answered in full, or lost with the connection, unless it was
withdrawn before."""

Welcome: TypeAlias = Callable[["Link", Identity], bool]
"""Judges whom a link has reached: whether the link is needed. Raises to turn it down."""


class Batch:
    """Requests that go out in one frame, encoded once for all acceptors.

    Args:
        requests: the requests.
        accepts: more of them, which follow these.
        commits: are told before, and not answered.

    Attributes:
        alone: the requests that are in no series.
        accepts, commits: the same.
        count: how many requests there are in all.
        encoded: all of it.
    """

    __slots__ = ("_known", "accepts", "alone", "commits", "count", "encoded")

    def __init__(
        self,
        requests: Sequence[Request],
        accepts: Accepts | None = None,
        commits: Sequence[CommitSeries] = (),
    ) -> None:
        self.alone = requests
        self.accepts = accepts
        self.count = len(requests) + (0 if accepts is None else len(accepts))
        self.commits = commits
        last = () if accepts is None else (accepts,)
        self.encoded = encode_requests([*commits, *requests, *last])
        # What was taken apart last, and the replies that it was.
        self._known: tuple[tuple[int, int, bytes | None] | None, Collection[Reply]] = None, ()

    @property
    def requests(self) -> Sequence[Request]:
        """All requests, one by one."""
        return self.alone if self.accepts is None else [*self.alone, *self.accepts]

    def replies(self, start: int, count: int, encoded: bytes | None) -> Collection[Reply]:
        """The replies to so many of its requests from one on, as a link opened them.

        Acceptors mostly answer alike; what was decoded and checked last is not decoded again.

        Raises:
            ProtocolError: they do not answer what was asked.
        """
        what = start, count, encoded
        if self._known[0] == what:
            return self._known[1]
        if encoded is None:
            replies = self._votes(start, count)
        else:
            replies = decode_replies(encoded)
            for reply, request in zip(replies, self.requests[start:], strict=False):
                if not answers(reply, request):
                    raise ProtocolError(
                        f"this {type(reply).__name__} does not answer a {type(request).__name__}"
                    )
            if len(encoded) > MAX_BATCH_BYTES:
                return replies
        self._known = what, replies
        return replies

    def _votes(self, start: int, count: int) -> Collection[Reply]:
        """So many votes, which only Accepts of a series have asked for."""
        begin = start - len(self.alone)
        if self.accepts is None or begin < 0:
            raise ProtocolError("votes answer what is no series of Accepts")
        return Votes(self.accepts.vers[begin : begin + count])


class Exchange:
    """One batch on one connection, from its turn to be sent to its last reply, if it has any.

    Args:
        batch: the batch.
        deliver: takes the replies; None: there will be none.
        ended: is told of its end.
        again: whether another connection may have carried it already.

    Attributes:
        waits: whether it asks for a turn, so that it may take a while until it is answered, and
            that says nothing of the acceptor.
    """

    __slots__ = (
        "_again", "_asked", "_missing", "connection", "count", "first", "sent", "size", "waits",
    )  # fmt: skip

    def __init__(
        self, batch: Batch, deliver: Deliver | None, ended: Ended | None, again: bool
    ) -> None:
        self._asked: tuple[Batch, Deliver | None, Ended | None] | None = (batch, deliver, ended)
        self._again = again
        self.count = 0 if deliver is None else batch.count  # of the replies to come
        self._missing = set(range(self.count))
        self.size = len(batch.encoded)
        self.waits = bool(batch.alone) and isinstance(batch.alone[0], Turn)
        self.first = -1  # its first request id, once it is being sent
        self.connection = 0  # on which of those of the link that was; 0: on none yet
        self.sent = math.inf  # when that was

    @property
    def answered(self) -> bool:
        """Whether all replies have come."""
        return not self._missing

    @property
    def again(self) -> bool:
        """Whether it may have arrived, with this connection or with one before."""
        return self._again or self.first >= 0

    def begin(self, first: int, connection: int) -> bytes:
        """The frame to send, now that it has request ids, if it needs any."""
        assert self._asked is not None, "a batch that nobody waits for is never sent"
        self.first = first
        self.connection = connection
        self.sent = trio.current_time()
        return run(first if self.count else None, self._asked[0].encoded)

    def abandon(self) -> None:
        """Whoever asked has gone: from now on only count the replies."""
        self._asked = None

    def end(self) -> None:
        """Tell whoever asked that it is at its end."""
        if self._asked is not None and self._asked[2] is not None:
            self._asked[2](self)

    def take(self, first: int, count: int, encoded: bytes | None) -> bool:
        """Take replies if this exchange still misses them, and say whether it did.

        Args:
            first: the request id of the first.
            count: how many there are.
            encoded: the replies, which are decoded only for somebody who waits; what is wrong
                with others does no harm. None: votes.

        Raises:
            ProtocolError: they do not answer what was asked.
        """
        start = first - self.first
        indexes = range(start, start + count)
        if not self._missing.issuperset(indexes):
            return False
        if self._asked is None:
            self._missing.difference_update(indexes)
            return True
        batch, deliver, _ = self._asked
        assert deliver is not None, "what needs no replies misses none"
        replies = batch.replies(start, count, encoded)
        self._missing.difference_update(indexes)
        deliver(start, replies, self._again, self.answered)
        if self.answered:
            self.end()
        return True


class Link:
    """A connection to one acceptor, opened again whenever it is lost.

    Args:
        address: where to look for the acceptor.
        welcome: judges whom the link has reached, each time it has.
        changed: is called when the link comes up, goes down or is turned down.
        rng: where the jitter of its pauses comes from.

    Attributes:
        addresses: where to look for the acceptor, the likeliest first.
        reached: where it has looked last.
        acceptor: whom this link is for; None while only its address is known.
        connection: which one this is, or was, counted from 1.
    """

    def __init__(
        self, address: Address, welcome: Welcome, changed: Callable[[], None], rng: Random
    ) -> None:
        self.addresses = [address]
        self.reached = address
        self.acceptor: AcceptorId | None = None
        self.connection = 0
        self._tried: dict[Address, PaxosKVError | None] = {}  # who answered there last, if refused
        self._welcome = welcome
        self._changed = changed
        self._rng = rng
        self._failures = 0  # attempts in a row without a single reply
        self._attempt = trio.CancelScope()  # around one connection
        self._closed = False
        self._down: str | None = "not reached yet"  # None: up
        self._last_heard = 0.0
        self._next_id = 0
        self._silence = ""  # how long it was silent, when that was the end of a connection
        self._outbox: dict[Exchange, None] = {}  # not begun; whoever asked still waits
        self._unanswered: list[Exchange] = []  # begun, oldest first
        self._told = 0  # bytes sent since it answered last that need no answer
        self._ready = trio.lowlevel.ParkingLot()  # askers, while we are down or behind
        self._stream: Stream | None = None  # while it is up
        self._rest = memoryview(b"")  # of what was begun, and the system did not take at once
        self._writer = trio.lowlevel.ParkingLot()  # the writer, while there is no such rest

    @property
    def up(self) -> bool:
        """Whether the acceptor has greeted on a connection that is still open."""
        return self._down is None

    @property
    def failed(self) -> bool:
        """Whether the last attempt to reach the acceptor failed."""
        return self._failures > 0

    @property
    def refused(self) -> PaxosKVError | None:
        """Why those who answer, at each of its addresses, are no acceptors of ours."""
        refusals = [self._tried.get(address) for address in self.addresses]
        return refusals[-1] if all(refusals) else None

    @property
    def behind(self) -> bool:
        """Whether so much is unanswered that the acceptor counts as unreachable."""
        exchanges = [*self._unanswered, *self._outbox]
        return (
            len(exchanges) >= MAX_UNANSWERED_FRAMES
            or sum([exchange.size for exchange in exchanges]) >= MAX_UNANSWERED_BYTES
        )

    @property
    def ready(self) -> bool:
        """Whether :meth:`post` may be called."""
        return self.up and not self.behind

    def prompt(self, within: float) -> bool:
        """Whether the acceptor is there, and owes no answer for longer than so many seconds."""
        owed = self._longest_owed() if self.up else None
        if owed is None:
            return self.up and not self._rest  # or it does not take what it is told
        return trio.current_time() - owed.sent <= within

    def _longest_owed(self) -> Exchange | None:
        """What the acceptor owes an answer to for the longest, turns apart."""
        for exchange in self._unanswered:
            if not exchange.waits:
                return exchange
        return None

    def explain(self) -> str:
        """Why this acceptor has not answered, for people."""
        if self._down is not None:
            return self._down
        return f"connected, but silent for {trio.current_time() - self._last_heard:.1f} s"

    # --- for those who ask -----------------------------------------------------------

    def post(self, batch: Batch, deliver: Deliver, ended: Ended, again: bool = False) -> Exchange:
        """Send a batch, and deliver the replies as they come; the link must be ready.

        Args:
            batch: the batch.
            deliver: takes the replies.
            ended: is told once that all have come, or that the connection was lost before.
            again: whether the batch was sent before.
        """
        exchange = Exchange(batch, deliver, ended, again)
        self._post(exchange)
        return exchange

    def tell(self, batch: Batch) -> None:
        """Send a batch of commits, which need no answers; the link must be ready.

        It is lost with the connection.
        """
        self._post(Exchange(batch, None, None, again=False))

    def _post(self, exchange: Exchange) -> None:
        assert self.ready, "nothing is sent to an acceptor that is down or behind"
        self._outbox[exchange] = None
        self._send()

    def withdraw(self, exchange: Exchange) -> None:
        """Withdraw a batch that was not begun, and give up the answer to one that was."""
        exchange.abandon()
        if self._outbox.pop(exchange, exchange) is None:
            self._let_askers_go_on()

    def _let_askers_go_on(self) -> None:
        """Wake those who wait until the link is ready, if it is."""
        if self._ready and self.ready:
            self._ready.unpark_all()

    async def ask(self, batch: Batch, deliver: Deliver, again: bool = False) -> None:
        """Send a batch, deliver the replies, and return when all of them have come.

        It waits while the link is down or behind, and sends the batch again when the
        connection was lost. Cancelled, it withdraws the batch; the connection goes on.
        """
        while True:
            while not self.ready:
                await self._ready.park()
            ended = trio.Event()
            exchange = self.post(batch, deliver, partial(_set, ended), again)
            try:
                await ended.wait()
            finally:
                self.withdraw(exchange)
            if exchange.answered:
                return
            again = exchange.again

    # --- the connection --------------------------------------------------------------

    async def run(self) -> None:
        """Keep the link up until cancelled, or until it turns out not to be needed."""
        while True:
            refused = None
            reason: str | None = "is reached anew"
            with trio.CancelScope() as self._attempt:
                try:
                    reason = await self._connect_and_serve()
                except PaxosKVError as error:
                    refused, reason = error, str(error)
                except (OSError, UnicodeError) as error:  # a host name that cannot be encoded
                    reason = _why(error)
            if reason is None or self._closed:
                return
            self._failures += 1
            self._down, self._tried[self.reached] = reason, refused
            self._changed()
            pause = min(RECONNECT_FIRST * 2.0 ** min(self._failures - 1, 16), RECONNECT_MAX)
            await trio.sleep(pause * self._rng.uniform(0.5, 1.0))

    def reopen(self) -> None:
        """Give up the connection, if there is one; whoever answers is judged anew."""
        self._attempt.cancel()

    def close(self) -> None:
        """End :meth:`run`: the link is not needed any more."""
        self._closed = True
        self._attempt.cancel()

    async def _connect_and_serve(self) -> str | None:
        """One connection, from its opening to its loss.

        Returns:
            Why it was lost, or None: the link is not needed.

        Raises:
            OSError: no connection.
            PaxosKVError: whoever answers is no acceptor of ours.
        """
        # After a connection that served, the likeliest address comes first again.
        address = self.addresses[max(self._failures - 1, 0) % len(self.addresses)]
        self.reached = address
        with trio.move_on_after(CONNECT_TIMEOUT) as connecting:
            stream = await connect(address)
        if connecting.cancelled_caught:
            return f"did not accept a connection within {CONNECT_TIMEOUT} s"
        with stream:
            self._down = "accepted a connection, but did not greet yet"
            with trio.move_on_after(CONNECT_TIMEOUT) as greeting:
                identity = await _receive_greeting(stream)
            if greeting.cancelled_caught:
                return f"accepted a connection, but did not greet within {CONNECT_TIMEOUT} s"
            if not self._welcome(self, identity):
                return None
            return await self._serve(stream)

    async def _serve(self, stream: Stream) -> str:
        """Serve those who ask, on a connection that was welcomed; return why it was lost."""
        self._down = None
        self.connection += 1
        self._tried.clear()
        self._last_heard = trio.current_time()
        self._next_id = self._told = 0
        self._silence = ""
        self._stream = stream
        self._changed()
        self._let_askers_go_on()
        reason = "the connection broke"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, nursery.cancel_scope)
                nursery.start_soon(self._watch, nursery.cancel_scope)
                reason = await self._read(stream)
                nursery.cancel_scope.cancel()
            reason = self._silence or reason
        finally:
            self._down = reason
            self._stream = None
            self._rest = memoryview(b"")
            for exchange in (*self._unanswered, *self._outbox):
                exchange.end()  # whoever still waits for it asks again
            self._unanswered.clear()
            self._outbox.clear()
        return reason

    def _send(self) -> None:
        """Send what waits, in one piece, as far as the system takes it at once.

        Nobody else ever begins a frame, and none is begun before the last one has left.
        """
        while self._outbox and not self._rest and self._stream is not None:
            data = bytearray()
            while self._outbox and len(data) < MAX_BATCH_BYTES:
                exchange = next(iter(self._outbox))
                del self._outbox[exchange]
                data += exchange.begin(self._next_id, self.connection)
                self._next_id += exchange.count
                if exchange.answered:  # it was told, and that was all
                    self._told += exchange.size
                else:
                    self._unanswered.append(exchange)
            self._rest = memoryview(data)[self._stream.send_now(data) :]
        if self._rest:
            self._writer.unpark()

    async def _write(self, stream: Stream, connection: trio.CancelScope) -> None:
        """Send what was not taken at once, and then what has waited for that.

        Cancelled in the middle of a frame, the connection is over, and not used again.
        """
        while True:
            while not self._rest:
                await self._writer.park()
            patience = SILENCE_TIMEOUT + len(self._rest) / SLOWEST_LINK
            try:
                with trio.move_on_after(patience) as sending:
                    await stream.send_all(self._rest)
            except trio.BrokenResourceError:
                connection.cancel()
                return
            if sending.cancelled_caught:
                self._silence = f"did not take what it was sent within {patience:.1f} s"
                connection.cancel()
                return
            self._rest = memoryview(b"")
            self._send()
            self._let_askers_go_on()  # what needs no answer has left room

    async def _read(self, stream: Stream) -> str:
        """Take replies until the connection is lost; return why it was."""
        buffer = FrameBuffer()
        while True:
            try:
                data = await stream.receive()
            except trio.BrokenResourceError:
                return "the connection broke"
            if not data:
                return "closed the connection"
            self._last_heard = trio.current_time()
            try:
                for payload in buffer.feed(data):
                    self._take(*open_replies(payload))
            except StoreError as error:
                return f"cannot serve now: {error}"
            except ProtocolError as error:
                return f"broke the protocol: {error}"
            self._let_askers_go_on()

    async def _watch(self, connection: trio.CancelScope) -> None:
        """Give up the connection when an acceptor that owes an answer is silent for too long."""
        while True:
            now = trio.current_time()
            due = now + SILENCE_TIMEOUT  # at the earliest, for what is asked from now on
            owed = self._longest_owed()
            if owed is not None:
                size = self._told + sum(exchange.size for exchange in self._unanswered)
                patience = SILENCE_TIMEOUT + size / SLOWEST_LINK
                due = max(self._last_heard, owed.sent) + patience
                if due <= now:
                    self._silence = f"owed an answer, and was silent for {patience:.1f} s"
                    connection.cancel()
                    return
            await trio.sleep_until(due)

    def _take(self, first: int, count: int, encoded: bytes | None) -> None:
        for index, exchange in enumerate(self._unanswered):
            if exchange.take(first, count, encoded):
                if exchange.answered:
                    del self._unanswered[index]
                self._failures = self._told = 0
                return
        raise ProtocolError("a reply to a request that was not made, or was answered")


def _set(event: trio.Event, _: Exchange) -> None:
    event.set()


async def _receive_greeting(stream: Stream) -> Identity:
    """The greeting, which is all that an acceptor says before it is asked.

    Raises:
        OSError: the connection was lost before.
        ProtocolError: it is no greeting of ours.
    """
    if stream.socket.getsockname() == stream.socket.getpeername():
        # On loopback, connecting to a free port may meet itself, and then hold the port.
        raise OSError("nobody listens there")
    buffer = FrameBuffer(MAX_GREETING_BYTES)
    while True:
        try:
            data = await stream.receive()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise OSError("closed the connection before it greeted")
        try:
            payloads = list(buffer.feed(data))
        except ProtocolError:  # what it calls the length of its greeting is something else
            raise ProtocolError("it does not greet as a paxoskv acceptor") from None
        for payload in payloads:
            identity = decode_greeting(payload)
            if buffer:
                raise ProtocolError("an acceptor spoke before it was asked")
            return identity


def _why(error: OSError | UnicodeError) -> str:
    """What went wrong, in as few words as the system has for it."""
    cause: BaseException = error
    while isinstance(cause.__cause__, BaseExceptionGroup):
        cause = cause.__cause__.exceptions[0]
    number = cause.errno if isinstance(cause, OSError) else None
    # The errors of name look-ups have negative numbers, and texts of their own.
    text = os.strerror(number) if number is not None and number > 0 else str(cause)
    return text[:1].lower() + text[1:]
