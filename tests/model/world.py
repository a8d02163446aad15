"""The world of the model checker: acceptors, calls, and a network that may do anything.

A state is a tuple of small integers, each of which stands for an acceptor's state, a call's
state, or a reply; what follows from what is computed once, by the very code of
`paxoskv.paxos`, and remembered.

- The network loses, repeats, delays and reorders: what was sent once may be delivered to any
  acceptor at any time, any number of times, or never. Its reply is lost, or heard at once: what
  it says is settled when the acceptor speaks, so to hear it later is to have heard it then and
  gone on later, which is possible too.
- A call begins when its first request arrives, for to begin later is to know of more that was
  chosen before, and makes the rules stricter.
- An acceptor that crashes goes back to what is durable. No reply leaves before that (rule R1,
  which other tests watch), so a crash is a request that was never delivered.
- A proposer that crashes takes no further step, which is always possible here.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from paxoskv.paxos.acceptor import BLANK, UNHEARD, Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Commit,
    Compacted,
    Instance,
    Proposal,
    ProposalId,
    Request,
    answers,
)
from paxoskv.paxos.operation import Done, Latest, Pause
from paxoskv.paxos.quorums import Quorums

from .calls import KEY, Call, Get, GetLatest, Put, Set, machine
from .frozen import freeze, renamed


@dataclass(frozen=True)
class Config:
    """What is explored.

    Attributes:
        calls: the calls that may be made, each once, at any time.
        acceptors: how many there are.
        attempts: how many phases 1 each call may begin.
        keep: how many chosen versions acceptors keep.
        commits: whether calls tell what they know to be chosen.
        sent: requests of clients that are never heard of again.
        cast: versions that some acceptors have voted for already, as (version, "AB").
    """

    calls: Sequence[Call]
    acceptors: int = 3
    attempts: int = 2
    keep: int = 16
    commits: bool = False
    sent: Sequence[Request] = ()
    cast: Sequence[tuple[int, str]] = ()


class Message(NamedTuple):
    """A request on its way: of which call, and which of its requests; -1: of nobody here."""

    call: int
    number: int
    request: Request


class Actor(NamedTuple):
    """A call under way.

    Attributes:
        machine: its state; None: it has not begun.
        number: how many requests it has sent.
        pausing: whether it may ask again.
        result: what it returned.
        before: what was chosen when it began (the version and the serial of each).
    """

    machine: Any
    number: int
    pausing: bool
    result: Done[Any] | None
    before: frozenset[tuple[int, Proposal]]


class State(NamedTuple):
    """One state of the world: of each acceptor, of each call, what was sent, what is chosen."""

    acceptors: tuple[int, ...]
    actors: tuple[int, ...]
    sent: frozenset[int]
    chosen: int


class Step(NamedTuple):
    """A step of the world: an acceptor takes a request, or (None) a call goes on.

    The acceptors are named as they were before the step, up to symmetry.
    """

    call: int
    sent: int
    acceptor: int | None
    reply: int | None


class Remembered(NamedTuple):
    """The state of an acceptor, and every vote that it has ever cast: version, ballot, proposal."""

    summary: Summary
    registers: Mapping[int, Register]
    cast: frozenset[tuple[int, Ballot, Proposal]]


class Violation(Exception):  # noqa: N818 - it is the finding
    """A state that must not be."""


class _Kept:
    """Values and the numbers that stand for them."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, value: Any) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.values.append(value)
        return number


class _ModelStore:
    """A store of one key that starts from a state and remembers how it ended."""

    def __init__(self, summary: Summary, registers: Mapping[int, Register]) -> None:
        self.now = summary
        self.registers = dict(registers)

    def summary(self, key: str) -> Summary:
        assert key == KEY
        return self.now

    def register(self, instance: Instance) -> Register:
        return self.registers.get(instance.ver, BLANK)

    def below(self, key: str, ver: int) -> tuple[int, Register] | None:
        assert key == KEY
        seen = [v for v, register in self.registers.items() if v < ver and register.sight]
        return (max(seen), self.registers[max(seen)]) if seen else None

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        raise AssertionError("nobody scans here")

    def save(self, key: str, summary: Summary, registers: Mapping[int, Register]) -> None:
        assert key == KEY
        self.now = summary
        kept = {**self.registers, **registers}
        self.registers = {ver: each for ver, each in kept.items() if ver >= summary.floor}

    def statistics(self) -> tuple[int, int]:
        raise AssertionError("nobody asks for the status here")


class World:
    """What can happen next, and what must hold."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.quorums = Quorums(config.acceptors)
        self.names = [b"%c" % (65 + number) * 16 for number in range(config.acceptors)]
        self._acceptors, self._actors, self._messages, self._replies, self._choices = (
            _Kept() for _ in range(5)
        )
        self._handled: dict[tuple[int, int], tuple[int, int]] = {}
        self._received: dict[tuple[int, int, int, int], tuple[int, int | None]] = {}
        self._asked: dict[tuple[int, int], tuple[int, int] | None] = {}
        self._renamed: dict[tuple[int, tuple[int, ...]], int] = {}
        self._new = [self._actor(Actor(call, 0, False, None, frozenset())) for call in config.calls]

    def initial(self) -> State:
        """Nothing was promised, and nobody has begun."""
        blank = self._acceptor(UNHEARD, {}, frozenset())
        sent = frozenset(self._message(Message(-1, 0, request)) for request in self.config.sent)
        acceptors = (blank,) * self.config.acceptors
        state = State(acceptors, tuple(self._new), sent, self._choice(frozenset()))
        for ver, voters in self.config.cast:
            # The lowest of ballots, so that its promises are of no consequence.
            who = bytes(15) + bytes([ver])
            proposal = Proposal(ProposalId(who, 1), b"before")
            request = Accept(Instance(KEY, ver), Ballot(1, who), proposal)
            message = self._message(Message(-1, 0, request))
            for voter in voters:
                ((_, state),) = self._deliver(state, message, "ABCDE".index(voter))
        return state

    # --- what can happen -----------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[Step, State]]:
        """Every state that may come next, and what leads there, for people."""
        for call, number in enumerate(state.actors):
            actor: Actor = self._actors.values[number]
            if number == self._new[call]:
                yield from self._begin(state, call)
            elif actor.pausing and (asked := self._ask_again(number, call)) is not None:
                actors = (*state.actors[:call], asked[0], *state.actors[call + 1 :])
                after = state._replace(actors=actors, sent=state.sent | {asked[1]})
                yield Step(call, asked[1], None, None), after
        for sent in state.sent:
            for acceptor in range(self.config.acceptors):
                yield from self._deliver(state, sent, acceptor)

    def _begin(self, state: State, call: int) -> Iterator[tuple[Step, State]]:
        what: Call = self.config.calls[call]
        known = None
        if isinstance(what, Put) and what.remembered is not None:
            known = dict(self._choices.values[state.chosen]).get(what.remembered)
            if known is None:
                return  # a client remembers only what was chosen
            known = Latest(what.remembered, known)
        who = bytes([call + 1]) * 16
        live = machine(what, who, self.quorums, known)
        actor = Actor(live, 1, False, None, self._choices.values[state.chosen])
        sent = self._message(Message(call, 1, live.ask()))
        after = self._with_actor(state, call, actor)
        after = after._replace(sent=after.sent | {sent})
        for acceptor in range(self.config.acceptors):
            yield from self._deliver(after, sent, acceptor)

    def _ask_again(self, number: int, call: int) -> tuple[int, int] | None:
        """A call whose pause is over: its state then, and what it sends; None: it gives up."""
        if (number, call) not in self._asked:
            actor: Actor = self._actors.values[number]
            live = copy.deepcopy(actor.machine)
            sent = self._message(Message(call, actor.number + 1, live.ask()))
            after = self._actor(Actor(live, actor.number + 1, False, None, actor.before))
            gives_up = _attempts(live) > self.config.attempts
            self._asked[number, call] = None if gives_up else (after, sent)
        return self._asked[number, call]

    def _send(self, state: State, message: Message) -> State:
        return state._replace(sent=state.sent | {self._message(message)})

    def _deliver(self, state: State, sent: int, acceptor: int) -> Iterator[tuple[Step, State]]:
        """An acceptor takes a request, and its reply is lost or heard."""
        message: Message = self._messages.values[sent]
        before = state.acceptors[acceptor]
        after, reply = self._handle(before, sent)
        if after != before:
            acceptors = (*state.acceptors[:acceptor], after, *state.acceptors[acceptor + 1 :])
            state = self._cast(state._replace(acceptors=acceptors), acceptor, before, after)
            yield Step(message.call, sent, acceptor, None), state
        if message.call >= 0 and self._waits(state, message):
            after_reply = self._receive(state, message.call, acceptor, reply)
            yield Step(message.call, sent, acceptor, reply), after_reply

    def _handle(self, acceptor: int, sent: int) -> tuple[int, int]:
        known = self._handled.get((acceptor, sent))
        if known is None:
            message: Message = self._messages.values[sent]
            before: Remembered = self._acceptors.values[acceptor]
            store = _ModelStore(before.summary, before.registers)
            reply = Acceptor(store, self.config.keep).handle(message.request)
            assert answers(reply, message.request)
            cast = {
                (ver, *register.voted)
                for ver, register in store.registers.items()
                if register.voted is not None
            }
            after = self._acceptor(store.now, store.registers, before.cast | cast)
            known = self._handled[acceptor, sent] = (
                after,
                self._replies.number(freeze(reply), reply),
            )
        return known

    def _cast(self, state: State, acceptor: int, before: int, after: int) -> State:
        """Find out what new votes make chosen, and what commits rest on."""
        chosen = set(self._choices.values[state.chosen])
        for ver, register in self._acceptors.values[after].registers.items():
            if register.chosen is not None and (ver, register.chosen) not in chosen:
                raise Violation(f"{chr(65 + acceptor)} believes a choice that was never made")
        new = self._acceptors.values[after].cast - self._acceptors.values[before].cast
        if not new:
            return state
        for vote in new:
            ver, ballot, proposal = vote
            count = sum(vote in self._acceptors.values[each].cast for each in state.acceptors)
            if count >= (self.quorums.quorum if ballot.n else self.quorums.fast_quorum):
                chosen.add((ver, proposal))
        if len(dict(chosen)) < len(chosen):
            raise Violation(f"agreement: two proposals are chosen for one version: {chosen}")
        return state._replace(chosen=self._choice(frozenset(chosen)))

    def _receive(self, state: State, call: int, acceptor: int, reply: int) -> State:
        key = (state.actors[call], call, acceptor, reply)
        known = self._received.get(key)
        if known is None:
            known = self._received[key] = self._advance(*key)
        number, message = known
        actors = (*state.actors[:call], number, *state.actors[call + 1 :])
        actor: Actor = self._actors.values[number]
        state = state._replace(actors=actors)
        if actor.result is not None:
            self._check_result(state, call, actor)
            commit = actor.machine
            if self.config.commits and commit is not None:
                state = self._send(state, Message(-1, 0, commit))
        elif message is not None:
            state = state._replace(sent=state.sent | {message})
        return state

    def _advance(self, number: int, call: int, acceptor: int, reply: int) -> tuple[int, int | None]:
        """A call takes a reply: its state then, and what it sends."""
        actor: Actor = self._actors.values[number]
        live = copy.deepcopy(actor.machine)
        outcome = live.receive(self.names[acceptor], self._replies.values[reply])
        match outcome:
            case None:
                return self._actor(actor._replace(machine=live)), None
            case Pause():
                return self._actor(actor._replace(machine=live, pausing=True)), None
            case Done():
                # Of a call that is done, only what it tells the acceptors still matters.
                ended = Actor(live.commit, actor.number, False, outcome, actor.before)
                return self._actor(ended), None
        if _attempts(live) > self.config.attempts:
            return self._actor(Actor(None, -1, False, None, actor.before)), None
        sent = self._message(Message(call, actor.number + 1, outcome))
        after = Actor(live, actor.number + 1, False, None, actor.before)
        return self._actor(after), sent

    # --- what must hold ------------------------------------------------------------------

    def _check_result(self, state: State, call: int, actor: Actor) -> None:
        assert actor.result is not None
        result = actor.result.result
        what = self.config.calls[call]
        chosen = dict(self._choices.values[state.chosen])
        before = dict(actor.before)
        highest = max(before, default=-1)
        match what, result:
            case ((Set(ver) | Get(ver)), Proposal()):
                if chosen.get(ver) != result:
                    raise Violation(f"call {call} returned what is not chosen: {result}")
            case Get(ver), None:
                if ver in before:
                    raise Violation(f"R6: call {call} missed version {ver}, chosen before it began")
            case ((Set(ver) | Get(ver)), Compacted(latest, proposal)):
                if chosen.get(latest) != proposal or latest <= ver:
                    raise Violation(f"R9: call {call} was told a latest version that is none")
            case ((GetLatest() | Put()), Latest(ver, proposal)):
                if chosen.get(ver) != proposal:
                    raise Violation(f"call {call} returned what is not chosen: {result}")
                if isinstance(what, GetLatest) and ver < highest:
                    raise Violation(f"R6: a get returned {ver}, and {highest} was chosen before")
                if isinstance(what, Put) and ver <= highest:
                    raise Violation(f"R7: a put returned {ver}, and {highest} was chosen before")
                if isinstance(what, Put) and proposal.id.proposer[0] != call + 1:
                    raise Violation(f"R7: call {call} took another's proposal for its own")
            case GetLatest(), None:
                if before:
                    raise Violation(f"R6: a get found nothing, and {highest} was chosen before")
            case Put(), None:
                pass  # it cannot tell
            case _:
                raise Violation(f"call {call} returned {result}")

    # --- what is the same -------------------------------------------------------------------------

    def canonical(self, state: State) -> State:
        """The same for all states that differ only in which acceptor is which.

        And without the requests that can change nothing any more.
        """
        state = state._replace(
            sent=frozenset(each for each in state.sent if self._matters(state, each))
        )
        signs = state.acceptors
        order = sorted(range(len(signs)), key=lambda k: signs[k])
        tied = [list(group) for _, group in itertools.groupby(order, key=lambda k: signs[k])]
        orders = itertools.product(*(itertools.permutations(group) for group in tied))
        best = min(
            (tuple(itertools.chain(*each)) for each in orders),
            key=lambda each: tuple(self._as_seen(actor, each) for actor in state.actors),
        )
        return self._permuted(state, best)

    def _matters(self, state: State, sent: int) -> bool:
        """Whether somebody waits for its answer, or an acceptor would change by it.

        Once none would, none ever will, for promises only rise, and what is chosen stays so. A
        commit waits for the vote that it may meet.
        """
        message: Message = self._messages.values[sent]
        if message.call >= 0 and self._waits(state, message):
            return True
        if isinstance(message.request, Commit):
            ver = message.request.instance.ver
            remembered = [self._acceptors.values[each] for each in state.acceptors]
            return not all(ver < r.summary.floor or ver in r.summary.chosen for r in remembered)
        return any(self._handle(each, sent)[0] != each for each in state.acceptors)

    def _waits(self, state: State, message: Message) -> bool:
        actor: Actor = self._actors.values[state.actors[message.call]]
        return actor.number == message.number and actor.result is None

    def _permuted(self, state: State, order: tuple[int, ...]) -> State:
        """The acceptor ``order[k]`` becomes number k."""
        if order == tuple(range(len(order))):
            return state
        return State(
            tuple(state.acceptors[old] for old in order),
            tuple(self._as_seen(actor, order) for actor in state.actors),
            state.sent,
            state.chosen,
        )

    def _as_seen(self, actor: int, order: tuple[int, ...]) -> int:
        """A call's state once the acceptors are in another order."""
        known = self._renamed.get((actor, order))
        if known is None:
            names = {self.names[old]: self.names[new] for new, old in enumerate(order)}
            before: Actor = self._actors.values[actor]
            if before.result is None and not isinstance(before.machine, tuple):
                before = before._replace(machine=renamed(before.machine, names))
            known = self._renamed[actor, order] = self._actor(before)
        return known

    # --- numbers ---------------------------------------------------------------------------

    def _acceptor(
        self,
        summary: Summary,
        registers: Mapping[int, Register],
        cast: frozenset[tuple[int, Ballot, Proposal]],
    ) -> int:
        key = (summary, frozenset(registers.items()), cast)
        return self._acceptors.number(key, Remembered(summary, registers, cast))

    def _choice(self, chosen: frozenset[tuple[int, Proposal]]) -> int:
        return self._choices.number(chosen, chosen)

    def _actor(self, actor: Actor) -> int:
        return self._actors.number(freeze(actor), actor)

    def _with_actor(self, state: State, call: int, actor: Actor) -> State:
        actors = (*state.actors[:call], self._actor(actor), *state.actors[call + 1 :])
        return state._replace(actors=actors)

    def _message(self, message: Message) -> int:
        return self._messages.number(freeze(message), message)

    def check_liveness(self, state: State) -> None:
        """All calls under way would return, were they left alone one after the other."""
        for call, number in enumerate(state.actors):
            if number == self._new[call] or self._actors.values[number].number < 0:
                continue
            for _ in range(_PATIENCE):
                actor: Actor = self._actors.values[state.actors[call]]
                if actor.result is not None or actor.number < 0:
                    break
                state = self._alone(state, call, actor)
            else:
                raise Violation(f"call {call} never ends, though nobody disturbs it")

    def _alone(self, state: State, call: int, actor: Actor) -> State:
        """All acceptors answer the request of a call, or it goes on after its pause."""
        if actor.pausing:
            asked = self._ask_again(state.actors[call], call)
            after = (self._actor(Actor(None, -1, False, None, actor.before)), None)
            number, sent = asked or after
            actors = (*state.actors[:call], number, *state.actors[call + 1 :])
            return state._replace(
                actors=actors, sent=state.sent if sent is None else state.sent | {sent}
            )
        (request,) = (
            sent for sent in state.sent if self._messages.values[sent][:2] == (call, actor.number)
        )
        for acceptor in range(self.config.acceptors):
            if self._waits(state, self._messages.values[request]):
                *_, (_, state) = self._deliver(state, request, acceptor)
        return state

    def is_over(self, state: State) -> bool:
        """Whether all calls have returned."""
        return all(self._actors.values[actor].result is not None for actor in state.actors)

    # --- for people ----------------------------------------------------------------------

    def told(self, step: Step) -> str:
        """What happened, in a line."""
        request = self._messages.values[step.sent].request
        who = f"call {step.call}" if step.call >= 0 else "somebody"
        if step.acceptor is None:
            return f"{who} goes on after a pause: {request}"
        heard = "is not heard" if step.reply is None else self._replies.values[step.reply]
        return f"{chr(65 + step.acceptor)} takes {who}'s {request}; its reply: {heard}"


_PATIENCE = 40  # steps within which a call must end that nobody disturbs


def _attempts(live: Any) -> int:
    """How many phases 1 a machine has begun in all."""
    if hasattr(live, "attempts"):
        return int(live.attempts)
    return int(live._operation.attempts)
