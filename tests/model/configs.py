"""What is explored: small worlds, each for a rule or two, and larger ones for long runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from paxoskv.paxos.messages import FAST, Accept, Instance, Proposal, ProposalId

from .calls import KEY, Get, GetLatest, Put, Set
from .world import Config


def _fast(who: int) -> Accept:
    """A proposal at ballot 0, of a client that is never heard of again."""
    return Accept(Instance(KEY, 0), FAST, Proposal(ProposalId(bytes([who]) * 16, 1), b"fast"))


SMALL: Final[Mapping[str, Config]] = {
    "two sets": Config([Set(0, b"x"), Set(0, b"y")], attempts=1),
    "a set and a get of the latest": Config([Set(0), GetLatest()], attempts=1),
    "a put and a set of what is compacted": Config(
        [Put(remembered=0), Set(0)], attempts=1, keep=1, commits=True, cast=[(0, "AB")]
    ),
    "a get of what is compacted": Config(
        [Set(1), Get(0)], attempts=1, keep=1, commits=True, cast=[(0, "AB")]
    ),
    "a put among what was left behind": Config(
        [Put(remembered=0)], attempts=2, cast=[(0, "ABC"), (2, "A"), (3, "B")]
    ),
    "a set after a race at ballot 0": Config([Set(0)], sent=[_fast(200), _fast(201)]),
    "a set after a race at ballot 0, four acceptors": Config(
        [Set(0)], acceptors=4, sent=[_fast(200), _fast(201)]
    ),
}
"""Explored in every run of the tests."""

LARGE: Final[Mapping[str, Config]] = {
    "a set and a get among what was left behind": Config(
        [Set(0), Get(0)], attempts=1, cast=[(0, "A")]
    ),
    "two sets, two attempts each": Config([Set(0, b"x"), Set(0, b"y")], attempts=2),
    "three sets": Config([Set(0, b"x"), Set(0, b"y"), Set(0, b"z")], attempts=1),
    "a put and a set with a gap": Config([Put(remembered=0), Set(2)], attempts=1, cast=[(0, "AB")]),
    "a put and a get of the latest": Config(
        [Put(remembered=0), GetLatest()], attempts=1, cast=[(0, "AB")]
    ),
    "two puts": Config([Put(remembered=0), Put(remembered=0)], attempts=1, cast=[(0, "ABC")]),
    "a put, and a get among what was left behind": Config(
        [Put(remembered=0), GetLatest()], attempts=1, cast=[(0, "ABC"), (2, "A")]
    ),
    "two puts with commits": Config(
        [Put(remembered=0), Put(remembered=0)],
        attempts=1,
        keep=1,
        commits=True,
        cast=[(0, "ABC")],
    ),
    "gets after a race at ballot 0": Config(
        [GetLatest(), Get(0)], attempts=1, sent=[_fast(200), _fast(201)]
    ),
    "a set and a get after a race at ballot 0, four acceptors": Config(
        [Set(0), Get(0)], attempts=1, acceptors=4, sent=[_fast(200), _fast(201)]
    ),
}
"""Explored by ``nox -s model``."""
