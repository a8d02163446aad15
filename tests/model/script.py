"""Scripts of calls, message by message, with the transcript of what comes of them.

The counterpart of `tests.test_scenarios`, whose scripts do the phases of Paxos by hand: here
the machines of the real calls run, and the script says which message arrives, and when. The
model checker writes such scripts when it finds something. A line that is indented belongs to
the transcript. The steps are::

    3 acceptors, which keep 16 versions; calls begin 1 operation at ballot 0
    P proposes x for foo 0 at ballot 0      a client that is never heard of again
    P tells that it is chosen
    X sets 0 to x                           a call begins: X, Y, Z, …
    X gets 0
    X gets the latest
    X puts x                                or: X puts x after 0, which it remembers
    X puts x at 1, prepared ahead
    X updates                               or: X updates after 0
    A takes X1                              the first request of X arrives at A
    X hears 5                               the fifth of all replies arrives at X
    X hears 5 again                         … as one to a request that was sent again
    X goes on                               its pause is over
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from paxoskv.errors import ProtocolError
from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Commit,
    Compacted,
    Instance,
    Proposal,
    ProposalId,
    Reply,
    Request,
    Vote,
    Voted,
    answers,
)
from paxoskv.paxos.operation import Done, Latest, Pause
from paxoskv.paxos.quorums import Quorums
from paxoskv.storage.memory import MemoryStore

from .calls import KEY, Call, Get, GetLatest, Put, PutNext, Set, Update, machine

ACCEPTORS: Final = "ABCDE"
HEADER: Final = (
    r"(\d) acceptors, which keep (\d+) versions?(?:; calls begin (\d+) operations? at ballot 0)?"
)


class Script:
    """A world that does what a script says."""

    def __init__(self) -> None:
        self._quorums = Quorums(3)
        self._acceptors: dict[str, Acceptor] = {}
        self._fast = 0
        self._live: dict[str, Any] = {}
        self._asked: dict[str, list[Request]] = {}
        self._replies: list[tuple[str, str, Reply]] = []  # of whom, to which call's request
        self._cast: dict[tuple[int, Ballot, Proposal], set[str]] = {}
        self._chosen: dict[int, Proposal] = {}
        self._steps: list[tuple[re.Pattern[str], Callable[..., Iterator[str]]]] = [
            (re.compile(HEADER), self._open),
            (
                re.compile(r"(\w) proposes (\w+) for foo (\d+) at ballot (\d+)( as an append)?"),
                self._propose,
            ),
            (re.compile(r"(\w) tells that it is chosen"), self._commit),
            (re.compile(r"(\w) (sets) (\d+) to (\w+)"), self._begin),
            (re.compile(r"(\w) (gets) (\d+|the latest)"), self._begin),
            (re.compile(r"(\w) (puts) (\w+)(?: after (\d+))?"), self._begin),
            (re.compile(r"(\w) (puts) (\w+) at (\d+), (prepared ahead)"), self._begin),
            (re.compile(r"(\w) (updates)(?: after (\d+))?"), self._begin),
            (re.compile(r"(\w) takes ((\w)(\d+))"), self._take),
            (re.compile(r"(\w) hears (\d+)( again)?"), self._hear),
            (re.compile(r"(\w) goes on"), self._go_on),
        ]

    def run(self, script: str) -> str:
        """The script with the transcript that comes of it, to the first error."""
        lines: list[str] = []
        for line in script.splitlines():
            if line.startswith("  "):
                continue  # the transcript that is to be produced
            lines.append(line)
            if line and not line.startswith("#"):
                try:
                    lines.extend(f"  {each}" for each in self._step(line))
                except (AssertionError, ProtocolError) as error:
                    lines.append(f"  {type(error).__name__}: {error}")
                    break
        return "\n".join(lines) + "\n"

    def _step(self, line: str) -> Iterator[str]:
        for pattern, step in self._steps:
            if match := pattern.fullmatch(line):
                return step(*match.groups())
        raise ValueError(f"no such step: {line}")

    def _open(self, count: str, keep: str, fast: str | None) -> Iterator[str]:
        self._quorums = Quorums(int(count))
        self._acceptors = {
            name: Acceptor(MemoryStore(), int(keep)) for name in ACCEPTORS[: int(count)]
        }
        self._fast = int(fast or 0)
        yield from ()

    def _propose(self, who: str, value: str, ver: str, n: str, append: str | None) -> Iterator[str]:
        proposal = Proposal(ProposalId(identity(who), 1), value.encode())
        ballot = Ballot(int(n), identity(who)) if int(n) else FAST
        instance = Instance(KEY, int(ver))
        yield self._ask(who, Accept(instance, ballot, proposal, append is not None))

    def _commit(self, who: str) -> Iterator[str]:
        accept = self._asked[who][0]
        assert isinstance(accept, Accept)
        yield self._ask(who, Commit(accept.instance, accept.proposal.id, None))

    def _begin(self, who: str, *words: str | None) -> Iterator[str]:
        call = spoken(words)
        known = None
        if isinstance(call, Put | Update) and call.remembered is not None:
            known = Latest(call.remembered, self._chosen[call.remembered])
        self._live[who] = machine(call, identity(who), self._quorums, known, self._fast)
        yield self._ask(who, self._live[who].ask())

    def _ask(self, who: str, request: Request) -> str:
        self._asked.setdefault(who, []).append(request)
        return f"{who}{len(self._asked[who])}: {told(request)}"

    def _take(self, name: str, request: str, who: str, number: str) -> Iterator[str]:
        message = self._asked[who][int(number) - 1]
        reply = self._acceptors[name].handle(message)
        self._replies.append((name, request, reply))
        yield f"{len(self._replies)}: {told(reply)}"
        assert answers(reply, message), "that is no answer to this request"
        if isinstance(message, Accept) and isinstance(reply, Voted):
            yield from self._count(name, message)

    def _count(self, name: str, accept: Accept) -> Iterator[str]:
        """Is that chosen now, to one who sees everything?"""
        (_, ver), ballot, proposal, *_ = accept
        votes = self._cast.setdefault((ver, ballot, proposal), set())
        votes.add(name)
        if len(votes) < (self._quorums.quorum if ballot.n else self._quorums.fast_quorum):
            return
        other = self._chosen.setdefault(ver, proposal)
        if other == proposal:
            yield f"{told(proposal)} is chosen for foo {ver}"
        else:
            yield f"{told(proposal)} is chosen for foo {ver}, and so is {told(other)}"

    def _hear(self, who: str, number: str, again: str | None) -> Iterator[str]:
        acceptor, request, reply = self._replies[int(number) - 1]
        before = [each[:2] for each in self._replies[: int(number) - 1]]
        is_again = again is not None or (acceptor, request) in before
        assert request == f"{who}{len(self._asked[who])}", "this is not what it waits for"
        outcome = self._live[who].receive(identity(acceptor), reply, is_again)
        match outcome:
            case None:
                yield f"{who} waits for more"
            case Pause():
                yield f"{who} may go on after a pause"
            case Done(result):
                yield f"{who} returns {told(result)}"
                commit = self._live[who].commit
                if commit is not None:
                    yield self._ask(who, commit)
            case _:
                yield self._ask(who, outcome)

    def _go_on(self, who: str) -> Iterator[str]:
        yield self._ask(who, self._live[who].ask())


def identity(name: str) -> bytes:
    """The id of a proposer or an acceptor; the order of names is that of ids."""
    return name.encode() * 16


def spoken(words: tuple[str | None, ...]) -> Call:
    """The call that these words of a script stand for."""
    match words:
        case "sets", ver, value:
            return Set(int(ver), value.encode())
        case "gets", "the latest":
            return GetLatest()
        case "gets", ver:
            return Get(int(ver))
        case "puts", value, after:
            return Put(value.encode(), None if after is None else int(after))
        case "puts", value, ver, _:
            return PutNext(int(ver), value.encode())
        case "updates", after:
            return Update(None if after is None else int(after))
    raise ValueError(f"no such call: {words}")


def words(call: Call) -> str:
    """What stands for a call in a script."""
    match call:
        case Set(ver, value):
            return f"sets {ver} to {value.decode()}"
        case Get(ver):
            return f"gets {ver}"
        case GetLatest():
            return "gets the latest"
        case Put(value, None):
            return f"puts {value.decode()}"
        case Put(value, remembered):
            return f"puts {value.decode()} after {remembered}"
        case PutNext(ver, value):
            return f"puts {value.decode()} at {ver}, prepared ahead"
        case Update(None):
            return "updates"
        case Update(remembered):
            return f"updates after {remembered}"


def told(thing: Any) -> str:
    """A message, or a part of one, for people."""
    match thing:
        case None:
            return "nothing"
        case Ballot(n, proposer):
            return f"{n} of {name(proposer)}" if n else "0"
        case Proposal(id_, value):
            return f"{(value or b'a tombstone').decode()} of {name(id_.proposer)}"
        case Vote(ballot, proposal, append):
            return f"{told(proposal)} at {told(ballot)}{' as an append' if append else ''}"
        case Latest(ver, proposal):
            return f"foo {ver}: {told(proposal)}"
        case Commit((key, ver), id_, _):
            return f"commit to what {name(id_.proposer)} proposed for {key} {ver}"
        case Compacted(latest, proposal):
            return f"compacted, the latest known is foo {latest}: {told(proposal)}"
        case Instance(key, ver):
            return f"{key} {ver}"
        case int() if thing == NO_TOP:
            return "none"
        case tuple():
            fields = getattr(thing, "_fields", ())
            parts = [f"{f} {told(v)}" for f, v in zip(fields, thing, strict=True)]
            return f"{type(thing).__name__.lower()}: " + ", ".join(parts)
        case _:
            return str(thing)


def name(proposer: bytes) -> str:
    """A proposer's name; the operations of one put after the first have a number too."""
    letter, part = chr(proposer[0]), proposer[-1]
    return letter if part == proposer[0] else f"{letter}{part - 100}"
