"""The two checkers, on good histories and on broken ones, and against each other."""

from __future__ import annotations

import math
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .corruptions import ALL, Corruption, any_change, corrupted
from .history import (
    Attempt,
    Entry,
    Operation,
    Outcome,
    Recorder,
    append_to,
    operations,
    read_events,
)
from .model import CALLS, Model
from .search import search
from .versions import check

SEEDS = 200


def model_history(rng: Random, gaps: bool) -> list[Operation]:
    return Model(rng, gaps).run(clients=3, steps=24)


# --- generated histories ---------------------------------------------------------------------


def test_both_accept_good_histories() -> None:
    for seed in range(SEEDS):
        history = model_history(Random(seed), gaps=seed % 2 == 0)
        assert check(history) == [], seed
        assert search(history), seed


@pytest.mark.parametrize("corruption", ALL.values(), ids=ALL.keys())
def test_both_reject_broken_histories(corruption: Corruption) -> None:
    broken = 0
    for seed in range(SEEDS):
        rng = Random(seed)
        history = corrupted(model_history(rng, gaps=seed % 2 == 0), corruption, rng)
        if history is not None:
            broken += 1
            assert check(history), seed
            assert not search(history), seed
    assert broken > SEEDS / 10


@given(st.integers(0), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_an_order_allows_is_never_rejected(seed: int, gaps: bool) -> None:
    rng = Random(seed)
    history = corrupted(model_history(rng, gaps), any_change, rng)
    if history is not None and search(history):
        assert check(history) == []


def test_what_no_order_allows_is_hardly_ever_accepted() -> None:
    missed = seen = 0
    for seed in range(SEEDS * 2):
        rng = Random(seed)
        history = corrupted(model_history(rng, gaps=seed % 2 == 0), any_change, rng)
        if history is not None and not search(history):
            seen += 1
            missed += check(history) == []
    assert seen > SEEDS / 4
    assert missed <= seen / 50, "only what an unseen tombstone might explain"


def test_a_long_history_takes_as_long_as_to_sort_it() -> None:
    calls = [call for call in CALLS if call != "history"]  # these would be long themselves
    history = Model(Random(1), calls=calls).run(clients=8, steps=40_000)
    assert len(history) > 10_000
    began = time.process_time()
    assert check(history) == []
    assert time.process_time() - began < 10, "generously; 0.3 s would do"


# --- the smallest example of each kind ---------------------------------------------------------


class Story:
    """Calls on one key, one after the other unless their times are given."""

    def __init__(self) -> None:
        self.history: list[Operation] = []

    def __call__(
        self,
        call: str,
        *shown: tuple[int, object],
        at: tuple[float, float] | None = None,
        outcome: Outcome | None = None,
        ver: int | None = None,
        val: object = None,
        base: object = None,
    ) -> None:
        number = len(self.history)
        began, ended = at or (number, number + 0.5)
        told = [Entry("k", *each, deleted=each[1] is None) for each in shown]
        operation = Operation("c", number, call, "k", began, ver, val, ended=ended)
        operation.outcome = outcome or (Outcome.OK if told else Outcome.NONE)
        operation.entries = told
        if call == "update":
            operation.attempts = [Attempt(base, val)]
        self.history.append(operation)

    def is_good(self) -> bool:
        problems = check(self.history)
        assert search(self.history) == (problems == []), problems
        return not problems


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_put_is_read(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("latest", (0, 1))
    story("get", (0, 1), ver=0)
    story("history", (0, 1))
    story("delete", (1, None))
    story("get")
    story("latest", (1, None))
    story("delete")
    assert story.is_good()


def test_a_stale_read(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("put", (1, 2), val=2)
    story("latest", (0, 1))
    assert not story.is_good()


def test_a_read_beside_a_put_may_be_older(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("put", (1, 2), val=2, at=(2, 9))
    story("latest", (0, 1))
    assert story.is_good()


def test_a_read_that_goes_back(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("put", (1, 2), val=2, at=(1, 9))
    story("latest", (1, 2))
    story("latest", (0, 1))
    assert not story.is_good()


def test_a_read_of_nothing_after_a_put(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("get")
    assert not story.is_good()


def test_nothing_while_a_delete_is_under_way(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("delete", outcome=Outcome.UNKNOWN)
    story("get")
    assert story.is_good()
    story("get", (0, 1))
    assert not story.is_good(), "the tombstone was the latest already"


def test_two_values_at_one_version(story: Story) -> None:
    story("set", (0, 1), ver=0, val=1)
    story("set", (0, 2), ver=0, val=2)
    assert not story.is_good()


def test_two_writers_of_one_version(story: Story) -> None:
    story("put", (0, 1), val=1, at=(0, 9))
    story("put", (0, 1), val=1, at=(0, 9))
    assert not story.is_good()


def test_an_acknowledged_write_that_is_gone(story: Story) -> None:
    story("set", (5, 1), ver=5, val=1)
    story("get", ver=5)
    assert not story.is_good()


def test_a_dropped_version_is_not_gone(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("put", (1, 2), val=2)
    story("get", (1, 2), ver=0, outcome=Outcome.COMPACTED)
    assert story.is_good()
    story("get", (1, 2), ver=1, outcome=Outcome.COMPACTED)
    assert not story.is_good()


def test_a_value_that_nobody_proposed(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("get", (1, 2), ver=1)
    assert not story.is_good()


def test_a_value_from_the_future(story: Story) -> None:
    story("get", (0, 1))
    story("put", (0, 1), val=1)
    assert not story.is_good()


def test_a_put_that_is_not_newer(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("set", (4, 2), ver=4, val=2)
    story("put", (1, 3), val=3)
    assert not story.is_good()


def test_a_put_beside_a_set_with_a_gap(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("put", (1, 3), val=3, at=(1, 9))
    story("set", (4, 2), ver=4, val=2)
    assert story.is_good()


def test_a_put_that_leaves_a_gap(story: Story) -> None:
    story("put", (1, 1), val=1)
    story("get", ver=0)
    assert not story.is_good()


def test_a_lost_update(story: Story) -> None:
    story("put", (0, 1), val=1)
    story("update", (1, 2), base=1, val=2, at=(1, 9))
    story("update", (2, 3), base=1, val=3, at=(1, 9))
    assert not story.is_good()


def test_a_write_of_unknown_outcome_may_come_late(story: Story) -> None:
    story("set", (1, 5), ver=1, val=5, outcome=Outcome.UNKNOWN)
    story("get", ver=1)
    story("get", (1, 5), ver=1)
    assert story.is_good()
    story("get", ver=1)
    assert not story.is_good()


def test_a_failed_write_that_is_seen(story: Story) -> None:
    story("set", ver=1, val=5, outcome=Outcome.FAILED)
    story("get", (1, 5), ver=1)
    assert not story.is_good()


def test_a_put_of_unknown_outcome_written_twice(story: Story) -> None:
    story("put", val=5, outcome=Outcome.UNKNOWN)
    story("get", (0, 5), ver=0)
    assert story.is_good()
    story("get", (1, 5), ver=1)
    assert not story.is_good()


def test_a_write_that_settle_denied(story: Story) -> None:
    story("put", (0, 5), val=5, outcome=Outcome.UNKNOWN)
    story("put", (0, 6), val=6)
    story("settle", ver=0)
    story.history[-1].of = 0
    assert story.is_good()
    story("settle", (0, 6), ver=0)
    story.history[-1].of = 0
    assert not story.is_good()


def test_taken_by_the_same_value(story: Story) -> None:
    story("set", (0, 5), ver=0, val=5)
    story("set", (0, 5), ver=0, val=5, outcome=Outcome.TAKEN)
    assert not story.is_good()


def test_a_history_with_a_hole(story: Story) -> None:
    for ver in range(3):
        story("put", (ver, ver + 1), val=ver + 1)
    story("history", (1, 2), (2, 3))
    assert story.is_good(), "what is missing below may have been dropped"
    story("history", (0, 1), (2, 3))
    assert not story.is_good()


def test_a_read_beside_a_set_below_the_latest_may_take_two_moments(story: Story) -> None:
    story("latest", (5, 2), at=(0, 9))
    story("set", (7, 1), ver=7, val=1)
    story("get", ver=5)
    story("set", (5, 2), ver=5, val=2)
    assert story.is_good()
    assert not search(story.history, strict=True), "5 was never the latest"


# --- scans, and files ------------------------------------------------------------------------


def scanned(*shown: Entry, limit: int | None = None) -> list[str]:
    """What is wrong with a scan after puts to ``a1``, ``a2`` and ``b``."""
    puts = [
        Operation("c", number, "put", key, number, val=1, ended=number + 0.5)
        for number, key in enumerate(["a1", "a2", "b"])
    ]
    for each in puts:
        each.outcome, each.entries = Outcome.OK, [Entry(each.key, 0, 1)]
    scan = Operation("c", 3, "scan", "a", 3, ended=4, limit=limit)
    scan.outcome, scan.entries = Outcome.OK, list(shown)
    return check([*puts, scan])


def test_scans() -> None:
    first, second, other = (Entry(key, 0, 1) for key in ("a1", "a2", "b"))
    assert not scanned(first, second)
    assert not scanned(first, limit=1)
    assert scanned(first), "a key is left out"
    assert scanned(second, limit=1), "so it is here"
    assert scanned(second, first), "out of order"
    assert scanned(first, second, other), "another prefix"
    assert scanned(first, Entry("a2", 0, 2)), "another value"


def test_events_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "client.jsonl"
    times = iter([0.5, 1.5, 2.5, 3.5])
    with append_to(path) as write:
        recorder = Recorder("c", lambda: next(times), write)
        update = recorder.invoke("update", "k")
        recorder.attempt(update, None, [1, "x"])
        recorder.complete(update, Outcome.OK, Entry("k", 0, [1, "x"]))
        recorder.invoke("get", "k", ver=0)
    with path.open("a") as file:
        file.write('{"event": "compl')  # killed
    first, second = operations(read_events([path]))
    assert first == Operation(
        "c",
        0,
        "update",
        "k",
        0.5,
        ended=2.5,
        attempts=[Attempt(None, [1, "x"])],
        outcome=Outcome.OK,
        entries=[Entry("k", 0, [1, "x"])],
    )
    assert (second.ver, second.ended, second.outcome) == (0, math.inf, Outcome.UNKNOWN)
