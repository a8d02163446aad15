"""A client at work: the calls of one client, in terms of proposals.

Each call has its time, a cluster to ask, and operations that it hands to the rounds. What
users see of it, in terms of values and entries, is `paxoskv.kv`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from random import Random
from zlib import crc32

import trio

from .calls import Call, Calls
from .cluster import Cluster
from .errors import SETTLE, ProtocolError, TooLarge, Unavailable
from .identity import Address, Ids
from .limits import COMMIT_PATIENCE, CONTENDED, LINE_PATIENCE, MAX_VERSION, TURN_SLICE
from .link import Batch, Link
from .paxos.appender import Appender
from .paxos.bid import Bid
from .paxos.messages import (
    END,
    FAST,
    Ballot,
    Commit,
    Compacted,
    Instance,
    Proposal,
    Reply,
    Told,
    Turn,
)
from .paxos.operation import Done, Doubtful, Latest, ResultT
from .paxos.preparer import Preparer
from .paxos.proposer import Ballots, Decision, Proposals, Proposer, Tops
from .paxos.quorums import Quorums
from .paxos.reader import Finder, Reader
from .paxos.scanner import Scanner
from .remembered import Begun, Lately, Remembered, Turns, Unfinished
from .rounds import BidJob, Job, Rounds
from .tasks import background_nursery, unwrapped
from .values import to_entry
from .writers import TakeTurn, Writer, Writers


class Nothing(Enum):
    """What an append computes when there is nothing to write."""

    NOTHING = "nothing to write"


@asynccontextmanager
async def open_client(
    addresses: tuple[Address, ...],
    timeout: float,
    rng: Random,
    *,
    fast: bool = True,
    courtesy: bool = True,
) -> AsyncIterator[Client]:
    """A client, for the time of the block; then calls that still wait are ended."""
    async with background_nursery() as nursery:
        client = Client(addresses, timeout, rng, nursery, fast=fast, courtesy=courtesy)
        try:
            yield client
        finally:
            client.close()
            await client.rounds.commits.send()


class _Append:
    """How far an append has come.

    Attributes:
        call: which it is.
        writer: its turn to write the key.
        key: the key.
        latest: the latest version that it knows.
        looked_up: whether it looked that up, and has tried nothing since.
        ahead: what prepares the version that it will write, while it waits for the turn.
        bets: whether it began with a bet that the key is a new one.
        turn: since when it has the turn, for it waited in line; None: it did not.
        fast: whether the next try may begin at ballot 0.
        beaten: whether another has won the version that it tried last.
        duelled: whether attempts of that try were refused.
    """

    __slots__ = (
        "_quorums", "_tops", "ahead", "beaten", "bets", "call", "duelled", "fast", "key",
        "latest", "looked_up", "turn", "writer",
    )  # fmt: skip

    def __init__(self, call: Call, writer: Writer, key: str, quorums: Quorums) -> None:
        self.call = call
        self.writer = writer
        self.key = key
        self._quorums = quorums
        self._tops: Tops | None = None  # mostly nobody asks for them
        self.latest: Latest | None = None
        self.ahead: Job[Ballot | None] | None = None
        self.turn: float | None = None
        self.looked_up = self.bets = self.fast = self.beaten = self.duelled = False

    @property
    def tops(self) -> Tops:
        """What the acceptors told during the call."""
        if self._tops is None:
            self._tops = Tops(self._quorums)
        return self._tops

    def compute(
        self, compute: Callable[[Latest | None], bytes | Nothing | None]
    ) -> bytes | Nothing | None:
        """What to write after the latest version known.

        Raises:
            Exception: what the function raises of a version that was looked up.
        """
        try:
            return compute(self.latest)
        except Exception:
            if self.looked_up:
                raise
            return Nothing.NOTHING


class Client:
    """The calls of one client of a cluster. Any number of tasks may make them.

    Every call may raise :class:`Unavailable`, ``WrongCluster``, ``ProtocolError`` and
    ``trio.ClosedResourceError``; cancelled, it leaves nothing behind but what it may have
    proposed.

    Args:
        addresses: of one or more acceptors.
        timeout: seconds that a call may take.
        rng: where jitter comes from.
        nursery: where links and rounds run.
        fast: whether it may begin at ballot 0.
        courtesy: whether it waits in line to write a key that others write as well.

    Attributes:
        rounds: what carries the operations.
        attempts: how many ballots its operations have begun.
    """

    def __init__(
        self,
        addresses: tuple[Address, ...],
        timeout: float,
        rng: Random,
        nursery: trio.Nursery,
        *,
        fast: bool = True,
        courtesy: bool = True,
    ) -> None:
        self._nursery = nursery
        self._fast = fast
        self._courtesy = courtesy
        self._ids = Ids()
        self._proposals = Proposals(self._ids.new())
        self._cluster = Cluster(addresses, nursery, rng, lambda: self._calls.judge())
        self.rounds = Rounds(self._cluster.links, lambda: self._cluster.quorums, nursery, rng)
        self._calls = Calls(self._cluster, self.rounds, timeout, nursery)
        self._remembered = Remembered()
        self._unfinished = Unfinished()
        self._writers = Writers()
        self._contended = Lately(CONTENDED)  # keys that others have been seen to write
        self._turns = Turns()
        self._creating = False  # whether the key of which it knew nothing last was a new one
        self.attempts = 0

    async def decide(
        self, what: str, instance: Instance, own: Proposal | bytes
    ) -> Proposal | Compacted:
        """Decide an instance, with this proposal if that may be; what is chosen in the end.

        Args:
            what: the call, for people.
            instance: what to decide.
            own: the proposal, or the value of a new one.
        """
        with (
            self._calls.new(what) as call,
            self._writers.writer(instance.key, call.waiting) as writer,
        ):
            writer.take_turn_now()  # or a place in line: in the order of the calls
            await self._members_known(call)
            await writer.take_turn()
            turn = await self._wait_in_line(call, instance.key)
            known = self._remembered.get(instance.key)
            if known is not None and known.ver == instance.ver:
                self._keep_turn(instance.key, turn)
                await trio.lowlevel.checkpoint()  # who asks again and again lets others go on
                return known.proposal
            fast = isinstance(own, bytes) and self._may_begin_fast()
            ballots, promised = self._begin(instance, fast=fast)
            if isinstance(own, bytes):
                own = self._proposals.proposal(own)
            quorums = self._cluster.quorums
            proposer = Proposer(instance, own, quorums, ballots, promised=promised)
            writer.writes(instance.ver)
            decision = await self._perform(call, Job(proposer))
            self._unfinished.remove(instance)
            taken = not isinstance(decision, Proposal) or _is_of_another(decision, own)
            # Of a version that was there before, it says nothing that others have written it.
            was_next = known is None or known.ver < instance.ver
            won = isinstance(decision, Proposal) and decision.id == own.id
            self._after_writing(proposer, turn, won=won, beaten=taken and was_next)
            if not won:
                self._keep_turn(instance.key, turn)
        assert decision is not None, "whoever proposes something ends with something"
        if isinstance(decision, Proposal):
            self._remembered.learn(instance.key, Latest(instance.ver, decision))
        return decision

    async def read(self, instance: Instance) -> Decision:
        """Read one version (rule R6)."""
        with (
            self._calls.new(f"get {instance.key!r} version {instance.ver}") as call,
            self._writers.writer(instance.key, call.waiting) as writer,
        ):
            await self._members_known(call)
            reader = Reader(instance, self._cluster.quorums, self._ballots())
            decision = await self._perform(call, Job(reader, writer.take_turn))
        return decision

    async def find(self, key: str, below: int = END) -> Latest | None:
        """Find the latest version of a key (rule R6), or the one before another, if it is kept."""
        with (
            self._calls.new(f"get {key!r}") as call,
            self._writers.writer(key, call.waiting) as writer,
        ):
            await self._members_known(call)
            latest = await self._find(call, key, writer.take_turn, below=below)
        return latest

    async def history(self, key: str) -> list[Latest]:
        """The versions of a key that are still kept, oldest first."""
        versions: list[Latest] = []
        below = END
        with (
            self._calls.new(f"history of {key!r}") as call,
            self._writers.writer(key, call.waiting) as writer,
        ):
            await self._members_known(call)
            while below > 0:
                found = await self._find(call, key, writer.take_turn, below=below)
                if found is None:
                    break
                versions.append(found)
                below = found.ver
        return versions[::-1]

    async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
        """The latest versions of the keys with a prefix that come next after a key.

        Returns:
            As many as one page has, in key order, and after which key the next page begins
            (None: this was the last).
        """
        with self._calls.new(f"scan of {prefix!r}") as call:
            await self._members_known(call)
            scanner = Scanner(prefix, after, self._cluster.quorums)
            merged = await self._perform(call, Job(scanner))
            found: dict[str, Latest | None] = {**merged.settled}

            async def find(key: str) -> None:
                with self._writers.writer(key, call.waiting) as writer:
                    found[key] = await self._find(call, key, writer.take_turn)

            with call.waiting("keys that one page leaves open"), unwrapped():
                async with trio.open_nursery() as nursery:
                    for key in merged.open:
                        nursery.start_soon(find, key)
        page = {key: latest for key, latest in sorted(found.items()) if latest is not None}
        return page, merged.after

    async def append(
        self,
        name: str,
        key: str,
        compute: Callable[[Latest | None], bytes | Nothing | None],
        *,
        blind: bool = False,
    ) -> Latest | None:
        """Write what is computed from the latest version as the next one (rule R7).

        Args:
            name: of the call, for people.
            key: the key.
            compute: is given the latest version and returns the next value (None: deleted).
                It is called once more for each version that another wins, and before it is
                believed that there is nothing to write, or that it cannot be computed.
            blind: whether it computes the same from whatever is there.

        Returns:
            What was written, or None: when the latest version was looked up, there was
            nothing to write.
        """
        with (
            self._calls.new(f"{name} {key!r}") as call,
            self._writers.writer(key, call.waiting) as writer,
        ):
            writer.take_turn_now()  # or a place in line: in the order of the calls
            await self._members_known(call)
            append = _Append(call, writer, key, self._cluster.quorums)
            await self._start(append, blind)
            while True:
                value = append.compute(compute)
                if isinstance(value, Nothing):
                    if append.looked_up:
                        self._keep_turn(key, append.turn)
                        return None
                    # That may be due to a version that is out of date by now.
                    await self._look_up(append)
                    continue
                won = await self._try(append, value)
                if won is not None:
                    return won
                await self._go_on_behind(append)
        raise AssertionError("the call ends by one of the returns, or by an error")

    async def _start(self, append: _Append, blind: bool) -> None:
        """Take the turn to write, and begin with what is remembered, a bet, or what is there."""
        call, key, writer = append.call, append.key, append.writer
        if not writer.take_turn_now():
            await self._take_turn_behind(append)
        append.turn = await self._wait_in_line(call, key)
        append.fast = self._may_begin_fast()
        append.latest = self._remembered.get(key)
        if append.latest is None:
            append.bets = blind and append.fast and self._creating
            if not append.bets:
                await self._look_up(append)
                self._creating = append.latest is None

    async def _look_up(self, append: _Append) -> None:
        """Find out what the latest version is."""
        append.latest = await self._find(append.call, append.key, tops=append.tops)
        append.looked_up = True

    async def _try(self, append: _Append, value: bytes | None) -> Latest | None:
        """Propose a value for the version after the latest known, and give it back if it has won.

        Raises:
            Unavailable: nobody can tell whether it is written.
        """
        call, latest = append.call, append.latest
        instance = Instance(append.key, 0 if latest is None else latest.ver + 1)
        if instance.ver > MAX_VERSION:
            raise TooLarge(f"no version of {append.key!r} is left after {MAX_VERSION}")
        own = self._proposals.proposal(value)
        write = self._write(append, instance, own)
        append.writer.writes(instance.ver)
        job = BidJob(write) if isinstance(write, Bid) else Job(write)
        found: Latest | Doubtful | None = Doubtful(None)  # until it has come to an end
        try:
            found = await self._perform(call, job)
        finally:
            if isinstance(found, Doubtful):
                self._unfinished.add(instance, Begun(write.ballots))
        if isinstance(write, Bid) and write.whole:
            return self._seen(append.key, write.won)  # and there is nothing else to be learned
        if isinstance(found, Doubtful):
            self._seen(append.key, found.latest)  # so that the next call does not begin here
            absent = self._cluster.absent(())
            raise Unavailable(
                f"{call.what}: later versions came about while version {instance.ver} was "
                f"being written{absent and '; '}{absent}; it may have been written all the "
                f"same{SETTLE}",
                to_entry(instance, own),
                own,
            )
        self._unfinished.remove(instance)
        append.latest = latest = self._seen(append.key, found)
        append.looked_up = False
        beaten = latest is not None and _is_of_another(latest.proposal, own)
        won = latest is not None and latest.proposal.id == own.id
        # Once may be because what it remembered was out of date, or it bet amiss.
        self._after_writing(write, append.turn, won=won, beaten=beaten and append.beaten)
        append.beaten = beaten
        append.duelled = write.lost > 0
        return latest if won else None

    def _write(self, append: _Append, instance: Instance, own: Proposal) -> Appender | Bid:
        """What tries to write a proposal.

        A bid, where nothing was begun yet at the version, and others are not known to write the
        key: who waits in line for it is told more than votes.
        """
        quorums = self._cluster.quorums
        if append.fast and append.turn is None and self._unfinished.get(instance) is None:

            def begin() -> Appender:
                ballots = self._ballots()
                return Appender(instance, own, quorums, ballots, append.tops, promised=FAST)

            return Bid(instance, own, begin)
        ballots, promised = self._begin(instance, append.tops, fast=append.fast)
        return Appender(instance, own, quorums, ballots, append.tops, promised=promised)

    async def _go_on_behind(self, append: _Append) -> None:
        """Another was first: find out behind what to go on, which a put must be told (rule R7)."""
        call, key = append.call, append.key
        self._creating = self._creating and not append.bets
        append.turn = await self._wait_in_line(call, key)
        waits = append.turn is not None
        append.fast = (waits or not append.duelled) and self._may_begin_fast()
        told = self._remembered.get(key)  # the line may have told a later one
        append.latest = latest = told or append.latest
        if latest is not None and not append.tops.allow(latest.ver + 1):
            append.latest = await self._find(call, key, tops=append.tops)

    async def _take_turn_behind(self, append: _Append) -> None:
        """Wait for the turn behind another call, and prepare the next version meanwhile."""
        try:
            await append.writer.take_turn(partial(self._prepare, append))
            if append.ahead is not None:  # mostly it has ended by now
                await self.rounds.finish(append.ahead)
        finally:
            if append.ahead is not None:
                self._end_preparing(append.ahead)
                append.ahead = None

    def _prepare(self, append: _Append, ver: int) -> None:
        """Begin to prepare the version that comes after the one which another call writes.

        Only where ballot 0 is of no use to anybody: it takes one round trip as well, and leaves
        the version open to other clients. Whether this call will write is not known yet.
        """
        key = append.key
        if append.call.stopped or ver >= MAX_VERSION:
            return
        if self._may_begin_fast() or self._contended.has(key):
            return
        instance = Instance(key, ver + 1)
        ballots, _ = self._begin(instance, fast=False)
        try:
            preparer = Preparer(instance, self._cluster.quorums, ballots, append.tops)
        except ProtocolError:
            return  # there is no ballot left, as the call will find in its turn
        append.ahead = Job(preparer)
        append.call.begin(append.ahead)
        self.rounds.begin(append.ahead)

    def _end_preparing(self, job: Job[Ballot | None]) -> None:
        """Remember what was promised, if that is known by now."""
        self.rounds.give_up(job)
        preparer = job.operation
        assert isinstance(preparer, Preparer)
        self.attempts += preparer.attempts
        begun = self._unfinished.get(preparer.instance)
        if begun is not None and begun.ballots is preparer.ballots:
            begun.promised = job.outcome.result if isinstance(job.outcome, Done) else None

    def _begin(
        self, instance: Instance, tops: Tops | None = None, *, fast: bool
    ) -> tuple[Ballots, Ballot | None]:
        """Begin to propose: ballots to do so with, and one of them if it is promised already.

        They are remembered until it is known what is chosen, also where the call comes to no end.

        Args:
            instance: where to propose.
            tops: what the acceptors told during the call, where its version must be the latest.
            fast: whether to begin at ballot 0, unless this client was there before.
        """
        begun = self._unfinished.get(instance)
        if begun is None:
            ballots = self._ballots()
            self._unfinished.add(instance, Begun(ballots))
            return ballots, FAST if fast else None
        promised, begun.promised = begun.promised, None  # it is good for one proposal (R5)
        allowed = tops is None or tops.allow(instance.ver)
        return begun.ballots, promised if allowed else None

    def check_open(self) -> None:
        """Raise what a call does that begins now, if it does."""
        self._calls.check_open()

    async def checkpoint(self) -> None:
        """Do what every call does that has nothing to do."""
        self.check_open()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """End the calls that still wait, and let no new one begin."""
        self._calls.close()

    async def _find(
        self,
        call: Call,
        key: str,
        take_turn: TakeTurn | None = None,
        tops: Tops | None = None,
        below: int = END,
    ) -> Latest | None:
        """Find the latest version, or the one before another, if it is kept (rule R6).

        ``tops`` hears what the acceptors tell.
        """
        finder = Finder(key, self._cluster.quorums, self._ballots(), below, tops)
        found = await self._perform(call, Job(finder, take_turn))
        assert below < END or not isinstance(found, Compacted), "the latest is never dropped"
        return None if isinstance(found, Compacted) else self._seen(key, found)

    def _seen(self, key: str, found: Latest | None) -> Latest | None:
        """Remember what was found."""
        if found is not None:
            self._remembered.learn(key, found)
        return found

    async def _perform(self, call: Call, job: Job[ResultT]) -> ResultT:
        call.begin(job)
        try:
            return await self.rounds.perform(job)
        finally:
            self.attempts += job.operation.attempts

    def _ballots(self) -> Ballots:
        """The ballots and proposal ids of a client that begins at an instance.

        A random id for each, so that among ballots of the same number no client is the one
        that always loses.
        """
        return Ballots(self._ids.new())

    async def _wait_in_line(self, call: Call, key: str) -> float | None:
        """Wait for the turn to write a key that others write as well, and learn the latest.

        A mere courtesy, for a bounded while, at the acceptor that the key names.

        Returns:
            Since when it has the turn, or waits no longer for it. None: others are not known to
            write the key.
        """
        if not self._courtesy or not self._contended.has(key):
            return None
        since = self._turns.take(key)
        if since is not None:
            return since
        link = self._link_in_line(key)
        if link is None:
            return trio.current_time()
        before = self._remembered.get(key)

        def deliver(_start: int, replies: Collection[Reply], *_: bool) -> None:
            (told,) = replies
            if isinstance(told, Told) and told.proposal is not None:
                self._remembered.learn(key, Latest(told.ver, told.proposal))
                # The next version of ours tells it to the others, which do not know it yet.
                commit = Commit(Instance(key, told.ver), told.proposal.id, None)
                self.rounds.commits.add(commit, COMMIT_PATIENCE)

        what = "its turn among the clients that write the key"
        with call.waiting(what), trio.move_on_after(LINE_PATIENCE):
            await link.ask(Batch([Turn(key)]), deliver)
        if self._remembered.get(key) is not before:
            self._contended.note(key)
            if before is not None:
                self.rounds.commits.take(Instance(key, before.ver))  # others have told it
        return trio.current_time()

    def _keep_turn(self, key: str, turn: float | None) -> None:
        """If a call waited in line, and has written nothing, its turn is for the next one.

        Else who reads and then writes would be told each time, once the turn had come, that
        meanwhile another has written.
        """
        if turn is not None:
            self._turns.keep(key, turn)

    def _link_in_line(self, key: str) -> Link | None:
        """The link to the acceptor where those who write a key wait in line.

        The key names it; while it is away, the next one takes its place. Clients that do not
        agree who is away duel.
        """
        links = [link for _, link in sorted(self._cluster.links.items())]
        named = crc32(key.encode()) % len(links)
        there = (link for link in links[named:] + links[:named] if link.prompt(LINE_PATIENCE))
        return next(there, None)

    def _after_writing(
        self, write: Proposer | Appender | Bid, turn: float | None, *, won: bool, beaten: bool
    ) -> None:
        """Take note if others write a key as well; and keep the turn for a moment, or hand it on.

        Who only counted the attempts that it lost could be beaten for ever, one version after
        the other: where refusals show at once what is chosen, none is lost.
        """
        instance = write.instance
        met_others = write.lost > 0 or write.crowded or beaten
        if met_others:
            self._contended.note(instance.key)
        if won and turn is not None and trio.current_time() < turn + TURN_SLICE:
            self._turns.keep(instance.key, turn)
            self._nursery.start_soon(self._end_turn, instance)
        elif met_others or turn is not None:
            self._tell_in_line(instance)

    async def _end_turn(self, instance: Instance) -> None:
        """Let those go on who wait in line, if whoever has written a version does not go on.

        It runs once the caller has had the time to call again. A caller behind him, of the same
        client, has the turn as well.
        """
        key = instance.key
        if key not in self._writers.holders and self._turns.take(key) is not None:
            self._tell_in_line(instance)

    def _tell_in_line(self, instance: Instance) -> None:
        link = self._link_in_line(instance.key)
        if link is not None:
            self.rounds.commits.tell_now(instance, link)

    def _may_begin_fast(self) -> bool:
        """Whether a fast quorum can be expected to answer at once."""
        return self._fast and self.rounds.prompt

    async def _members_known(self, call: Call) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._cluster.links:
            with call.waiting("the members of the cluster"):
                await self._cluster.known()


def _is_of_another(proposal: Proposal, own: Proposal) -> bool:
    """Whether it is of another client; those of calls that go on with each other share the id."""
    return proposal.id.proposer != own.id.proposer
