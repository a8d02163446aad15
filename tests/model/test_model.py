"""Small worlds, explored to the last state; and what is broken is found in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from paxoskv.paxos import acceptor as acceptor_module
from paxoskv.paxos.acceptor import Register
from paxoskv.paxos.messages import Accept, AcceptorId, Proposal, Sight, Vote, Voted
from paxoskv.paxos.proposer import Proposer, Tops
from paxoskv.paxos.quorums import Quorums

from ..builds import copies_objects
from .configs import LARGE, SMALL, TINY
from .explore import explore
from .plain import Plain, reached
from .script import Script

pytestmark = copies_objects

WORLDS = {**SMALL, **LARGE}


@pytest.mark.parametrize("name", SMALL)
def test_every_state_keeps_the_rules(name: str) -> None:
    found = explore(SMALL[name])
    assert found.violation is None
    assert found.complete
    assert found.ended


@pytest.mark.parametrize("name", TINY)
def test_nothing_is_missed_that_happens_without_the_shortcuts(name: str) -> None:
    plain = Plain(TINY[name])
    assert plain.reached() == reached(plain.world)


def a_quorum_of_one(self: Quorums, n: int) -> None:
    self.n, self.quorum, self.fast_quorum = n, 1, n


def a_majority_at_ballot_0(self: Quorums, n: int) -> None:
    self.n, self.quorum, self.fast_quorum = n, n // 2 + 1, n // 2 + 1


def the_lowest_ballot(self: Quorums, promises: Mapping[AcceptorId, Vote | None]) -> Proposal | None:
    votes = [vote for vote in promises.values() if vote is not None]
    return min(votes, key=lambda vote: vote.ballot).proposal if votes else None


def nothing_obliges(self: Quorums, promises: Mapping[AcceptorId, Vote | None]) -> None:
    return None


def the_first_vote_is_believed(self: Quorums, sights: Iterable[Sight]) -> Any:
    for sight in sights:
        return sight if isinstance(sight, Proposal) else sight.proposal
    return None


_answer = acceptor_module.answer


def a_vote_without_a_look_at_the_promise(
    register: Register, top: int, request: Any
) -> tuple[Register, Any]:
    if isinstance(request, Accept) and register.chosen is None:
        vote = Vote(request.ballot, request.proposal)
        return Register(max(register.promised, request.ballot), vote), Voted(request.instance.ver)
    return _answer(register, top, request)


def a_compaction_that_forgets(ledger: acceptor_module.Ledger) -> Any:
    return acceptor_module.Report(None, ledger.summary.top)


BREAKS: list[tuple[str, Any, str, Callable[..., Any]]] = [
    ("two sets", Quorums, "__init__", a_quorum_of_one),
    ("two sets", Quorums, "choose", nothing_obliges),
    ("two sets", Quorums, "chosen", the_first_vote_is_believed),
    ("two sets", acceptor_module, "answer", a_vote_without_a_look_at_the_promise),
    ("a set and a get among what was left behind", Quorums, "choose", the_lowest_ballot),
    ("a set after a race at ballot 0", Quorums, "__init__", a_majority_at_ballot_0),
    ("a put among what was left behind", Tops, "allow", lambda self, ver: False),
    ("a get of what is compacted", acceptor_module, "_compacted", a_compaction_that_forgets),
    ("two sets", Proposer, "_pause", lambda self: None),
]


@pytest.mark.parametrize(("name", "owner", "attribute", "broken"), BREAKS)
def test_what_is_broken_is_found(
    name: str,
    owner: Any,
    attribute: str,
    broken: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, attribute, broken)
    found = explore(WORLDS[name], most=60_000)
    assert found.violation is not None

    # What is printed is a script that shows it, and does not once the break is mended.
    story = Script().run(found.violation)
    assert "\n  " in story
    assert story == Script().run(story)
    monkeypatch.undo()
    assert not replays(story)


def replays(story: str) -> bool:
    """Whether a script still comes to the same; its calls may have taken another turn."""
    try:
        return Script().run(story) == story
    except LookupError:
        return False
