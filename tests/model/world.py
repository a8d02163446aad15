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
from typing import TypeAlias

from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Commit,
    Find,
    Instance,
    Proposal,
    ProposalId,
    Read,
    Request,
)
from paxoskv.paxos.operation import Latest
from paxoskv.paxos.quorums import Quorums

from .acceptors import Acceptors
from .calls import KEY, Call, Put
from .columns import NONE, Columns
from .frozen import freeze
from .kept import Kept
from .machines import GONE, Machines, Move, Outcomes
from .rules import check_result, known_before
from .violation import Violation


@dataclass(frozen=True)
class Config:
    """What is explored.

    Attributes:
        calls: the calls that may be made, each once, at any time.
        acceptors: how many there are.
        attempts: how many phases 1 each operation may begin.
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


State: TypeAlias = tuple[int, ...]
"""The state of each call, what each knew to be chosen when it began, what was sent and may
still matter, what is chosen, and a column for each acceptor; all by their numbers."""


Step: TypeAlias = tuple[int, int, int, int]
"""An acceptor takes a request; before that, perhaps, a call sends it: the call that begins,
goes on or returns, and its state then; the request; the place of the acceptor that takes it.
-1 for no call, and for no acceptor."""

NOBODY = -1

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
        )
        self.choices: Kept[frozenset[tuple[int, Proposal]]] = Kept()
        self.sent: Kept[int] = Kept()
        self._new = [self.machines.new(call) for call in range(len(config.calls))]
        self._judged: set[tuple[int, int, int, int]] = set()
        self._alive: set[int] = set()
        self._same = tuple(range(config.acceptors))

    def initial(self) -> State:
        """Nothing was promised, and nobody has begun."""
        calls = len(self.config.calls)
        columns = [self.columns.blank] * self.config.acceptors
        chosen = self._choice(frozenset())
        for ver, voters in self.config.cast:
            request = self._number(before(ver))
            for voter in voters:
                k = "ABCDE".index(voter)
                assert self.columns.changing(columns[k], 1 << request)
                chosen, columns = self._taken(chosen, columns, request, k)
        sent = sum(1 << self._number(request) for request in self.config.sent)
        state = (*self._new, *(0,) * calls, self._sent(sent, columns), chosen, *columns)
        return self._canonical(state)[0]

    # --- what can happen -----------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[Step, State, Order]]:
        """Every state that may come next, and what leads there.

        Raises:
            Violation: something may come next that must not be.
        """
        calls = len(self._new)
        sent = self.sent[state[2 * calls]]
        chosen = state[2 * calls + 1]
        columns = list(state[2 * calls + 2 :])
        head = state[: 2 * calls]
        for k, column in enumerate(columns):
            requests = self.columns.changing(column, sent)
            while requests:
                bit = requests & -requests
                requests ^= bit
                request = bit.bit_length() - 1
                step = NOBODY, 0, request, k
                yield step, *self._after(head, sent, chosen, columns, request, k)
        for call in range(calls):
            machine = state[call]
            if machine == GONE:
                continue
            if machine == self._new[call]:
                began = self._begin(call, chosen)
                if began is not None:
                    known = known_before(self.config.calls[call], self.choices[chosen])
                    head_then = (*head[: calls + call], known, *head[calls + call + 1 :])
                    yield from self._send(head_then, sent, chosen, columns, call, *began)
                continue
            outcomes = self._outcomes(state, call)
            for after, request in outcomes.moves:
                yield from self._send(head, sent, chosen, columns, call, after, request)
            for number in outcomes.results:
                self._judge(call, number, state[calls + call], chosen)
                commit = self.machines.results[number].commit
                if self.config.commits and commit:
                    yield from self._send(head, sent, chosen, columns, call, GONE, commit)

    def _begin(self, call: int, chosen: int) -> Move | None:
        what = self.config.calls[call]
        known = None
        if isinstance(what, Put) and what.remembered is not None:
            proposal = dict(self.choices[chosen]).get(what.remembered)
            if proposal is None:
                return None  # a client remembers only what was chosen
            known = Latest(what.remembered, proposal)
        return self.machines.begin(call, what, known)

    def _outcomes(self, state: State, call: int) -> Outcomes:
        tells = self.columns.tells[call]
        told = tuple([tells[column] for column in state[2 * len(self._new) + 2 :]])
        return self.machines.outcomes(state[call], told)

    def _send(
        self,
        head: State,
        sent: int,
        chosen: int,
        columns: list[int],
        call: int,
        machine: int,
        request: int,
    ) -> Iterator[tuple[Step, State, Order]]:
        """A call sends a request to all, and an acceptor takes it; or all that do not change."""
        head = (*head[:call], machine, *head[call + 1 :])
        asked = NONE if machine == GONE else request
        columns = [self.columns.ask(column, call, asked) for column in columns]
        bit = 1 << request
        if not isinstance(self.columns.requests[request], Read | Find):
            sent |= bit
        heard = False
        for k, column in enumerate(columns):
            if self.columns.changing(column, bit):
                step = call, machine, request, k
                yield step, *self._after(head, sent, chosen, columns, request, k)
            else:
                heard = True
        if heard and machine != GONE:
            state = (*head, self._sent(sent, columns), chosen, *columns)
            yield (call, machine, request, NOBODY), *self._canonical(state)

    def _after(
        self, head: State, sent: int, chosen: int, columns: list[int], request: int, k: int
    ) -> tuple[State, Order]:
        """The state after the acceptor at place k has taken a request that changes it."""
        chosen, columns = self._taken(chosen, columns, request, k)
        return self._canonical((*head, self._sent(sent, columns), chosen, *columns))

    def _taken(
        self, chosen: int, columns: list[int], request: int, k: int
    ) -> tuple[int, list[int]]:
        before = columns[k]
        after = self.columns.after[before][request]
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
            raise Violation(f"agreement: two proposals are chosen for one version: {after}")
        return self._choice(after)

    def _believed(self, chosen: int, acceptor: int, name: str) -> None:
        for ver, register in self.acceptors[acceptor].registers.items():
            if register.chosen is not None and (ver, register.chosen) not in self.choices[chosen]:
                raise Violation(f"{name} believes a choice that was never made")

    def _judge(self, call: int, result: int, before: int, chosen: int) -> None:
        key = call, result, before, chosen
        if key not in self._judged:
            value = self.machines.results[result].value
            what = self.config.calls[call]
            check_result(call, what, value, before, dict(self.choices[chosen]))
            self._judged.add(key)

    def is_over(self, state: State) -> bool:
        """Whether all calls have returned, or may at once."""
        return all(
            state[call] == GONE
            or (state[call] != new and bool(self._outcomes(state, call).results))
            for call, new in enumerate(self._new)
        )

    def check_liveness(self, state: State) -> None:
        """Each call under way would return, were it left alone.

        All acceptors answer it, and only it. What it has asked and heard before is its state.
        """
        calls = len(self._new)
        acceptors = tuple([self.columns.acceptor[each] for each in state[2 * calls + 2 :]])
        for call in range(calls):
            machine = state[call]
            if machine == GONE or machine == self._new[call]:
                continue
            key = hash((machine, acceptors))
            if key not in self._alive:
                self._leave_alone(machine, self._asked(state, call), acceptors)

    def _asked(self, state: State, call: int) -> int:
        return self.columns[state[-1]].asked[call]

    def _leave_alone(self, machine: int, request: int, acceptors: tuple[int, ...]) -> None:
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

    def _number(self, request: Request) -> int:
        return self.columns.requests.number(freeze(request), request)


PATIENCE = 40  # requests within which a call must end that nobody disturbs


def before(ver: int) -> Accept:
    """What was proposed before: at the lowest of ballots, whose promises change little."""
    who = bytes(15) + bytes([ver])
    return Accept(Instance(KEY, ver), Ballot(1, who), Proposal(ProposalId(who, 1), b"before"))
