"""Commits on their way: they ride on accepts, or go together, and nobody waits for them (R8)."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from paxoskv import Entry, open_kv, open_local_cluster
from paxoskv.commits import PendingCommits
from paxoskv.limits import (
    COMMIT_DELAY,
    COMMIT_PATIENCE,
    MAX_PENDING_COMMITS,
    MAX_PENDING_SERIES,
)
from paxoskv.link import Batch, Link
from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.messages import Accept, Ballot, Commit, Instance, Proposal, ProposalId, Read
from paxoskv.paxos.series import Commits, CommitSeries

ME = b"m" * 16
P = Proposal(ProposalId(ME, 1), b"p")
FOO = Instance("foo", 3)
COMMIT = Commit(FOO, P.id, None)
SERIES = Commits(ME, [1, 2], ["foo", "bar"], [3, 0])
NAMED = CommitSeries(P.id)


class FakeLink:
    """A link that takes note of what it is asked."""

    def __init__(self) -> None:
        self.ready = self.up = True
        self.connection = 1
        self.told: list[object] = []

    def tell(self, batch: Batch) -> None:
        assert self.ready
        self.told += [*batch.commits, *batch.requests]

    async def ask(self, batch: Batch, _deliver: object) -> None:
        self.tell(batch)


def three_links() -> tuple[dict[bytes, Link], list[FakeLink]]:
    links = [FakeLink() for _ in range(3)]
    return {bytes([number]): cast("Link", link) for number, link in enumerate(links)}, links


async def test_r8_a_commit_rides_on_the_accept_of_the_next_version_only(
    autojump_clock: MockClock,
) -> None:
    by_name, links = three_links()
    async with trio.open_nursery() as nursery:
        commits = PendingCommits(by_name, nursery)
        commits.add(COMMIT, 1.0)
        for other in (
            Accept(FOO, Ballot(1, ME), P),
            Accept(Instance("foo", 5), Ballot(1, ME), P),
            Accept(Instance("bar", 4), Ballot(1, ME), P),
            Read(Instance("foo", 4)),
        ):
            assert commits.ride(other) is other
        following = Accept(Instance("foo", 4), Ballot(1, ME), P, append=True)
        assert commits.ride(following) == following._replace(after=P.id)
        assert commits.ride(following) is following, "once is enough"
    assert not any(link.told for link in links)


async def test_r8_what_nothing_takes_along_goes_to_all_in_the_end(
    autojump_clock: MockClock,
) -> None:
    by_name, links = three_links()
    links[1].ready = False
    async with trio.open_nursery() as nursery:
        commits = PendingCommits(by_name, nursery)
        commits.add(COMMIT, 1.0)
        commits.add(COMMIT._replace(instance=Instance("bar", 0)), COMMIT_DELAY)
        await trio.sleep(3 * COMMIT_DELAY)
        assert [len(link.told) for link in links] == [1, 0, 1], "each has its own time"
        began = trio.current_time()
    assert trio.current_time() - began < 1.1, "then nothing waits any more"
    assert [len(link.told) for link in links] == [2, 0, 2]


async def test_r8_what_is_chosen_of_a_series_is_told_in_one_word(
    autojump_clock: MockClock,
) -> None:
    """With the next round, or by itself once its time has come; once."""
    for takes in (True, False):
        by_name, links = three_links()
        async with trio.open_nursery() as nursery:
            commits = PendingCommits(by_name, nursery)
            commits.add_series(SERIES, dict.fromkeys(by_name.values(), 1), 1.0)
            assert len(commits) == 1
            taken = commits.take_series() if takes else []
            await trio.sleep(1.0 - COMMIT_DELAY)
            assert not any(link.told for link in links)
            await trio.sleep(3 * COMMIT_DELAY)
            told = [link.told for link in links]
            assert (taken, told) == (([NAMED], [[]] * 3) if takes else ([], [[NAMED]] * 3))
            assert commits.take_series() == []


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize(
    ("second", "in_one_word"),
    [
        ("is there", True),
        ("is away", True),
        ("was not sent it", False),
        ("was not sent it, and is behind", False),
        ("was not sent it, and is away", True),
        ("has another connection", False),
    ],
)
async def test_r8_commits_of_a_series_have_its_name_where_all_know_that(
    autojump_clock: MockClock, second: str, in_one_word: bool, takes: bool
) -> None:
    """Who may not have been sent the series is to hear what it misses."""
    by_name, links = three_links()
    carried = dict.fromkeys(by_name.values(), 1)
    if second.startswith("was not sent it"):
        del carried[by_name[b"\1"]]
    async with trio.open_nursery() as nursery:
        commits = PendingCommits(by_name, nursery)
        commits.add_series(SERIES, carried, COMMIT_DELAY)
        links[1].up = "is away" not in second
        links[1].ready = links[1].up and "is behind" not in second
        links[1].connection = 2 if second == "has another connection" else 1
        taken = commits.take_series() if takes else []
        assert taken == ([NAMED] if takes and in_one_word else [])
    told = [] if taken else [NAMED] if in_one_word else [*SERIES]
    assert [link.told for link in links] == [told, told if links[1].ready else [], told]


async def test_r8_a_series_is_not_told_before_its_time_beside_others(
    autojump_clock: MockClock,
) -> None:
    by_name, links = three_links()
    async with trio.open_nursery() as nursery:
        commits = PendingCommits(by_name, nursery)
        commits.add(COMMIT._replace(instance=Instance("x", 0)), COMMIT_DELAY)
        commits.add_series(SERIES, dict.fromkeys(by_name.values(), 1), 1.0)
        await trio.sleep(3 * COMMIT_DELAY)
        assert commits.take_series() == [NAMED]
    assert [len(link.told) for link in links] == [1, 1, 1]


async def test_r8_a_client_that_closes_waits_until_what_is_chosen_of_a_series_has_arrived() -> None:
    """The word for all is not answered, and so the first commit goes along, which is."""
    by_name, links = three_links()
    for there in (True, False):
        async with trio.open_nursery() as nursery:
            commits = PendingCommits(by_name, nursery)
            commits.add_series(SERIES, dict.fromkeys(by_name.values(), 1), 1.0)
            links[1].connection += not there
            await commits.send()
            told = [NAMED, COMMIT] if there else [COMMIT, *SERIES]
            assert [link.told for link in links] == [told] * 3
            nursery.cancel_scope.cancel()
        for link in links:
            link.told.clear()


async def test_r12_what_is_chosen_of_too_many_series_is_forgotten() -> None:
    async with trio.open_nursery() as nursery:
        commits = PendingCommits({}, nursery)
        for serial in range(MAX_PENDING_SERIES + 5):
            commits.add_series(Commits(ME, [serial], ["foo"], [3]), {}, 1.0)
        kept = [series.name.serial for series in commits.take_series()]
        assert kept == list(range(5, MAX_PENDING_SERIES + 5)), "the oldest are"
        nursery.cancel_scope.cancel()


async def test_r12_what_becomes_due_while_others_are_told_is_not_told_in_driblets(
    autojump_clock: MockClock,
) -> None:
    by_name, links = three_links()
    batches: list[int] = []

    def tell_slowly(batch: Batch) -> None:
        batches.append(batch.count)
        autojump_clock.jump(COMMIT_DELAY / 10)

    links[0].tell = tell_slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        commits = PendingCommits(by_name, nursery)
        for number in range(100):  # the last is due when the first has waited twice as long
            commits.add(
                Commit(Instance(f"{number}", 0), P.id, None), COMMIT_DELAY * (1 + number / 100)
            )
    assert sum(batches) == 100
    assert len(batches) == 2


async def test_r8_one_acceptor_is_told_at_once_and_the_others_if_nobody_else_does(
    autojump_clock: MockClock,
) -> None:
    for others_write in (True, False):
        by_name, links = three_links()
        async with trio.open_nursery() as nursery:
            commits = PendingCommits(by_name, nursery)
            commits.add(COMMIT, COMMIT_DELAY)
            commits.tell_now(FOO, by_name[b"\1"])
            commits.tell_now(Instance("bar", 0), by_name[b"\1"])
            await wait_all_tasks_blocked()
            assert [link.told for link in links] == [[], [COMMIT], []]
            if others_write:
                commits.take(FOO)
            await trio.sleep(2 * COMMIT_PATIENCE)
        assert [len(link.told) for link in links] == ([0, 1, 0] if others_write else [1, 2, 1])


async def test_r12_commits_that_nobody_takes_are_forgotten() -> None:
    async with trio.open_nursery() as nursery:
        commits = PendingCommits({}, nursery)
        for ver in range(MAX_PENDING_COMMITS + 5):
            commits.add(Commit(Instance("foo", ver), P.id, None), 1.0)
        assert len(commits) == MAX_PENDING_COMMITS
        newest = Accept(Instance("foo", MAX_PENDING_COMMITS + 5), Ballot(1, ME), P)
        assert commits.ride(newest) == newest._replace(after=P.id)
        nursery.cancel_scope.cancel()


async def test_r8_after_a_put_all_acceptors_learn_what_is_chosen() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for number in range(3):
            await kv.put("foo", number)
        known = [Acceptor(store).known("foo").ver for store in cluster._stores]
        assert known == [1, 1, 1], "the last put told of the one before"
        with trio.fail_after(5):
            while any(Acceptor(store).known("foo").ver < 2 for store in cluster._stores):  # noqa: ASYNC110
                await trio.sleep(0.005)


async def test_r8_the_last_of_those_who_waited_in_line_is_told_to_all() -> None:
    """Each tells one acceptor, and the next one the others; after the last comes nobody."""
    entries: list[Entry] = []
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as late:

        async def write(number: int, *, task_status: Any) -> None:
            async with open_kv(cluster.addresses) as kv:
                task_status.started()
                for _ in range(10):
                    entries.append(await kv.put("foo", number))  # noqa: PERF401 - not at once
                await trio.sleep(2 * COMMIT_PATIENCE)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                await nursery.start(write, number)
            with trio.fail_after(10):
                while len(entries) < 40 or any(  # noqa: ASYNC110
                    Acceptor(store).known("foo").ver < 39 for store in cluster._stores
                ):
                    await trio.sleep(0.005)
        assert await late.get("foo") == max(entries, key=lambda entry: entry.ver)
