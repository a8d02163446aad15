"""The fan-out: one nursery, one cancel scope, stop at quorum.

An operation is a machine without I/O (`paxoskv.paxos.operation`); this drives it. A
*round* is one fan-out, of one frame to every acceptor, that carries the next step of
every operation waiting at that moment. An acceptor that can be asked gets it at once, by a
plain call; for one that cannot, a task of the round's nursery waits until it can, and only then
is there a nursery. As replies come in, each goes to its operation; one that is decided wakes its
caller, one that has a next step joins the next round, and when a round has no operation left that
waits for it, its scope is cancelled. So nobody waits for the slowest acceptor, and a thousand
concurrent calls share a nursery, a frame and a system call.

Appends that begin at ballot 0 are bids (`paxoskv.paxos.bid`): those of a round go out as one
series, and where acceptors answer that they have voted for all of them, they are decided together.

A round is owned by the client, not by the callers that it serves: a cancelled call takes
its own operation out, and nobody else notices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Generic

import trio

from .commits import PendingCommits
from .errors import ProtocolError
from .limits import (
    COMMIT_DELAY,
    COMMIT_PATIENCE,
    COMMIT_ROUND_TRIPS,
    LATE,
    LATE_ROUND_TRIPS,
    MAX_BATCH_BYTES,
    MAX_OPEN_ROUNDS,
    MAX_PAUSE,
    MAX_ROUND_OPERATIONS,
)
from .link import Batch, Deliver, Exchange, Link
from .pauses import Pauses
from .paxos.bid import Bid
from .paxos.messages import AcceptorId, Reply, Request
from .paxos.operation import Done, Doubtful, Latest, Operation, Outcome, Pause, ResultT
from .paxos.quorums import Quorums
from .paxos.series import Accepts, Votes
from .wire import size_of, size_of_sight
from .writers import TakeTurn

_FIRST_GUESS = 0.001  # seconds a round trip takes, until one was measured
_SMOOTHING = 0.1  # the weight of the newest round trip in their average


class Job(Generic[ResultT]):
    """An operation that somebody waits for, or will, and where it is at the moment.

    Args:
        operation: what is to be done.
        take_turn: waits for the turn to write; for a reader, which begins to write when it
            goes on after a pause.
    """

    __slots__ = (
        "_task", "_woken", "index", "operation", "outcome", "pause_end", "request", "round",
        "take_turn",
    )  # fmt: skip

    def __init__(self, operation: Operation[ResultT], take_turn: TakeTurn | None = None) -> None:
        self.operation = operation
        self.take_turn = take_turn
        self.request: Request | None = None  # the step to send, or that was sent; None: a bid
        self.round: _Round | None = None  # which carries the request; None: in a queue
        self.index = 0  # of the request in its round
        self.pause_end: float | None = None  # when it takes the next step; None: it waits
        # What its caller was woken for; None: its pause is over, and it needs the turn.
        self.outcome: Done[ResultT] | Exception | None = None
        # Cheaper than an Event, for every call waits at least once.
        self._task: trio.lowlevel.Task | None = None  # which waits to be woken
        self._woken = False

    @property
    def ended(self) -> bool:
        """Whether its caller was woken for its end."""
        return self.outcome is not None

    def wake(self, outcome: Done[ResultT] | Exception | None) -> None:
        """Wake the caller, unless it knows already how this ends."""
        if self.outcome is None:
            self.outcome = outcome
            self._woken = True
            if self._task is not None:
                trio.lowlevel.reschedule(self._task)
                self._task = None

    async def woken(self) -> None:
        """Wait to be woken. One task may do so."""
        if self._woken:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        self._woken = False

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class BidJob(Job[Latest | Doubtful | None]):
    """A bid that somebody waits for. Until it has turned, it has no request of its own."""

    __slots__ = ("bid",)

    def __init__(self, bid: Bid) -> None:
        super().__init__(bid)
        self.bid = bid


class _Round:
    """One fan-out. It is over when it has no job left, or all acceptors have answered.

    Args:
        jobs: what it carries.
        bids: those of them that are a series, and come last.
        acceptors: whom it asks.
        batch: what it asks them.
        client: where the task runs that opens a nursery, if it needs one.
    """

    __slots__ = (
        "_client", "_later", "_nursery", "asked", "batch", "bids", "jobs", "measured", "over",
        "posted", "started", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        jobs: Sequence[Job[Any]],
        bids: Sequence[BidJob],
        acceptors: Iterable[AcceptorId],
        batch: Batch,
        client: trio.Nursery,
    ) -> None:
        self.jobs = dict(enumerate(jobs))  # by their index; those it still carries
        self.bids = _Bids(self, bids) if bids else None  # until they part
        self.waiting = len(jobs)  # those of them that do not pause
        self.asked = set(acceptors)  # those that have not answered in full
        self.batch = batch
        self.posted: list[tuple[Link, Exchange]] = []
        self.over = False
        self.started = trio.current_time()
        self.measured = False  # whether it told how long a round trip takes
        self._client = client
        self._later: list[tuple[Link, Deliver, bool]] = []  # to be asked once the nursery is open
        self._nursery: trio.Nursery | None = None  # once it is open
        for index, job in self.jobs.items():
            job.round, job.index = self, index

    def ask(self, link: Link, deliver: Deliver, again: bool) -> None:
        """Let a task ask an acceptor that cannot be asked at once."""
        if self._nursery is not None:
            self._nursery.start_soon(link.ask, self.batch, deliver, again)
            return
        if not self._later:
            self._client.start_soon(self._ask_later)
        self._later.append((link, deliver, again))

    def ask_again(self, link: Link, deliver: Deliver, exchange: Exchange) -> None:
        """An exchange has ended; if its connection was lost, a task waits for the next one."""
        if not exchange.answered:
            self.ask(link, deliver, exchange.again)

    async def _ask_later(self) -> None:
        """Ask whoever could not be asked at once, until it is over."""
        if self.over:
            return
        async with trio.open_nursery() as self._nursery:
            try:
                for link, deliver, again in self._later:
                    self.ask(link, deliver, again)
                await trio.sleep_forever()  # for others may lose their connection
            finally:
                self.end()  # also when the client breaks down: nobody may be asked again

    def drop(self, jobs: Iterable[Job[Any]]) -> None:
        """Carry jobs no more. Without any it is over."""
        for job in jobs:
            job.round = None
            del self.jobs[job.index]
        if not self.jobs:
            self.end()

    def end(self) -> None:
        """It is over: nobody is asked any more."""
        self.over = True
        self._later.clear()  # which knows of this round: a cycle is work for the collector
        for link, exchange in self.posted:
            link.withdraw(exchange)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()


class _Bids:
    """The bids of a round, as long as all that was said of them is: voted for.

    Args:
        round_: which carries them.
        jobs: the bids; of those that were given up, the round knows no more.

    Attributes:
        round, jobs: the same.
        heard: who has voted for all of them, and whether he was asked more than once.
        pause_end: when they part, for a quorum has voted; None: it has not.
    """

    __slots__ = ("heard", "jobs", "pause_end", "round")

    def __init__(self, round_: _Round, jobs: Sequence[BidJob]) -> None:
        self.round = round_
        self.jobs = jobs
        self.heard: dict[AcceptorId, bool] = {}
        self.pause_end: float | None = None
        for job in jobs:
            job.bid.heard = self.heard

    @property
    def carried(self) -> list[BidJob]:
        """Those that the round still carries."""
        return [job for job in self.jobs if job.round is self.round]


class Rounds:
    """Carries operations to the acceptors and back.

    Args:
        links: the links to all members of the cluster. It may be empty at first, while
            nothing is performed.
        quorums: tells those of the cluster, once something is performed.
        nursery: where the rounds run; they end when it is cancelled.
        rng: where the length of pauses is drawn from.

    Attributes:
        commits: what the operations have found to be chosen, and the acceptors may not know.
        count: of the rounds so far.
    """

    def __init__(
        self,
        links: Mapping[AcceptorId, Link],
        quorums: Callable[[], Quorums],
        nursery: trio.Nursery,
        rng: Random,
    ) -> None:
        self.commits = PendingCommits(links, nursery)
        self._links = links
        self._quorums = quorums
        self._nursery = nursery
        self._rng = rng
        self._continuing: dict[Job[Any], None] = {}  # have been in a round: these go first
        self._fresh: dict[Job[Any], None] = {}
        self._pauses: Pauses[Job[Any] | _Bids] = Pauses(nursery, self._go_on)
        self._launching = False
        self._alone = True  # whether whoever comes next seems to be the only one
        self._prompt: bool | None = None  # until the next round
        self._open = 0  # rounds in which an operation waits for replies
        self._round_trip = _FIRST_GUESS
        self.count = 0

    @property
    def prompt(self) -> bool:
        """Whether a fast quorum answered promptly when the latest round began."""
        if self._prompt is None:
            within = max(LATE, LATE_ROUND_TRIPS * self._round_trip)
            prompt = sum(link.prompt(within) for link in self._links.values())
            self._prompt = prompt >= self._quorums().fast_quorum
        return self._prompt

    async def perform(self, job: Job[ResultT]) -> ResultT:
        """Drive an operation to its end, and return its result.

        Cancelled, or stopped, the operation is given up; a request that is under way stays so.

        Raises:
            ProtocolError: the operation cannot go on with what the acceptors said.
            Exception: what it was stopped with.
        """
        self._enqueue(job, self._fresh, None if isinstance(job, BidJob) else job.operation.ask())
        return await self.finish(job)

    def begin(self, job: Job[Any]) -> None:
        """Begin an operation ahead of its time; it is to be finished, or given up.

        Its request shares a round with what else is asked for at this moment.
        """
        self._alone = False  # others are about to join
        self._enqueue(job, self._fresh, job.operation.ask())

    async def finish(self, job: Job[ResultT]) -> ResultT:
        """Drive an operation that was begun to its end; see :meth:`perform`."""
        operation = job.operation
        try:
            while not job.ended:
                await job.woken()
                if not job.ended:
                    assert job.take_turn is not None
                    await job.take_turn()
                    if not job.ended:  # it may have been while the turn was handed over
                        self._enqueue(job, self._continuing, operation.ask())
        except BaseException:
            self.give_up(job)
            raise
        finally:
            if operation.commit is not None:
                self.commits.add(operation.commit, self._commit_delay())
        outcome = job.outcome
        assert outcome is not None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.result

    def stop(self, job: Job[Any], error: Exception) -> None:
        """End an operation that is under way with an error, unless it has ended.

        From here on it asks for nothing more, whatever replies come before its caller runs:
        the error may say that nothing was written.
        """
        job.wake(error)
        self.give_up(job)

    def give_up(self, job: Job[Any]) -> None:
        """Carry an operation no further; a request that is under way stays so."""
        self._fresh.pop(job, None)
        self._continuing.pop(job, None)
        self._leave_round(job)

    def _commit_delay(self) -> float:
        """How long a commit waits for a round that takes it along."""
        return min(max(COMMIT_DELAY, COMMIT_ROUND_TRIPS * self._round_trip), COMMIT_PATIENCE)

    def _pause(self, job: Job[Any], pause: Pause) -> None:
        """Let a job wait for a while, before it takes its next step."""
        low, high = pause
        draw = (low if low == high else self._rng.uniform(low, high)) * self._round_trip
        self._pauses.begin(job, min(draw, MAX_PAUSE))

    def _go_on(self, job: Job[Any] | _Bids) -> None:
        """Its pause is over."""
        if isinstance(job, _Bids):
            self._part(job, waited=True)
            return
        self._leave_round(job)
        if job.take_turn is not None:
            job.wake(None)
            return
        try:
            request = job.operation.ask()
        except ProtocolError as error:
            job.wake(error)
        else:
            self._enqueue(job, self._continuing, request)

    def _enqueue(self, job: Job[Any], queue: dict[Job[Any], None], request: Request | None) -> None:
        job.request = request
        queue[job] = None
        self._launch()

    def _launch(self) -> None:
        """Start the next round, if somebody waits for one and there may be one more.

        It begins at the next turn of the scheduler, so that all who are about to join
        can do so; or at once, for somebody who seems to be alone.
        """
        if self._launching or self._open >= MAX_OPEN_ROUNDS:
            return
        if self._continuing or self._fresh:
            if self._alone and not self._open:
                self._begin()
            else:
                self._launching = True
                self._nursery.start_soon(self._run_round)

    async def _run_round(self) -> None:
        self._launching = False
        if self._continuing or self._fresh:  # else all that waited were cancelled meanwhile
            self._begin()

    def _begin(self) -> None:
        """Begin a round: send its frame to all acceptors that can be asked at once."""
        self._prompt = None
        jobs = self._take_jobs()
        bids = [job for job in jobs if isinstance(job, BidJob) and job.request is None]
        alone = [self.commits.ride(job.request) for job in jobs if job.request is not None]
        if bids and alone:
            jobs = [job for job in jobs if job.request is not None] + [*bids]
        accepts = self._series(bids) if bids else None
        batch = Batch(alone, accepts, self.commits.take_series())
        round_ = _Round(jobs, bids, self._links, batch, self._nursery)
        self.count += 1
        self._open += 1
        self._alone = len(jobs) == self._open == 1
        for acceptor, link in self._links.items():
            deliver = partial(self._deliver, round_, acceptor)
            if link.ready:
                ended = partial(round_.ask_again, link, deliver)
                exchange = link.post(batch, deliver, ended)
                round_.posted.append((link, exchange))
                if batch.commits and not exchange.connection and link.ready:
                    # The round may be over before it is begun there, and then it is withdrawn.
                    link.tell(Batch((), commits=batch.commits))
            else:
                round_.ask(link, deliver, again=False)
        self._launch()  # for those that did not fit in

    def _take_jobs(self) -> list[Job[Any]]:
        """The jobs of the next round: the oldest first, as many as fit."""
        jobs: list[Job[Any]] = []
        room = MAX_BATCH_BYTES
        for queue in (self._continuing, self._fresh):
            while queue and len(jobs) < MAX_ROUND_OPERATIONS:
                job = next(iter(queue))
                size = _size_of(job)
                if jobs and size > room:
                    return jobs
                room -= size
                del queue[job]
                jobs.append(job)
        return jobs

    def _series(self, bids: Sequence[BidJob]) -> Accepts:
        """What the bids of a round ask for."""
        ids, values = zip(*[job.bid.own for job in bids], strict=True)
        keys, vers = zip(*[job.bid.instance for job in bids], strict=True)
        return Accepts(ids[0].proposer, [serial for _, serial in ids], keys, vers, values)

    def _deliver(
        self,
        round_: _Round,
        acceptor: AcceptorId,
        start: int,
        replies: Collection[Reply],
        again: bool,
        complete: bool,
    ) -> None:
        """Hand replies to the operations that this round still carries."""
        bids = round_.bids
        if bids is not None:
            if isinstance(replies, Votes) and len(replies) == len(bids.jobs):
                self._count(bids, acceptor, again)
                replies = ()
            elif start + len(replies) > round_.batch.count - len(bids.jobs):
                self._part(bids)
        for index, reply in enumerate(replies, start):
            job = round_.jobs.get(index)
            if job is None:
                continue
            outcome: Outcome[Any] | ProtocolError | None
            try:
                outcome = job.operation.receive(acceptor, reply, again)
            except ProtocolError as error:
                outcome = error  # of this operation alone
            if outcome is not None:
                self._measure(round_)
                self._advance(round_, job, outcome)
        if complete:
            round_.asked.discard(acceptor)
            if not round_.asked:
                # With the replies of all acceptors, each operation has had a next step.
                assert not round_.waiting, "a round ended before its operations"
                round_.end()

    def _count(self, bids: _Bids, acceptor: AcceptorId, again: bool) -> None:
        """An acceptor has voted for all of them: choose, or see whether a fast quorum will."""
        bids.heard[acceptor] = again
        quorums = self._quorums()
        if len(bids.heard) >= quorums.fast_quorum:
            self._win(bids)
        elif len(bids.heard) == quorums.quorum:
            self._measure(bids.round)
            self._pauses.begin(bids, min(self._round_trip, MAX_PAUSE))

    def _win(self, bids: _Bids) -> None:
        """All of them are chosen."""
        round_ = bids.round
        self._measure(round_)
        self._part_from(bids)
        self._commit_series(round_)
        won = bids.carried
        round_.drop(won)
        for job in won:
            job.wake(Done(job.bid.won))
        self._waits_less(round_, len(won))

    def _commit_series(self, round_: _Round) -> None:
        """All that the series of a round has proposed is chosen, and the acceptors may not know."""
        accepts = round_.batch.accepts
        assert accepts is not None, "bids go out as a series"
        carried = {link: exchange.connection for link, exchange in round_.posted}
        self.commits.add_series(accepts.commits, carried, self._commit_delay())

    def _part(self, bids: _Bids, waited: bool = False) -> None:
        """They are not decided together: each goes on by itself, with what was heard.

        ``waited``: for one more vote, as each of them would by itself.
        """
        round_ = bids.round
        self._part_from(bids)
        for job in bids.carried:
            outcome = job.bid.turn()
            if waited and isinstance(outcome, Pause):
                self._go_on(job)
            elif outcome is not None:
                self._measure(round_)
                self._advance(round_, job, outcome)

    def _part_from(self, bids: _Bids) -> None:
        bids.round.bids = None
        if bids.pause_end is not None:
            self._pauses.end(bids)

    def _advance(
        self, round_: _Round, job: Job[Any], outcome: Outcome[Any] | ProtocolError
    ) -> None:
        if isinstance(outcome, Pause):
            if job.pause_end is None:
                self._waits_less(round_)
            self._pause(job, outcome)  # a late reply may also change a pause
            return
        self._leave_round(job)
        if isinstance(outcome, Done | ProtocolError):
            job.wake(outcome)
        else:
            self._enqueue(job, self._continuing, outcome)

    def _leave_round(self, job: Job[Any]) -> None:
        """Take a job out of the round that carries it, if any."""
        round_ = job.round
        if round_ is None:
            return
        round_.drop((job,))
        if job.pause_end is None:
            self._waits_less(round_)
        else:
            self._pauses.end(job)  # a late reply, or the end of its call, has ended it

    def _waits_less(self, round_: _Round, jobs: int = 1) -> None:
        """So many jobs less of a round wait for replies. With none, it is not open any more."""
        round_.waiting -= jobs
        if jobs and not round_.waiting:
            self._open -= 1
            self._launch()

    def _measure(self, round_: _Round) -> None:
        if not round_.measured:
            round_.measured = True
            # A wait for links that were down says nothing of round trips.
            took = min(trio.current_time() - round_.started, 4 * self._round_trip + 0.01)
            self._round_trip += _SMOOTHING * (took - self._round_trip)


def _size_of(job: Job[Any]) -> int:
    """About how many bytes its request takes in a frame."""
    if job.request is not None:
        return size_of(job.request)
    assert isinstance(job, BidJob), "whoever waits for a round has something to ask"
    return size_of_sight(job.bid.instance.key, job.bid.own)
