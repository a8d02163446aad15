"""Series mean what their messages mean, one after the other, and bids what appends mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from paxoskv import Entry, Unavailable, limits, open_kv, open_local_cluster
from paxoskv import heard as heard_module
from paxoskv.errors import ProtocolError
from paxoskv.heard import Heard, Hearing
from paxoskv.host import Host
from paxoskv.identity import Address, Identity, Member
from paxoskv.kv import KV
from paxoskv.limits import MAX_HEARD_ACCEPTS
from paxoskv.link import Batch, Deliver
from paxoskv.local import LocalCluster
from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.appender import Appender
from paxoskv.paxos.bid import Bid
from paxoskv.paxos.messages import (
    FAST,
    Accept,
    Ballot,
    Chosen,
    Commit,
    Compacted,
    Instance,
    Prepare,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Reply,
    Request,
    Voted,
)
from paxoskv.paxos.operation import Latest, Pause
from paxoskv.paxos.proposer import Ballots, Tops
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.series import Accepts, Commits, CommitSeries, Votes
from paxoskv.rounds import BidJob, Rounds
from paxoskv.storage.disk import DiskStore
from paxoskv.storage.memory import MemoryStore
from paxoskv.wire import encode_replies

from .builds import changes_code

ME, OTHER = b"m" * 16, b"o" * 16
A, B, C = (bytes([letter]) * 16 for letter in b"ABC")
KEYS = "foo", "bar", "日本", "🦆"


def accepts(*items: tuple[str, int], owner: bytes = ME, first: int = 1) -> Accepts:
    """A series of appends of these keys and versions."""
    keys, vers = zip(*items, strict=True)
    count = len(items)
    values = [f"{owner[:1]!r}{number}".encode() for number in range(count)]
    return Accepts(owner, range(first, first + count), keys, vers, values)


# --- the acceptor -----------------------------------------------------------------------


@contextmanager
def on_disk() -> Iterator[DiskStore]:
    identity = Identity(b"c" * 16, A, (Member(A, Address("a", 1)),))
    with TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        DiskStore.create(path, identity)
        store = DiskStore(path, identity)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def in_memory() -> Iterator[MemoryStore]:
    yield MemoryStore()


def random_request(rng: Random, proposals: dict[ProposalId, Proposal]) -> Request:
    """Anything that others may ask at any time, of few keys and versions."""
    instance = Instance(rng.choice(KEYS), rng.randrange(6))
    ballot = Ballot(rng.randint(1, 3), rng.choice((ME, OTHER)))
    value = rng.choice((None, rng.randbytes(3)))
    id_ = ProposalId(OTHER, len(proposals) + 1)
    proposal = proposals[id_] = Proposal(id_, value)
    match rng.randrange(4):
        case 0:
            return Read(instance)
        case 1:
            return Prepare(instance, ballot)
        case 2:
            return Accept(instance, ballot, proposal)
        case _:
            return Accept(instance, FAST, proposal, append=rng.random() < 0.7)


def random_series(rng: Random, serial: int) -> Accepts:
    """Appends of few keys, so that some come twice."""
    count = rng.randint(1, 6)
    return Accepts(
        ME,
        range(serial, serial + count),
        [rng.choice(KEYS) for _ in range(count)],
        [rng.randrange(6) for _ in range(count)],
        [rng.choice((None, b"", rng.randbytes(200))) for _ in range(count)],
    )


def random_commits(rng: Random, store: MemoryStore) -> Commits:
    """Of what was voted for, mostly, and of what was not."""
    cast = [
        (register.voted.proposal.id.serial, key, ver)
        for key in KEYS
        for ver, register in store.ledger(key).registers.items()
        if register.voted is not None and register.voted.proposal.id.proposer == ME
    ]
    rows = rng.sample(cast, min(len(cast), rng.randint(0, 4)))
    if not rows or rng.random() < 0.3:
        rows.append((rng.randint(1, 99), rng.choice(KEYS), rng.randrange(6)))
    serials, keys, vers = zip(*rows, strict=True)
    return Commits(ME, serials, keys, vers)


def answers_to(acceptor: Acceptor, series: Accepts) -> list[Reply]:
    """What a server answers: the rest of a series is handled one by one."""
    voted = acceptor.vote(series)
    return [*Votes(series.vers[:voted]), *map(acceptor.handle, [*series][voted:])]


def remembered(store: Any) -> object:
    return [
        (key, ledger.summary, [ledger.register(ver) for ver in range(7)])
        for key in KEYS
        for ledger in [store.ledger(key)]
    ]


def outcome(answer: Callable[[], object]) -> object:
    """What it returns; or that it was refused, for another proposal is chosen."""
    try:
        return answer()
    except ProtocolError:
        return ProtocolError


@pytest.mark.parametrize("store", [in_memory, on_disk])
@pytest.mark.parametrize("keep", [2, 16])
def test_r2_r3_r7_r8_r9_a_series_is_answered_as_its_messages_are_one_by_one(
    store: Callable[[], AbstractContextManager[Any]], keep: int
) -> None:
    """Whatever the acceptor remembers: promises, votes, choices, and what was dropped."""
    rng = Random(7)
    kinds: set[type] = set()
    for _ in range(60):
        with store() as one, in_memory() as other:
            together, single = Acceptor(one, keep), Acceptor(other, keep)
            proposals: dict[ProposalId, Proposal] = {}
            serial = 1
            for _ in range(30):
                match rng.randrange(5):
                    case 0 | 1:
                        series = random_series(rng, serial)
                        serial += len(series)
                        replies = outcome(lambda: answers_to(together, series))  # noqa: B023
                        alone = outcome(lambda: [single.handle(each) for each in series])  # noqa: B023
                        assert replies == alone
                        if isinstance(replies, list):
                            kinds.update(map(type, replies))
                    case 2:
                        commits = random_commits(rng, other)
                        alone = outcome(lambda: [single.handle(each) for each in commits])  # noqa: B023
                        learned = outcome(lambda: together.learn(commits))  # noqa: B023
                        assert (learned is ProtocolError) == (alone is ProtocolError)
                        assert list(together.missed) == list(single.missed)
                    case _:
                        request = random_request(rng, proposals)
                        assert together.handle(request) == single.handle(request)
                assert remembered(one) == remembered(other)
    assert kinds >= {Voted, Refusal, Chosen}, "all kinds of answers were met"
    assert (Compacted in kinds) == (keep == 2)


def test_r3_a_key_that_comes_twice_in_a_series_gets_one_vote() -> None:
    with on_disk() as store:
        acceptor = Acceptor(store)
        series = accepts(("foo", 0), ("foo", 0), ("foo", 1))
        assert acceptor.vote(series) == 1
        voted, refused, later = answers_to(acceptor, series)
        assert (voted, later) == (Voted(0), Voted(1))
        assert isinstance(refused, Refusal)


def test_all_voted_for_is_one_word() -> None:
    acceptor = Acceptor(MemoryStore())
    series = accepts(("foo", 0), ("bar", 5))
    for _ in range(2):  # the same again is a success
        assert acceptor.vote(series) == 2
        assert [*Votes(series.vers)] == [Voted(0), Voted(5)]


def test_a_series_holds_its_messages() -> None:
    series = accepts(("foo", 0), ("bar", 5))
    first = Accept(Instance("foo", 0), FAST, Proposal(ProposalId(ME, 1), b"b'm'0"), append=True)
    assert len(series) == 2
    assert first in series
    assert first._replace(ballot=Ballot(1, ME)) not in series
    assert [*series.commits][1] == Commit(Instance("bar", 5), ProposalId(ME, 2), None)
    assert series.commits.name == ProposalId(ME, 1)


# --- what answers a series --------------------------------------------------------------


def test_votes_answer_accepts_of_a_series_and_nothing_else() -> None:
    batch = Batch([Read(Instance("foo", 0))], accepts(("foo", 0), ("bar", 5), ("x", 1)))
    assert batch.count == len(batch.requests) == 4
    assert [*batch.replies(1, 3, None)] == [Voted(0), Voted(5), Voted(1)]
    assert [*batch.replies(2, 2, None)] == [Voted(5), Voted(1)], "the same word, about others"
    with pytest.raises(ProtocolError, match="no series"):
        batch.replies(0, 4, None)
    with pytest.raises(ProtocolError, match="no series"):
        Batch([Accept(Instance("foo", 0), FAST, Proposal(ProposalId(ME, 1), b""))]).replies(
            0, 1, None
        )
    # One by one, each is judged as the answer to its own Accept.
    mixed = encode_replies([Voted(0), Refusal(FAST, None, 9)])
    assert [*batch.replies(1, 2, mixed)] == [Voted(0), Refusal(FAST, None, 9)]
    with pytest.raises(ProtocolError, match="does not answer"):
        batch.replies(0, 1, mixed)


# --- what a connection keeps in mind ----------------------------------------------------


def test_r8_a_series_that_was_heard_is_known_by_its_first_until_it_is_chosen() -> None:
    hearing = Hearing()
    with hearing.one() as heard, hearing.one() as other:
        assert heard.take(ProposalId(ME, 1)) is None
        heard.note(accepts(("foo", 0), ("bar", 5)))
        heard.note(accepts(("x", 1), first=3))
        heard.note(accepts(("foo", 0), ("bar", 5)))  # it was sent again
        assert heard.take(ProposalId(ME, 2)) is None, "only the first gives it its name"
        assert other.take(ProposalId(ME, 1)) is None, "it came on another connection"
        commits = heard.take(ProposalId(ME, 1))
        assert commits is not None
        assert [*commits] == [
            Commit(Instance("foo", 0), ProposalId(ME, 1), None),
            Commit(Instance("bar", 5), ProposalId(ME, 2), None),
        ]
        assert heard.take(ProposalId(ME, 1)) is None
        assert heard.take(ProposalId(ME, 3)) is not None
        assert hearing.size == 0
        heard.note(accepts(("x", 1)))
    assert hearing.size == 0, "a connection that is over has heard nothing"


def long_series(number: int) -> Accepts:
    serials = range(100 * number + 1, 100 * number + 101)
    return Accepts(ME, serials, ["k" * 100] * 100, [0] * 100, [bytes(1000)] * 100)


def known(heard: Heard, count: int) -> list[int]:
    """Which of so many series it still knows; then they are forgotten."""
    return [n for n in range(count) if heard.take(ProposalId(ME, 100 * n + 1)) is not None]


def test_r12_of_too_many_series_the_oldest_are_forgotten() -> None:
    count = MAX_HEARD_ACCEPTS // 100 + 5
    hearing = Hearing()
    with hearing.one() as heard:
        for number in range(count):
            heard.note(long_series(number))
        assert known(heard, count) == list(range(5, count))
        assert hearing.size == 0
        heard.note(long_series(0))
        assert 100 * 100 <= hearing.size < 100 * 1000, "keys count, and values are not kept"


def test_r12_of_all_who_have_heard_too_much_the_one_with_most_forgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heard_module, "MAX_HEARD_BYTES", 1_000_000)
    hearing = Hearing()
    with hearing.one() as modest, hearing.one() as greedy:
        modest.note(long_series(0))
        for number in range(18):
            greedy.note(long_series(number))
            assert hearing.size <= 1_000_000
        assert known(modest, 1) == [0]
        left = known(greedy, 18)
        assert left == list(range(left[0], 18))
        assert left[0] > 0


# --- bids -------------------------------------------------------------------------------


def bid(quorums: Quorums) -> tuple[Bid, Appender]:
    """A bid, and an appender that has asked for the same."""
    instance, own = Instance("foo", 3), Proposal(ProposalId(ME, 1), b"mine")

    def begin() -> Appender:
        return Appender(instance, own, quorums, Ballots(ME), Tops(quorums), promised=FAST)

    appender = begin()
    appender.ask()
    return Bid(instance, own, begin), appender


@pytest.mark.parametrize("heard", [(), (A,), (A, B)])
@pytest.mark.parametrize(
    "reply",
    [Voted(3), Refusal(FAST, None, 5), Chosen(Proposal(ProposalId(OTHER, 1), b""), 3)],
)
def test_r4_r7_a_bid_goes_on_as_an_append_that_was_told_the_same(
    heard: tuple[bytes, ...], reply: Reply
) -> None:
    quorums = Quorums(3)
    one, other = bid(quorums)
    assert (one.attempts, one.maybe, one.whole) == (other.attempts, other.maybe, True)
    one.heard = dict.fromkeys(heard, False)
    assert one.replied == set(heard)
    outcome = None
    for acceptor in heard:
        outcome = other.receive(acceptor, Voted(3))
    assert one.turn() == outcome
    assert one.turn() is None, "it turns once"
    assert outcome == (Pause(1.0, 1.0) if len(heard) == 2 else None)
    for acceptor in {A, B, C} - set(heard):
        assert one.receive(acceptor, reply) == other.receive(acceptor, reply)
        assert (one.replied, one.maybe, one.commit) == (other.replied, other.maybe, other.commit)
        if isinstance(reply, Chosen):
            return
    assert (one.attempts, one.lost, one.crowded) == (other.attempts, other.lost, other.crowded)
    assert not one.whole


class FakeLink:
    """A link to an acceptor of which the test says what it answers.

    ``begun``: whether what is posted leaves at once.
    """

    ready = up = begun = True
    connection = 1
    batch: Batch
    deliver: Deliver

    def __init__(self) -> None:
        self.told: list[Sequence[CommitSeries]] = []

    def tell(self, batch: Batch) -> None:
        self.told.append(batch.commits)

    def post(self, batch: Batch, deliver: Deliver, _ended: object) -> object:
        self.batch, self.deliver = batch, deliver
        return SimpleNamespace(connection=self.connection * self.begun)

    async def ask(self, _batch: Batch, _deliver: Deliver, _again: bool) -> None:
        await trio.sleep_forever()

    def withdraw(self, _exchange: object) -> None:
        pass


@pytest.mark.parametrize("parts", [[(0, 2)], [(0, 1), (1, 1)], [(1, 1), (0, 1)]])
async def test_r4_votes_for_a_part_of_a_series_count_for_that_part(
    parts: list[tuple[int, int]],
) -> None:
    links = {acceptor: FakeLink() for acceptor in (A, B, C)}
    won: list[str] = []
    async with trio.open_nursery() as nursery:
        rounds = Rounds(cast("Any", links), lambda: Quorums(3), nursery, Random(1))
        rounds._alone = False  # so that both go in one

        async def perform(key: str) -> None:
            instance, own = Instance(key, 3), Proposal(ProposalId(ME, 1), b"")
            make = Appender(instance, own, Quorums(3), Ballots(ME), Tops(Quorums(3)), promised=FAST)
            found = await rounds.perform(BidJob(Bid(instance, own, lambda: make)))
            assert found == Latest(3, own)
            won.append(key)

        nursery.start_soon(perform, "foo")
        nursery.start_soon(perform, "bar")
        await wait_all_tasks_blocked()
        assert rounds.count == 1
        expected: set[str] = set()
        assert links[A].batch.accepts is not None
        keys = links[A].batch.accepts.keys
        for start, count in parts:
            for acceptor, link in links.items():
                last = (start, count) == parts[-1]
                link.deliver(start, Votes([3] * count), False, last)
                await wait_all_tasks_blocked()
                if acceptor == C:
                    expected |= {*keys[start : start + count]}
                assert set(won) == expected
        nursery.cancel_scope.cancel()
    assert not rounds._open


async def test_r8_it_is_kept_in_mind_on_which_connections_a_series_went_out() -> None:
    """Of four one is away, and one takes nothing at the moment; it hears of other series first."""
    links = {acceptor: FakeLink() for acceptor in (A, B, C, OTHER)}
    links[A].ready = links[B].begun = False
    links[C].connection = 5
    async with trio.open_nursery() as nursery:
        rounds = Rounds(cast("Any", links), lambda: Quorums(4), nursery, Random(1))
        rounds._alone = False
        before = Accepts(ME, [1], ["x"], [0], [b""]).commits
        carried = {link: link.connection for link in links.values()}
        rounds.commits.add_series(before, cast("Any", carried), 1.0)
        own = Proposal(ProposalId(ME, 7), b"")
        for key in KEYS:
            make = Appender(Instance(key, 3), own, Quorums(4), Ballots(ME), Tops(Quorums(4)))
            job = BidJob(Bid(Instance(key, 3), own, lambda: make))  # noqa: B023 - never called
            nursery.start_soon(rounds.perform, job)
        await wait_all_tasks_blocked()
        told = [link.told for link in links.values()]
        assert told == [[], [[CommitSeries(before.name)]], [], []], "who began the round has it"
        links[A].deliver = links[B].deliver
        for acceptor in (C, OTHER):
            links[acceptor].deliver(0, Votes([3] * len(KEYS)), False, True)
        links[B].deliver(0, Votes([3] * len(KEYS)), False, True)
        ((commits, sent, _),) = rounds.commits._series
        assert {*commits} == {Commit(Instance(key, 3), own.id, None) for key in KEYS}
        numbers = {cast("Any", link): number for link, number in sent.items()}
        assert numbers == {links[B]: 0, links[C]: 5, links[OTHER]: 1}
        nursery.cancel_scope.cancel()


async def test_a_series_waits_for_the_last_vote_as_long_as_one_append_would(
    autojump_clock: MockClock,
) -> None:
    links = {acceptor: FakeLink() for acceptor in (A, B, C)}
    async with trio.open_nursery() as nursery:
        rounds = Rounds(cast("Any", links), lambda: Quorums(3), nursery, Random(1))
        rounds._round_trip = 0.25
        the_bid, _ = bid(Quorums(3))
        nursery.start_soon(rounds.perform, BidJob(the_bid))
        await trio.sleep(0.1)
        for acceptor in (A, B):
            links[acceptor].deliver(0, Votes([3]), False, True)
        asked = links[A].batch
        trip = rounds._round_trip
        await trio.sleep(0.99 * trip)
        assert links[A].batch is asked
        await trio.sleep(0.02 * trip)
        assert links[A].batch.alone == [Prepare(Instance("foo", 3), Ballot(1, ME))]
        nursery.cancel_scope.cancel()


async def put_all(kv: KV, *keys: str, val: object = 0) -> list[Entry]:
    """Put to keys at once, so that they go in one round."""
    entries: list[Entry] = []

    async def put(key: str) -> None:
        entries.append(await kv.put(key, val))

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(put, key)
    return entries


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each series that fell apart whether that was for the time it took."""
    parted: list[bool] = []
    part = Rounds._part

    def spy(self: Rounds, bids: Any, waited: bool = False) -> None:
        parted.append(waited)
        part(self, bids, waited)

    monkeypatch.setattr(Rounds, "_part", spy)
    return parted


@changes_code
async def test_bids_of_a_round_are_decided_in_one_round_trip(parted: list[bool]) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        await put_all(kv, *KEYS)
        rounds, attempts = kv.rounds, kv.attempts
        entries = await put_all(kv, *KEYS, val=2)
        assert {(entry.key, entry.ver, entry.val) for entry in entries} == {(k, 2, 2) for k in KEYS}
        assert (kv.rounds, kv.attempts) == (rounds + 1, attempts + 4)
        for key in KEYS:
            assert await kv.get(key) == Entry(key, 2, 2)
    assert not parted


@changes_code
async def test_r7_one_of_a_series_is_refused_and_the_others_are_decided(
    parted: list[bool],
) -> None:
    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses) as kv,
        open_kv(cluster.addresses) as other,
    ):
        await put_all(kv, *KEYS)
        await put_all(kv, *KEYS)
        assert await other.put("bar", "other's") == Entry("bar", 2, "other's")
        entries = await put_all(kv, *KEYS, val="ours")
        vers = {entry.key: entry.ver for entry in entries}
        assert vers == {key: 3 if key == "bar" else 2 for key in KEYS}
        assert not any(parted)
        assert parted
        assert await kv.get("bar", 2) == Entry("bar", 2, "other's")


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[LocalCluster, int], trio.Event]:
    """Lets the replies of an acceptor wait, until the event is set."""
    durable = Host.durable
    held: dict[bytes, trio.Event] = {}

    async def later(self: Host, who: int | None = None) -> None:
        if who is not None and self.identity.acceptor in held:
            await held[self.identity.acceptor].wait()
        await durable(self, who)

    monkeypatch.setattr(Host, "durable", later)

    def hold(cluster: LocalCluster, index: int) -> trio.Event:
        event = held[cluster._identities[index].acceptor] = trio.Event()
        return event

    return hold


@changes_code
async def test_r4_a_majority_of_votes_for_a_series_is_not_enough(
    hold: Callable[[LocalCluster, int], trio.Event],
    parted: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        await put_all(kv, *KEYS)
        monkeypatch.setattr(kv._client.rounds, "_round_trip", 1.0)  # so that nobody goes on
        release = hold(cluster, 1)
        entries: list[Entry] = []

        async def put() -> None:
            entries.extend(await put_all(kv, *KEYS))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            await trio.sleep(0.3)
            assert not entries, "two votes of three choose nothing at ballot 0"
            release.set()
        assert len(entries) == len(KEYS)
        assert not parted, "the third came in time"


@changes_code
async def test_r4_without_a_fast_quorum_in_time_each_is_finished_by_phase_1(
    hold: Callable[[LocalCluster, int], trio.Event], parted: list[bool]
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        attempts = kv.attempts
        hold(cluster, 1)
        entries = await put_all(kv, *KEYS)
        assert {entry.ver for entry in entries} == {1}
        assert kv.attempts == attempts + 2 * len(KEYS), "ballot 0, and another one"
        assert parted == [True]
        assert not kv._client.rounds._open


async def test_who_is_cancelled_leaves_the_others_of_a_series_alone(
    hold: Callable[[LocalCluster, int], trio.Event],
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        releases = [hold(cluster, index) for index in range(3)]
        entries: list[Entry] = []
        gone = trio.CancelScope()

        async def put(key: str, scope: trio.CancelScope) -> None:
            with scope:
                entries.append(await kv.put(key, 1))

        async with trio.open_nursery() as nursery:
            for key in KEYS:
                nursery.start_soon(put, key, gone if key == "bar" else trio.CancelScope())
            await wait_all_tasks_blocked()
            gone.cancel()
            await wait_all_tasks_blocked()
            begun = kv._client._unfinished.get(Instance("bar", 1))
            assert begun is not None, "who writes it next goes on with what was begun"
            for release in releases:
                release.set()
        assert {(entry.key, entry.ver) for entry in entries} == {(k, 1) for k in KEYS if k != "bar"}
        # It may be that it was written all the same; then the next one comes after it.
        assert (await kv.put("bar", 2)).ver == 2
        assert await kv.get("bar", 1) == Entry("bar", 1, 1)


async def test_if_all_of_a_series_are_cancelled_the_round_is_over(
    hold: Callable[[LocalCluster, int], trio.Event],
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        releases = [hold(cluster, index) for index in range(3)]
        with trio.move_on_after(0.05):
            await put_all(kv, *KEYS)
        assert not kv._client.rounds._open
        releases[0].set()
        releases[1].set()
        await trio.sleep(0.05)  # a quorum is there, and nobody waits
        releases[2].set()
        for key in KEYS:
            assert await kv.get(key) == Entry(key, 1, 0)


async def test_r11_a_bid_that_times_out_says_what_it_may_have_written(
    hold: Callable[[LocalCluster, int], trio.Event],
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.3) as kv:
        await put_all(kv, *KEYS)
        releases = [hold(cluster, index) for index in (0, 1)]
        with pytest.raises(Unavailable, match="1 of 3") as caught:
            await kv.put("foo", "new")
        assert caught.value.maybe == Entry("foo", 1, "new")
        for release in releases:
            release.set()
        assert await kv.settle(caught.value)
        assert await kv.put("foo", "newer") == Entry("foo", 2, "newer")


async def test_r8_who_has_a_new_connection_learns_what_it_voted_for_on_the_last_one(
    hold: Callable[[LocalCluster, int], trio.Event],
) -> None:
    """Its vote was counted, and so nothing is asked again."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        rounds, links = kv._client.rounds, kv._client._cluster.links
        rounds._round_trip = 1.0  # so that the last vote is waited for
        release = hold(cluster, 2)
        first = links[cluster._identities[0].acceptor]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_all, kv, *KEYS)
            await wait_all_tasks_blocked(0.05)
            before = first.connection
            first.reopen()
            with trio.fail_after(5):
                while first.connection == before:  # noqa: ASYNC110
                    await trio.sleep(0.001)
            release.set()
        with trio.fail_after(5):
            while any(  # noqa: ASYNC110
                Acceptor(store).known(key).ver < 1 for store in cluster._stores for key in KEYS
            ):
                await trio.sleep(0.005)


async def test_a_bid_outlives_a_lost_connection() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        for number in range(1, 6):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(put_all, kv, *KEYS)
                await trio.lowlevel.checkpoint()
                for link in kv._client._cluster.links.values():
                    link.reopen()
            for key in KEYS:
                assert await kv.get(key) == Entry(key, number, 0)


async def test_r12_a_series_has_as_many_bids_as_a_round_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [f"k{number}" for number in range(2 * limits.MAX_ROUND_OPERATIONS + 5)]
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await put_all(kv, *KEYS)
        counts: list[int] = []
        init = Batch.__init__

        def spy(self: Batch, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            counts.append(self.count)

        monkeypatch.setattr(Batch, "__init__", spy)
        entries = await put_all(kv, *many)
        assert {entry.key for entry in entries} == set(many)
        assert max(counts) == limits.MAX_ROUND_OPERATIONS
