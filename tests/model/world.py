"""The world of the model checker: acceptors, calls, and a network that may do anything.

A state is a tuple of small integers, each of which stands for something; what follows from
what is computed once, by the very code of `paxoskv.paxos`, and remembered.

- The network loses, repeats, delays and reorders: what was sent once may be delivered to any
  acceptor at any time, any number of times, or never; so may the reply (`columns`).
- A call begins, or asks something new, when this arrives at an acceptor for the first time:
  until then nobody can tell. To begin later is to know of more that was chosen before, which
  makes the rules stricter; to ask later is to have heard no less.
- A call that returns and tells nobody is as one that goes on waiting: nobody else can tell. So
  what it may return is judged in each state, and is no step.
- An acceptor that crashes goes back to what is durable. No reply leaves before that (rule R1,
  which other tests watch), so a crash is a request that was never delivered.
- A proposer that crashes takes no further step, which is always possible here.
- The acceptors are alike: of all states that differ only in which is which, one is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Commit,
    Instance,
    Proposal,
    ProposalId,
    Request,
)
from paxoskv.paxos.operation import Latest
from paxoskv.paxos.quorums import Quorums

from .acceptors import Acceptors
from .calls import KEY, Call, Put, Update
from .columns import NONE, Columns
from .frozen import freeze
from .kept import Kept
from .machines import GONE, Machines, Move, Outcomes
from .rules import check_denied, check_once, check_result, known_before
from .violation import Violation


@dataclass(frozen=True)
class Config:
    """What is explored.

    Attributes:
        calls: the calls that may be made, each once, at any time.
        acceptors: how many there are.
        attempts: how many ballots each operation may begin.
        fast: how many operations of a call begin at ballot 0.
        keep: how many chosen versions acceptors keep.
        commits: whether calls tell what they know to be chosen.
        sent: requests of clients that are never heard of again.
        cast: versions that some acceptors have voted for already, as (version, "AB").
        known: those of them that some acceptors know to be chosen.
    """

    calls: Sequence[Call]
    acceptors: int = 3
    attempts: int = 2
    fast: int = 0
    keep: int = 16
    commits: bool = False
    sent: Sequence[Request] = ()
    cast: Sequence[tuple[int, str]] = ()
    known: Sequence[tuple[int, str]] = ()


State: TypeAlias = tuple[int, ...]
"""The state of each call, what each knew to be chosen when it began, what was sent and may
still matter, what is chosen, and a column for each acceptor; all by their numbers."""


Step: TypeAlias = tuple[int, int, int, int]
"""An acceptor takes a request; before that, perhaps, a call sends it: the call that begins,
goes on or returns, and its state then; the request; the place of the acceptor that takes it.
-1 for no call, and for no acceptor."""

NOBODY: Final = -1
ACCEPTORS: Final = "ABCDE"

Order: TypeAlias = tuple[int, ...]
"""Acceptors in a new order: number ``order[k]`` comes to the place k."""


class World:
    """What can happen next, and what must hold."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.quorums = Quorums(config.acceptors)
        self.names = [b"%c" % (65 + number) * 16 for number in range(config.acceptors)]
        self.acceptors = Acceptors(config.keep)
        self.columns = Columns(self.acceptors, len(config.calls))
        self.machines = Machines(
            self.names,
            self.quorums,
            self.columns.requests,
            self.acceptors.replies,
            self.columns.told,
            config.attempts,
            config.fast,
        )
        self.choices: Kept[frozenset[tuple[int, Proposal]]] = Kept()
        self.sent: Kept[int] = Kept()
        self._new = [self.machines.new(call) for call in range(len(config.calls))]
        self._judged: set[tuple[int, int, int, int]] = set()
        self._alive: set[int] = set()
        self._same = tuple(range(config.acceptors))

    def initial(self) -> tuple[State, Order]:
        """Nothing was promised but what the configuration says, and nobody has begun."""
        calls = len(self.config.calls)
        columns = [self.columns.blank] * self.config.acceptors
        chosen = self._choice(frozenset())
        for request, places in setup(self.config):
            for k in places:
                chosen, columns = self._taken(chosen, columns, self.number(request), k)
        sent = sum(1 << self.number(request) for request in self.config.sent)
        state = (*self._new, *(0,) * calls, self._sent(sent, columns), chosen, *columns)
        return self._canonical(state)

    # --- what can happen -----------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """What can happen next. What is the same but for the acceptors' names comes once."""
        calls = len(self._new)
        sent = self.sent[state[2 * calls]]
        columns = state[2 * calls + 2 :]
        places = self._places(state, columns)
        for k in places:
            requests = self.columns.changing(columns[k], sent)
            while requests:
                bit = requests & -requests
                requests ^= bit
                yield NOBODY, 0, bit.bit_length() - 1, k
        for call in range(calls):
            machine = state[call]
            if machine == GONE:
                continue
            if machine == self._new[call]:
                began = self.begin(call, state[2 * calls + 1])
                if began is not None:
                    yield from self._sends(columns, places, call, *began)
                continue
            outcomes = self.outcomes(state, call)
            for after, request in outcomes.moves:
                yield from self._sends(columns, places, call, after, request)
            if self.config.commits:
                for result in outcomes.results:
                    commit = self.machines.results[result].commit
                    if commit:
                        yield from self._sends(columns, places, call, GONE, commit)

    def _places(self, state: State, columns: State) -> Sequence[int]:
        """The places of the acceptors, without those that are as the one before it."""
        if len(set(columns)) == len(columns):
            return self._same
        keys = [self._key(state[: len(self._new)], columns, k) for k in self._same]
        return [k for k in self._same if k == 0 or keys[k] != keys[k - 1]]

    def begin(self, call: int, chosen: int) -> Move | None:
        """How a call begins, if it can: a client remembers only what was chosen."""
        what = self.config.calls[call]
        known = None
        if isinstance(what, Put | Update) and what.remembered is not None:
            proposal = dict(self.choices[chosen]).get(what.remembered)
            if proposal is None:
                return None
            known = Latest(what.remembered, proposal)
        return self.machines.begin(call, what, known)

    def told(self, state: State, call: int) -> tuple[int, ...]:
        """The numbers of what each acceptor has told a call."""
        tells = self.columns.tells[call]
        return tuple([tells[column] for column in state[2 * len(self._new) + 2 :]])

    def outcomes(self, state: State, call: int) -> Outcomes:
        """What a call that has begun may do next."""
        return self.machines.outcomes(state[call], self.told(state, call))

    def _sends(
        self, columns: State, places: Sequence[int], call: int, machine: int, request: int
    ) -> Iterator[Step]:
        """A call sends a request to all. Who takes it first? Or one that does not change."""
        bit = 1 << request
        heard = False
        for k in places:
            if self.columns.changing(columns[k], bit):
                yield call, machine, request, k
            else:
                heard = True
        if heard and machine != GONE:
            yield call, machine, request, NOBODY

    def after(self, state: State, step: Step) -> tuple[State, Order]:
        """The state after a step, and how the acceptors have changed places.

        Raises:
            Violation: it must not be.
        """
        calls = len(self._new)
        sent, chosen = state[2 * calls : 2 * calls + 2]
        columns = list(state[2 * calls + 2 :])
        head = state[: 2 * calls]
        call, machine, request, k = step
        requests = self.sent[sent]
        if call != NOBODY:
            head = (*head[:call], machine, *head[call + 1 :])
            if state[call] == self._new[call]:
                known = known_before(self.config.calls[call], self.choices[chosen])
                head = (*head[: calls + call], known, *head[calls + call + 1 :])
            columns = self.asked(columns, call, machine, request)
            requests |= 1 << request
        if k != NOBODY:
            chosen, columns = self._taken(chosen, columns, request, k)
        return self._canonical((*head, self._sent(requests, columns), chosen, *columns))

    def asked(self, columns: Sequence[int], call: int, machine: int, request: int) -> list[int]:
        """The columns once a call asks something."""
        asked = NONE if machine == GONE else request
        return [self.columns.ask(column, call, asked) for column in columns]

    def _taken(
        self, chosen: int, columns: list[int], request: int, k: int
    ) -> tuple[int, list[int]]:
        before = columns[k]
        after = self.columns.take(before, request)
        columns = columns.copy()
        columns[k] = after
        acceptors = self.columns.acceptor
        live = self.columns.requests[request]
        if isinstance(live, Accept):
            cast = self.acceptors.cast[acceptors[after]] & ~self.acceptors.cast[acceptors[before]]
            if cast:
                count = sum(1 for each in columns if self.acceptors.cast[acceptors[each]] & cast)
                needed = self.quorums.quorum if live.ballot.n else self.quorums.fast_quorum
                if count >= needed:
                    chosen = self._choose(chosen, live)
        elif isinstance(live, Commit):
            self._believed(chosen, acceptors[after], chr(65 + k))
        return chosen, columns

    # --- what must hold ------------------------------------------------------------------

    def _choose(self, chosen: int, accept: Accept) -> int:
        after = self.choices[chosen] | {(accept.instance.ver, accept.proposal)}
        if len(dict(after)) < len(after):
            raise Violation(
                f"agreement: two proposals are chosen for version {accept.instance.ver}"
            )
        check_once(accept.proposal, after)
        return self._choice(after)

    def _believed(self, chosen: int, acceptor: int, name: str) -> None:
        for ver, register in self.acceptors[acceptor].registers.items():
            if register.chosen is not None and (ver, register.chosen) not in self.choices[chosen]:
                raise Violation(f"{name} believes a choice that was never made")

    def judge(self, call: int, result: int, before: int, chosen: int) -> None:
        """Whether a call may return that.

        Raises:
            Violation: it must not.
        """
        key = call, result, before, chosen
        if key not in self._judged:
            value = self.machines.results[result].value
            what = self.config.calls[call]
            check_result(call, what, value, before, dict(self.choices[chosen]))
            self._judged.add(key)

    def is_over(self, state: State) -> bool:
        """Whether all calls have returned, or may at once."""
        return all(
            state[call] == GONE or (state[call] != new and bool(self.outcomes(state, call).results))
            for call, new in enumerate(self._new)
        )

    def check(self, state: State) -> None:
        """What the calls may return is right, and all would return, were they left alone.

        Raises:
            Violation: it is not so.
        """
        calls = len(self._new)
        acceptors = tuple([self.columns.acceptor[each] for each in state[2 * calls + 2 :]])
        for call, new in enumerate(self._new):
            if state[call] == GONE or state[call] == new:
                continue
            outcomes = self.outcomes(state, call)
            for result in outcomes.results:
                self.judge(call, result, state[calls + call], state[2 * calls + 1])
            if outcomes.denied:
                check_denied(call, outcomes.denied, self.choices[state[2 * calls + 1]])
            if hash((state[call], acceptors)) not in self._alive:
                self.leave_alone(state[call], self.asking(state, call), acceptors)

    def knowledge(self, state: State, call: int) -> tuple[int, int]:
        """What counts of what was chosen when a call began, and what is chosen now."""
        calls = len(self._new)
        return state[calls + call], state[2 * calls + 1]

    def asking(self, state: State, call: int) -> int:
        """The request that a call has made and waits for."""
        return self.columns[state[-1]].asked[call]

    def leave_alone(self, machine: int, request: int, acceptors: tuple[int, ...]) -> None:
        """All acceptors answer a call, and only it, until it returns.

        Raises:
            Violation: it does not.
        """
        passed = []
        for _ in range(PATIENCE):
            key = hash((machine, acceptors))
            if key in self._alive:
                break
            passed.append(key)
            live = self.columns.requests[request]
            assert live is not None
            handled = [self.acceptors.handle(each, live) for each in acceptors]
            acceptors = tuple([after for after, _ in handled])
            outcome = self.machines.alone(machine, [reply for _, reply in handled])
            if outcome is None:
                break
            machine, request = outcome
        else:
            raise Violation("a call never ends, though nobody disturbs it")
        self._alive.update(passed)

    # --- what is the same ----------------------------------------------------------------

    def _canonical(self, state: State) -> tuple[State, Order]:
        """The same for all states that differ only in which acceptor is which."""
        calls = len(self._new)
        columns = state[2 * calls + 2 :]
        last = -1
        for column in columns:
            if column <= last:
                break
            last = column
        else:
            return state, self._same
        machines = state[:calls]
        if len(set(columns)) == len(columns):
            order = tuple(sorted(self._same, key=columns.__getitem__))
        else:
            keys = [self._key(machines, columns, k) for k in self._same]
            order = tuple(sorted(self._same, key=keys.__getitem__))
        if order == self._same:
            return state, order
        renamed = self.machines.renamed
        return (
            *[renamed(machine, order) for machine in machines],
            *state[calls : 2 * calls + 2],
            *[columns[k] for k in order],
        ), order

    def _key(self, machines: State, columns: Sequence[int], k: int) -> State:
        sign = self.machines.sign
        return columns[k], *[sign(machine, k) for machine in machines]

    # --- numbers ---------------------------------------------------------------------------

    def _sent(self, requests: int, columns: Sequence[int]) -> int:
        """What was sent, without what can change nothing any more."""
        mattering = 0
        for column in columns:
            mattering |= self.columns.mattering(column, requests)
        return self.sent.number(mattering, mattering)

    def _choice(self, chosen: frozenset[tuple[int, Proposal]]) -> int:
        return self.choices.number(chosen, chosen)

    def number(self, request: Request) -> int:
        """The number of a request."""
        return self.columns.requests.number(freeze(request), request)


PATIENCE = 40  # requests within which a call must end that nobody disturbs


def setup(config: Config) -> Iterator[tuple[Accept | Commit, list[int]]]:
    """What has happened before, as a configuration says: a request, and who took it."""
    for ver, voters in config.cast:
        yield before(ver), [ACCEPTORS.index(name) for name in voters]
    for ver, knowing in config.known:
        (instance, _, proposal, *_) = before(ver)
        yield Commit(instance, proposal.id, None), [ACCEPTORS.index(name) for name in knowing]


def before(ver: int) -> Accept:
    """What was proposed before: at the lowest of ballots, whose promises change little."""
    who = bytes(15) + bytes([ver])
    return Accept(Instance(KEY, ver), Ballot(1, who), Proposal(ProposalId(who, 1), b"before"))
