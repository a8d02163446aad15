"""What is explored: small worlds, each for a rule or two, and larger ones for long runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from paxoskv.paxos.messages import FAST, Accept, Ballot, Instance, Prepare, Proposal, ProposalId

from .calls import KEY, Get, GetLatest, Put, PutNext, Set, Update
from .world import Config


def _fast(who: int, append: bool = False, ver: int = 0) -> Accept:
    """A proposal at ballot 0, of a client that is never heard of again."""
    proposal = Proposal(ProposalId(bytes([who]) * 16, 1), b"fast")
    return Accept(Instance(KEY, ver), FAST, proposal, append)


_SETS: Final = [Set(0, b"x"), Set(0, b"y"), Set(0, b"z")]
_PUTS: Final = [Put(b"x", remembered=0), Put(b"y", remembered=0)]
_RACE: Final = [_fast(200), _fast(201)]

TINY: Final[Mapping[str, Config]] = {
    "two sets": Config(_SETS[:2], acceptors=2, attempts=1),
    "a set and a get": Config([Set(0), Get(0)], acceptors=2, attempts=1),
    "a set and a get of the latest": Config([Set(0), GetLatest()], acceptors=2, attempts=1),
    "a set after another at ballot 0": Config([Set(0)], attempts=1, sent=_RACE[:1]),
    "a fast put and a gap": Config(
        [Put(remembered=0)], acceptors=2, fast=1, cast=[(0, "AB")], sent=[_fast(200, ver=2)]
    ),
    "a get of what is compacted": Config(
        [Set(1), Get(0)], acceptors=2, attempts=1, keep=1, commits=True, cast=[(0, "AB")]
    ),
    "a fast put and a set with a gap": Config(
        [Put(remembered=0), Set(2)],
        acceptors=2,
        attempts=1,
        fast=1,
        keep=1,
        commits=True,
        cast=[(0, "AB")],
    ),
}
"""Explored without shortcuts as well."""

SMALL: Final[Mapping[str, Config]] = {
    "two sets": Config(_SETS[:2], attempts=1),
    "a set and a get of the latest": Config([Set(0), GetLatest()], attempts=1),
    "a set and a get among what was left behind": Config(
        [Set(0), Get(0)], attempts=1, cast=[(0, "A")]
    ),
    "a put and a set of what is compacted": Config(
        [Put(remembered=0), Set(0)], attempts=1, keep=1, commits=True, cast=[(0, "AB")]
    ),
    "a get of what is compacted": Config(
        [Set(1), Get(0)], attempts=1, keep=1, commits=True, cast=[(0, "AB")]
    ),
    "a put among what was left behind": Config(
        [Put(remembered=0)], attempts=2, cast=[(0, "ABC"), (2, "A"), (3, "B")]
    ),
    "a set after a race at ballot 0": Config([Set(0)], sent=_RACE),
    "a set after a race at ballot 0, four acceptors": Config([Set(0)], acceptors=4, sent=_RACE),
    "a put that is prepared ahead, among what was left behind": Config(
        [PutNext(1)], attempts=2, cast=[(0, "AB"), (1, "A")]
    ),
    "a put that is prepared ahead, and a gap": Config(
        [PutNext(1)], attempts=2, cast=[(0, "AB"), (3, "B")]
    ),
    "a put that is prepared ahead, after a race at ballot 0": Config(
        [PutNext(1)], cast=[(0, "ABC")], sent=[_fast(200, append=True, ver=1)]
    ),
    "a fast set beside another": Config([Set(0)], attempts=3, fast=1, sent=_RACE[:1]),
    "a fast put among what was left behind": Config(
        [Put(remembered=0)], fast=1, cast=[(0, "ABC"), (2, "A")]
    ),
    "a fast put after an append that was left behind": Config(
        [Put(remembered=0)], fast=1, cast=[(0, "ABC")], sent=[_fast(200, append=True, ver=1)]
    ),
    "a fast put and a fast set with a gap, two acceptors": Config(
        [Put(remembered=0), Set(2)], acceptors=2, fast=1, cast=[(0, "AB")]
    ),
}
"""Explored in every run of the tests."""

LARGE: Final[Mapping[str, Config]] = {
    "two sets, two attempts each": Config(_SETS[:2], attempts=2),
    "three sets": Config(_SETS, attempts=1),
    "two sets and a get": Config([*_SETS[:2], Get(0)], attempts=1),
    "a put and a set with a gap": Config([Put(remembered=0), Set(2)], attempts=2, cast=[(0, "AB")]),
    "a put and a get of the latest": Config(
        [Put(remembered=0), GetLatest()], attempts=2, cast=[(0, "AB")]
    ),
    "two puts": Config(_PUTS, attempts=1, cast=[(0, "ABC")]),
    "two puts and a get of the latest": Config(
        [*_PUTS, GetLatest()], attempts=1, cast=[(0, "ABC")]
    ),
    "two updates": Config([Update(0), Update(0)], attempts=1, cast=[(0, "ABC")]),
    "an update and a set with a gap": Config([Update(0), Set(2)], attempts=2, cast=[(0, "AB")]),
    "a put, and a get among what was left behind": Config(
        [Put(remembered=0), GetLatest()], attempts=1, cast=[(0, "ABC"), (2, "A")]
    ),
    "two puts with commits": Config(_PUTS, attempts=1, keep=1, commits=True, cast=[(0, "ABC")]),
    "gets after a race at ballot 0": Config([GetLatest(), Get(0)], attempts=1, sent=_RACE),
    "a set and a get after a race at ballot 0": Config([Set(0), Get(0)], attempts=1, sent=_RACE),
    "two sets after a race at ballot 0": Config(_SETS[:2], attempts=1, sent=_RACE),
    "a set after a race at ballot 0, five acceptors": Config([Set(0)], acceptors=5, sent=_RACE),
    "two sets, four acceptors": Config(_SETS[:2], acceptors=4, attempts=1),
    "two fast sets, four acceptors": Config(_SETS[:2], acceptors=4, fast=1),
    "a fast set and a get, four acceptors": Config([Set(0), Get(0)], acceptors=4, fast=1),
    "a fast set and a get": Config([Set(0), Get(0)], fast=1),
    "a fast set and a get of the latest": Config([Set(0), GetLatest()], fast=1),
    "two fast sets": Config(_SETS[:2], fast=1),
    "a fast put and a get of the latest": Config(
        [Put(remembered=0), GetLatest()], fast=1, cast=[(0, "AB")]
    ),
    "a fast put and a set with a gap, two attempts": Config(
        [Put(remembered=0), Set(2)], fast=1, cast=[(0, "AB")]
    ),
    "a fast put and a set of the same version": Config(
        [Put(remembered=0), Set(1)], fast=1, cast=[(0, "AB")]
    ),
    "a put and a fast set that another stands in the way of": Config(
        [Put(remembered=0), Set(2)],
        fast=1,
        cast=[(0, "AB")],
        sent=[Prepare(Instance(KEY, 2), Ballot(1, bytes([200]) * 16))],
    ),
    "two fast puts": Config(_PUTS, fast=1, cast=[(0, "ABC")]),
    "two fast puts that stay fast": Config(_PUTS, fast=2, cast=[(0, "ABC")]),
    "a fast put, and what is compacted": Config(
        [Put(remembered=0), Set(2)],
        fast=1,
        keep=1,
        commits=True,
        cast=[(0, "ABC")],
        known=[(0, "ABC")],
    ),
    "a put, and the next one prepared ahead": Config([_PUTS[0], PutNext(2)], cast=[(0, "ABC")]),
    "a fast put, and the next one prepared ahead": Config(
        [_PUTS[0], PutNext(2)], fast=1, cast=[(0, "ABC")]
    ),
    "a put that is prepared ahead, and a set of that version": Config(
        [PutNext(1), Set(1)], cast=[(0, "AB")]
    ),
    "a put that is prepared ahead, and a set with a gap": Config(
        [PutNext(1), Set(2)], attempts=1, keep=1, commits=True, cast=[(0, "AB")]
    ),
    "two puts that are prepared ahead": Config([PutNext(1), PutNext(1, b"x")], cast=[(0, "ABC")]),
    "a put that is prepared ahead, and a get of the latest": Config(
        [PutNext(1), GetLatest()], cast=[(0, "AB")]
    ),
    "a put that is prepared ahead after a race, four acceptors": Config(
        [PutNext(0)], acceptors=4, sent=_RACE
    ),
    "a put that is prepared ahead after a race, five acceptors": Config(
        [PutNext(0)], acceptors=5, attempts=1, sent=_RACE
    ),
    "a set and a get after a race at ballot 0, four acceptors": Config(
        [Set(0), Get(0)], attempts=1, acceptors=4, sent=_RACE
    ),
}
"""Explored by ``nox -s model``."""
