"""An acceptor at home: its store kept durable, and its lines. Rule R1, disk before word.

What all connections have saved goes to disk in one flush, and no reply leaves before what it may
rest on is there. See :meth:`Host.answer`. Two kinds rest on nothing there: that a commit has
arrived, and what those in line are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol, TypeVar

import trio

from ._version import __version__
from .errors import StoreDamaged, StoreError
from .identity import Identity
from .limits import COMPANY, DEFAULT_KEEP, HINT_FLUSH_INTERVAL, MEND_PAUSE, QUICK_FLUSH
from .lines import Lines
from .paxos import acceptor
from .paxos.messages import Accept, Commit, Reply, Request, Voted
from .paxos.series import Accepts, Commits

logger: Final = logging.getLogger(__name__)

_FADING: Final = 0.9  # how slowly a slow flush is forgotten

AskedT = TypeVar("AskedT")
AnswerT = TypeVar("AnswerT")


class Store(acceptor.Store[Any], Protocol):
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


class Host:
    """An acceptor at home, whoever asks it.

    Args:
        identity: who it is.
        store: what it remembers. Only one host may use it.
        keep: how many of the newest chosen versions of a key it keeps (rule R9).

    Attributes:
        identity: the same.
        acceptor: which answers.
        lines: of those who wait for a turn to write.
    """

    def __init__(self, identity: Identity, store: Store, keep: int = DEFAULT_KEEP) -> None:
        self.identity = identity
        self.acceptor = acceptor.Acceptor(store, keep, __version__)
        self.lines = Lines()
        self._store = store
        self._flushing = False
        self._flush_time = QUICK_FLUSH  # of the slowest one lately
        self._served: int | None = None  # for whom the last one was
        self._company = COMPANY  # flushes for which others may come along
        self._thread = trio.CapacityLimiter(1)  # of its own: look-ups of names may take all others
        self._flushed = trio.lowlevel.ParkingLot()  # those who wait for the next flush to end
        self._failures = 0
        self._failure = ""
        self._mending = trio.Event()

    async def tend(self) -> NoReturn:
        """Mend the store when it fails, and flush what nobody waits for, until cancelled.

        Raises:
            StoreDamaged: what is on disk is not what was written; it must not go on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mend)
            nursery.start_soon(self._flush_hints)
        raise AssertionError("neither ever returns")

    async def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests, and return the replies once all that they rest on is on disk.

        That includes what other connections have saved meanwhile. Cancelled, what was
        answered may have been kept or not, and no reply leaves.

        Raises:
            StoreError: the disk failed, and nothing may be said.
        """
        replies = [self.reply(request) for request in requests]
        await self.durable()
        return replies

    def reply(self, request: Request, who: object = None) -> Reply:
        """The reply to a request, which may leave once what it rests on is durable.

        Args:
            request: what is asked.
            who: the one who asks, as the lines know him.
        """
        if not self.lines:
            return self._serve(self.acceptor.handle, request)
        written = self._serve(self._written, request)
        reply = self._serve(self.acceptor.handle, request)
        if written:
            self.lines.written(written, who)
        if isinstance(reply, Voted) and isinstance(request, Accept):
            return Voted(reply.top, self.lines.crowded(request.instance.key, who))
        return reply

    def vote(self, accepts: Accepts) -> int:
        """Vote for Accepts; to how many, from the first, a plain Voted is the reply."""
        if self.lines:
            return 0  # whoever waits for a turn may have to be mentioned
        return self._serve(self.acceptor.vote, accepts)

    def learn(self, commits: Commits, who: object = None) -> None:
        """Take Commits, as :meth:`reply` does."""
        if self.lines:
            for each in commits:
                self.reply(each, who)
            return
        self._serve(self.acceptor.learn, commits)

    def _serve(self, answer: Callable[[AskedT], AnswerT], asked: AskedT) -> AnswerT:
        """Let the acceptor answer.

        Raises:
            StoreError: its store has failed, or does so now.
        """
        if self._mending.is_set():
            raise StoreError(self._failure)
        try:
            return answer(asked)
        except StoreDamaged:
            raise
        except StoreError as error:
            self._failed(error)
            raise

    def _written(self, request: Request) -> str:
        """The key of which the next in line may write a version, for this tells of a new one."""
        if not isinstance(request, Commit):
            return ""  # whoever tells it with his next Accept goes on with his turn
        key, ver = request.instance
        return key if key in self.lines and self.acceptor.known(key).ver < ver else ""

    async def durable(self, who: int | None = None) -> None:
        """Wait until all that is saved by now is on disk. One flush serves all who wait.

        Between the making of replies and this nothing may be awaited: a failure in between
        would not be noticed, after which the store has forgotten what they rest on.

        Args:
            who: for whom, as a number; None: for nobody who waits.
        """
        if who is not None and who != self._served:
            self._served, self._company = who, COMPANY
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
            if self._company:
                # All tasks that have read something by now get to answer it first.
                self._company -= 1
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
        """Flush now and then what nobody waits for, and forget who has left the lines."""
        while True:
            await trio.sleep(HINT_FLUSH_INTERVAL)
            self.lines.sweep()
            if self._mending.is_set():
                continue  # nothing can be flushed, and a try would be in the way
            with suppress(StoreError):  # which has been seen to already
                await self.durable()

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
                logger.warning("serves again")
                # The commits that were not flushed are forgotten, and nobody repeats them.
                self.acceptor.missed_unnamed = True
                self._mending = trio.Event()
