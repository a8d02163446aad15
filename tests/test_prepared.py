"""The next version prepared ahead: phase 1 in advance, where ballot 0 is of no use.

First the machine, then the line of those who write one key, then calls over TCP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from paxoskv import KV, Entry, TooLarge, Unavailable, client, open_kv, open_local_cluster
from paxoskv.errors import ProtocolError
from paxoskv.limits import MAX_BALLOT, MAX_UNFINISHED, MAX_VERSION
from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.messages import (
    FAST,
    Accept,
    Ballot,
    Chosen,
    Instance,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Refusal,
    Vote,
    Voted,
)
from paxoskv.paxos.operation import Done, Latest
from paxoskv.paxos.preparer import Preparer
from paxoskv.paxos.proposer import Ballots, Proposer, Tops
from paxoskv.paxos.quorums import Quorums
from paxoskv.remembered import Begun, Unfinished
from paxoskv.writers import Writer, Writers

from .pure import Acceptors

ME, OTHER = b"m" * 16, b"o" * 16
A, B = (letter.encode() * 16 for letter in "AB")
FOO = Instance("foo", 1)
THREE = Quorums(3)


# --- the preparer -----------------------------------------------------------------------


def preparer(ver: int = 1) -> tuple[Preparer, Ballots]:
    ballots = Ballots(ME)
    return Preparer(Instance("foo", ver), THREE, ballots, Tops(THREE)), ballots


def test_r4_a_quorum_that_promises_and_never_voted_leaves_the_choice_free() -> None:
    acceptors = Acceptors()
    acceptors.vote("AB", 0, b"x")
    prepares, ballots = preparer()
    ballot = acceptors.drive(prepares, "AB")
    assert ballot == Ballot(1, ME)
    own = ballots.proposal(b"mine")
    proposes = Proposer(FOO, own, THREE, ballots, promised=ballot)
    assert acceptors.drive(proposes, "AB") == own
    assert acceptors.requests[1:] == [Accept(FOO, Ballot(1, ME), own)], "one round trip, a majority"
    assert prepares.attempts + proposes.attempts == 1


def test_one_promise_twice_is_no_quorum() -> None:
    prepares, _ = preparer()
    prepares.ask()
    for _ in range(2):
        assert prepares.receive(A, Promise(None, 0)) is None
    assert prepares.receive(B, Promise(None, 0)) == Done(Ballot(1, ME))


@pytest.mark.parametrize("ballot", [FAST, Ballot(1, b"a" * 16)])
def test_r4_a_vote_in_the_quorum_leaves_no_free_choice(ballot: Ballot) -> None:
    acceptors = Acceptors()
    voted = Proposal(ProposalId(OTHER, 1), b"x")
    acceptors.by_name["A"].handle(Accept(FOO, ballot, voted))
    assert acceptors.drive(preparer()[0], "AB") is None
    assert acceptors.drive(preparer()[0], "BA") is None


@pytest.mark.parametrize(
    "reply",
    [
        Refusal(Ballot(2, OTHER), None, 0),
        Refusal(Ballot(2, OTHER), Vote(FAST, Proposal(ProposalId(OTHER, 1), b"x")), 1),
        Chosen(Proposal(ProposalId(OTHER, 1), b"x"), 1),
    ],
)
def test_without_a_quorum_of_promises_nothing_is_prepared(reply: Refusal | Chosen) -> None:
    prepares, _ = preparer()
    prepares.ask()
    assert prepares.receive(A, Promise(None, 0)) is None
    assert prepares.receive(B, reply) == Done(None), "who waits has a turn to take"


def test_r9_nothing_is_prepared_where_it_was_dropped() -> None:
    acceptors = Acceptors(keep=1)
    for ver in range(3):
        acceptors.commit("A", ver, acceptors.vote("AB", ver, b"x"))
    assert acceptors.drive(preparer()[0], "AB") is None


def test_r7_nothing_is_prepared_below_the_top() -> None:
    acceptors = Acceptors()
    acceptors.vote("AB", 2, b"beyond a gap")
    assert acceptors.drive(preparer()[0], "AC") is None
    assert acceptors.drive(preparer(3)[0], "AC") == Ballot(1, ME)


def test_r5_who_is_refused_with_a_prepared_ballot_goes_on_with_another() -> None:
    ballots = Ballots(ME)
    own = ballots.proposal(b"mine")
    proposes = Proposer(FOO, own, THREE, ballots, promised=ballots.above(FAST))
    assert proposes.ask() == Accept(FOO, Ballot(1, ME), own)
    for acceptor in (A, B):
        proposes.receive(acceptor, Refusal(Ballot(4, OTHER), None, 0))
    assert proposes.ask() == Prepare(FOO, Ballot(5, ME))
    assert proposes.maybe == own, "C may have voted for it"
    for acceptor in (A, B):
        request = proposes.receive(acceptor, Promise(None, 0))
    assert request == Accept(FOO, Ballot(5, ME), own)
    proposes.receive(A, Voted(1))
    assert proposes.receive(B, Voted(1)) == Done(own)


# --- the line of those who write --------------------------------------------------------


class Line:
    """Writers of one key, and what each has noted, in order."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.writers = Writers()
        self.notes: list[tuple[str, object]] = []
        self._nursery = nursery

    def writer(self) -> Writer:
        return self.writers.writer("foo", nullcontext)

    async def stand(self, name: str, *, near: bool = False) -> trio.CancelScope:
        """Let somebody wait for the turn; cancel it to let him go, or to end his turn."""
        scope = trio.CancelScope()

        async def stand() -> None:
            with scope, self.writer() as writer:
                await writer.take_turn(partial(self._note, name) if near else None)
                self.notes.append((name, "turn"))
                await trio.sleep_forever()

        self._nursery.start_soon(stand)
        await wait_all_tasks_blocked()
        return scope

    def _note(self, name: str, ver: int) -> None:
        self.notes.append((name, ver))

    async def end(self, scope: trio.CancelScope) -> list[tuple[str, object]]:
        """What is noted after that, too."""
        scope.cancel()
        await wait_all_tasks_blocked()
        return self.told()

    def told(self) -> list[tuple[str, object]]:
        """What was noted since the last time."""
        told = self.notes[:]
        self.notes.clear()
        return told


async def test_who_waits_to_write_has_the_turn_in_order() -> None:
    async with trio.open_nursery() as nursery:
        line = Line(nursery)
        with line.writer() as first:
            assert first.take_turn_now()
            second = await line.stand("second", near=True)
            third = await line.stand("third", near=True)
            fourth = await line.stand("fourth")
            assert not line.told(), "nobody knows what the first one writes"
            first.writes(7)
            await wait_all_tasks_blocked()
            assert line.told() == [("second", 7)]
        await wait_all_tasks_blocked()
        assert line.told() == [("second", "turn")], "nobody knows what he writes"
        line.writers.holders["foo"].writes(9)
        await wait_all_tasks_blocked()
        assert line.told() == [("third", 9)]
        fifth = await line.stand("fifth", near=True)
        assert await line.end(second) == [("third", "turn")]
        assert await line.end(third) == [("fourth", "turn")]
        assert await line.end(fourth) == [("fifth", "turn")]
        assert not await line.end(fifth)
        assert not line.writers.holders


async def test_who_comes_late_hears_at_once_what_is_written() -> None:
    async with trio.open_nursery() as nursery:
        line = Line(nursery)
        with line.writer() as first:
            await first.take_turn()
            first.writes(0)
            second = await line.stand("second", near=True)
            assert line.told() == [("second", 0)]
            third = await line.stand("third", near=True)
            assert not line.told(), "somebody is before him"
            assert await line.end(second) == [("third", 0)]
        await wait_all_tasks_blocked()
        assert line.told() == [("third", "turn")]
        assert not await line.end(third)
        with line.writer() as last:
            await last.take_turn(pytest.fail)
            last.writes(3)  # and nobody waits who could be told
        assert not line.writers.holders


async def test_a_turn_that_was_handed_to_somebody_who_is_cancelled_is_handed_on() -> None:
    async with trio.open_nursery() as nursery:
        line = Line(nursery)
        with line.writer() as first:
            await first.take_turn()
            second = await line.stand("second", near=True)
            third = await line.stand("third")
            second.cancel()  # he has not noticed when the turn comes
        await wait_all_tasks_blocked()
        assert line.told() == [("third", "turn")]
        await line.end(third)
        assert not line.writers.holders


# --- what a client remembers of it ------------------------------------------------------


def test_what_was_begun_is_known_until_something_is_chosen() -> None:
    unfinished = Unfinished()
    begun = Begun(Ballots(ME))
    unfinished.add(FOO, begun)
    assert unfinished.get(FOO) is begun
    assert unfinished.get(Instance("foo", 2)) is None
    unfinished.remove(FOO)
    unfinished.remove(FOO)
    assert unfinished.get(FOO) is None


def test_r12_of_too_many_versions_the_oldest_are_forgotten() -> None:
    unfinished = Unfinished()
    for ver in range(MAX_UNFINISHED + 1):
        unfinished.add(Instance("foo", ver), Begun(Ballots(ME)))
    assert unfinished.get(Instance("foo", 0)) is None
    assert unfinished.get(Instance("foo", 1)) is not None


# --- calls ------------------------------------------------------------------------------


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Instance]:
    """What acceptors are asked to promise, as it comes."""
    asked: list[Instance] = []
    handle = Acceptor.handle

    def spy(self: Acceptor, request: object) -> object:
        if isinstance(request, Prepare):
            asked.append(request.instance)
        return handle(self, request)  # type: ignore[arg-type]

    monkeypatch.setattr(Acceptor, "handle", spy)
    return asked


async def put_many(kv: KV, count: int, update: Callable[[int | None], int] | None = None) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            if update is None:
                nursery.start_soon(kv.put, "foo", 1)
            else:
                nursery.start_soon(kv.update, "foo", update)


async def test_while_an_acceptor_is_away_writes_of_one_key_take_one_round_trip_each() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        cluster.stop(2)
        await kv.put("foo", 0)
        attempts, rounds = kv.attempts, kv.rounds
        await put_many(kv, 40, lambda old: (old or 0) + 1)
        assert await kv.get("foo") == Entry("foo", 41, 40)
        assert kv.attempts == attempts + 40, "one ballot each"
        # Two more at the beginning, for the tops, and one for the look-up.
        assert kv.rounds - rounds <= 40 + 3, "who prepares shares a round with who writes"
        assert not kv._client._unfinished._begun, "all has come to an end"


async def test_a_client_that_never_sends_ballot_0_prepares_as_well(
    prepared: list[Instance],
) -> None:
    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses, fast=False) as kv,
        open_kv(cluster.addresses) as other,
    ):
        await kv.put("foo", 0)
        await put_many(kv, 10)
        assert {ver for _, ver in prepared} == set(range(11))
        assert (await kv.get("foo")) == Entry("foo", 10, 1)
        assert await other.put("foo", 2) == Entry("foo", 11, 2)


async def test_r5_r7_what_was_prepared_serves_once_and_who_was_there_when_it_was() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("bar", 0)  # the members are known
        ballots, promised = kv._client._begin(FOO, fast=True)
        assert promised == FAST
        begun = kv._client._unfinished.get(FOO)
        assert begun is not None
        assert begun.ballots is ballots
        assert kv._client._begin(FOO, fast=True) == (ballots, None), "ballot 0 may have its vote"
        tops = Tops(THREE)
        for allowed in (False, True):
            begun.promised = ballots.above(FAST)
            expected = begun.promised if allowed else None
            assert kv._client._begin(FOO, tops, fast=True) == (ballots, expected)
            assert kv._client._begin(FOO, fast=False) == (ballots, None)
            for acceptor in (A, B):
                tops.hear(acceptor, 1)


async def test_who_waits_when_ballot_0_is_of_use_again_prepares_nothing(
    held: Held, prepared: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = held.kv
    async with trio.open_nursery() as nursery:
        for val in (1, 2):
            await stand(nursery, kv.put, "foo", val)
        monkeypatch.setattr(kv._client, "_may_begin_fast", lambda: True)
        await held.tell(1)
        await trio.sleep(0.02)
        assert {ver for _, ver in prepared} == {0}
        held.release.set()


async def test_each_ballot_counts_as_one_attempt() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.05) as kv:
        await kv.put("foo", 0)
        cluster.stop(1)
        cluster.stop(2)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await kv.put("foo", 1)
        assert kv.attempts == 6


async def test_a_put_that_is_cancelled_is_not_in_the_way_of_the_next_one() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        for steps in range(40):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kv.put, "foo", 1)
                for _ in range(steps % 20):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await kv.put("foo", 2)
            assert not kv._client._contended.has("foo"), "no other client writes it"


async def test_where_ballot_0_serves_nothing_is_prepared(prepared: list[Instance]) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        await put_many(kv, 20)
        assert not prepared
        assert (await kv.get("foo")) == Entry("foo", 20, 1)


async def stand(
    nursery: trio.Nursery, call: Callable[..., Awaitable[object]], *args: object
) -> None:
    """Start a call, and let it come as far as it can: to its turn, or its place in line."""
    nursery.start_soon(call, *args)
    await wait_all_tasks_blocked()


class Held:
    """A client that never sends ballot 0, and whose writes wait in their turn for an event."""

    def __init__(self, kv: KV, prepared: list[Instance]) -> None:
        self.kv = kv
        self.release = trio.Event()
        self.entries: list[Entry] = []  # that were put
        self._prepared = prepared
        kv._client._wait_in_line = self._wait_in_line  # type: ignore[method-assign]

    async def _wait_in_line(self, *_: object) -> None:
        await self.release.wait()

    async def put(self, val: int) -> None:
        self.entries.append(await self.kv.put("foo", val))

    async def tell(self, ver: int) -> None:
        """Let the next in line hear which version is being written."""
        await wait_all_tasks_blocked()
        self.kv._client._writers.holders["foo"].writes(ver)
        await wait_all_tasks_blocked()

    async def until_prepared(self, writing: int) -> None:
        """The same, and wait until it has its promises for the next one."""
        await self.tell(writing)
        with trio.fail_after(5):
            while self._prepared.count(Instance("foo", writing + 1)) < 3:  # noqa: ASYNC110
                await trio.sleep(0.001)
        await trio.sleep(0.05)


@pytest.fixture
async def held(prepared: list[Instance]) -> AsyncIterator[Held]:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=False) as kv:
        await kv.put("foo", 0)
        yield Held(kv, prepared)


async def test_who_prepared_and_is_cancelled_leaves_the_version_to_others(
    held: Held,
) -> None:
    async with trio.open_nursery() as nursery:
        await stand(nursery, held.put, 1)
        async with trio.open_nursery() as second:
            second.start_soon(held.put, 2)
            await held.until_prepared(1)
            second.cancel_scope.cancel()
        await stand(nursery, held.put, 3)
        held.release.set()
    assert held.entries == [Entry("foo", 1, 1), Entry("foo", 2, 3)]
    assert not held.kv._client._writers.holders


async def test_who_has_the_turn_before_its_promises_waits_for_them(
    held: Held, prepared: list[Instance]
) -> None:
    """The Prepare was late, and went out by itself; it is not asked for anew."""
    kv, first = held.kv, trio.CancelScope()

    async def put() -> None:
        with first:
            await held.put(1)

    async with trio.open_nursery() as nursery:
        await stand(nursery, put)
        await stand(nursery, held.put, 2)
        attempts = kv.attempts
        kv._client._writers.holders["foo"].writes(0)
        first.cancel()
        held.release.set()
    assert held.entries == [Entry("foo", 1, 2)]
    assert kv.attempts == attempts + 1
    assert prepared.count(Instance("foo", 1)) <= 3, "of each acceptor once"


async def test_who_cannot_prepare_is_in_the_way_of_nobody(held: Held) -> None:
    """No ballot is left: that is an error of the call that needs one."""
    ballots = Ballots(ME)
    ballots._n = MAX_BALLOT
    held.kv._client._unfinished.add(Instance("foo", 2), Begun(ballots))

    async def put() -> None:
        with pytest.raises(ProtocolError):
            await held.put(2)

    async with trio.open_nursery() as nursery:
        await stand(nursery, held.put, 1)
        nursery.start_soon(put)
        await held.tell(1)
        held.release.set()
    assert held.entries == [Entry("foo", 1, 1)]


async def test_r12_who_prepared_and_is_cancelled_keeps_no_round_open(
    prepared: list[Instance],
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=False) as kv:
        await kv.put("foo", 0)
        held = Held(kv, prepared)
        cluster.stop(1)
        cluster.stop(2)
        async with trio.open_nursery() as nursery:
            await stand(nursery, held.put, 1)
            async with trio.open_nursery() as second:
                second.start_soon(held.put, 2)
                await held.tell(1)
                assert kv._client.rounds._open == 1, "one of three has promised"
                second.cancel_scope.cancel()
            assert kv._client.rounds._open == 0
            nursery.cancel_scope.cancel()


async def test_who_was_stopped_prepares_nothing(held: Held, prepared: list[Instance]) -> None:
    """Its task has not noticed yet when it hears what is being written."""

    async def put() -> None:
        with pytest.raises(Unavailable):
            await held.put(2)

    client_ = held.kv._client
    async with trio.open_nursery() as nursery:
        await stand(nursery, held.put, 1)
        await stand(nursery, put)
        _, second = client_._calls.under_way
        second.stop(Unavailable("its time is up"))
        client_._writers.holders["foo"].writes(1)
        held.release.set()
    assert held.entries == [Entry("foo", 1, 1)]
    assert Instance("foo", 2) not in prepared
    assert client_._unfinished.get(Instance("foo", 2)) is None


async def test_r5_what_was_prepared_is_of_no_use_at_another_version(
    held: Held, prepared: list[Instance]
) -> None:
    kv = held.kv
    async with trio.open_nursery() as nursery:
        await stand(nursery, kv.put, "foo", 1)
        nursery.start_soon(kv.put, "foo", 2)
        await held.until_prepared(4)  # it was expected to be higher than it is
        held.release.set()
    assert await kv.get("foo") == Entry("foo", 2, 2)
    assert Instance("foo", 2) in prepared, "nobody votes for what was not prepared"


async def test_where_others_write_nothing_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Preparer", None)
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=False) as kv:
        await kv.put("foo", 0)
        kv._client._contended.note("foo")
        await put_many(kv, 5)
        assert await kv.get("foo") == Entry("foo", 5, 1)


async def test_there_is_nothing_to_prepare_after_the_last_version(
    held: Held, prepared: list[Instance]
) -> None:
    kv = held.kv

    async def put() -> None:
        with pytest.raises(TooLarge):
            await kv.put("foo", 2)

    async with trio.open_nursery() as nursery:
        await stand(nursery, kv.set, "foo", MAX_VERSION, 1)
        for _ in range(3):
            nursery.start_soon(put)
        await held.tell(MAX_VERSION)
        held.release.set()
    assert await kv.get("foo") == Entry("foo", MAX_VERSION, 1)
    assert {ver for _, ver in prepared} == {0, MAX_VERSION}


@pytest.mark.parametrize("fast", [True, False])
async def test_who_prepares_in_vain_is_not_in_the_way_of_its_own_client(fast: bool) -> None:
    """Puts and what is like them wait in line with what writes nothing, or is cancelled."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=fast) as kv:
        await kv.put("foo", 0)
        cluster.stop(2)

        async def delete() -> None:
            await kv.delete("foo")

        async def fail() -> None:
            def compute(_: object) -> object:
                raise LookupError

            with pytest.raises(LookupError):
                await kv.update("foo", compute)

        async def go() -> None:
            with trio.move_on_after(0.002):
                await kv.put("foo", 1)

        async def put() -> None:
            await kv.put("foo", 2)

        async def propose() -> None:
            latest = await kv.latest("foo")
            await kv.propose("foo", 0 if latest is None else latest.ver + 1, 3)

        calls = [put, delete, delete, fail, go, propose]
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(call)
            assert not kv._client._contended.has("foo"), "no other client writes it"
        if fast:
            await cluster.start(2)
            with trio.fail_after(5):
                while not kv._client._may_begin_fast():
                    await kv.get("bar")
            for number in range(3):
                await kv.put("foo", number)
            assert not kv._client._contended.has("foo")


async def test_who_goes_on_behind_another_client_goes_on_with_the_ballots_that_were_begun_there(
    held: Held,
) -> None:
    """The next in line has asked for promises of the version that the first one has to write now.

    It goes on with the same ballots, and is not refused for what was promised.
    """
    async with trio.open_nursery() as nursery:
        await stand(nursery, held.put, 1)
        nursery.start_soon(held.put, 2)
        await held.until_prepared(1)
        begun = held.kv._client._unfinished.get(Instance("foo", 2))
        assert begun is not None
        _, second = held.kv._client._calls.under_way
        assert second._job is not None
        assert second._job.outcome == Done(Ballot(1, begun.ballots._proposer))
        held.kv._client._remembered.learn("foo", Latest(1, begun.ballots.proposal(b"\0")))
        held.release.set()
    assert held.entries == [Entry("foo", 2, 1), Entry("foo", 3, 2)]
    assert held.kv.attempts == 1 + 1 + 2, "the ballot that was prepared, and one for each"


async def test_the_error_of_who_prepared_in_vain_says_that_nothing_was_written() -> None:
    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses, fast=False, timeout=0.3) as kv,
    ):
        await kv.put("foo", 0)
        cluster.stop(1)
        cluster.stop(2)
        errors: list[Unavailable] = []

        async def put(val: int) -> None:
            with pytest.raises(Unavailable) as caught:
                await kv.put("foo", val)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, 1)
            nursery.start_soon(put, 2)
        assert [error.maybe for error in errors] == [None, None], "phase 1 writes nothing"
        assert all("1 of 3 acceptors answered" in str(error) for error in errors)
