"""The model without any shortcut, to check those of `world` in tiny worlds.

Here every message is delivered, lost, repeated and heard in a step of its own, the acceptors
have names, and nothing is forgotten that was sent. What is reached must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from paxoskv.paxos.messages import Compacted

from .machines import GONE, PAUSE_OVER, Hearing, Move
from .rules import known_before
from .world import Config, World

Reached: TypeAlias = tuple[set[tuple[tuple[int, ...], int]], dict[tuple[int, int, int], int]]
"""The states of the acceptors, sorted, with what is chosen; and of each result of a call, with
what is chosen then, the most that it may have known before."""


class _Call(NamedTuple):
    """A call: what it has heard, what it asked last, and what it knew when it began."""

    hearing: Hearing
    request: int
    before: int


class _Plain(NamedTuple):
    """A state: acceptors, calls, what was sent, the replies under way, what was handled by whom.

    A reply under way is told by the call, its request, the acceptor, and the reply.
    """

    acceptors: tuple[int, ...]
    calls: tuple[_Call, ...]
    sent: frozenset[int]
    replies: frozenset[tuple[int, int, int, int]]
    handled: frozenset[tuple[int, int]]


class Plain:
    """Explores without shortcuts."""

    def __init__(self, config: Config) -> None:
        self.world = World(config)
        self._config = config
        self._results: dict[tuple[int, int, int], int] = {}

    def reached(self) -> Reached:
        """All that can be reached."""
        world = self.world
        calls = len(self._config.calls)
        first, _ = world.initial()
        start = _Plain(
            tuple(world.columns.acceptor[column] for column in first[2 * calls + 2 :]),
            tuple(_Call(Hearing(world.machines.new(n), False, 0), 0, 0) for n in range(calls)),
            frozenset(world.number(request) for request in self._config.sent),
            frozenset(),
            frozenset(),
        )
        seen = {start}
        waiting = [start]
        while waiting:
            for state in self._steps(waiting.pop()):
                if state not in seen:
                    seen.add(state)
                    waiting.append(state)
        acceptors = {(tuple(sorted(s.acceptors)), self._chosen(s)) for s in seen}
        self.states = len(seen)
        return acceptors, self._results

    def _chosen(self, state: _Plain) -> int:
        """What is chosen, from all votes that were ever cast."""
        world = self.world
        cast = [world.acceptors[each].cast for each in state.acceptors]
        chosen = set()
        for vote in frozenset().union(*cast):
            quorums = world.quorums
            needed = quorums.quorum if vote.ballot.n else quorums.fast_quorum
            if sum(vote in each for each in cast) >= needed:
                chosen.add((vote.ver, vote.proposal))
        return world.choices.number(frozenset(chosen), frozenset(chosen))

    def _steps(self, state: _Plain) -> Iterator[_Plain]:
        for request in state.sent:
            for k in range(len(state.acceptors)):
                yield self._handled(state, request, k)
        for number, call in enumerate(state.calls):
            machine = call.hearing.machine
            if machine == GONE:
                continue
            if machine == self.world.machines.new(number):
                chosen = self._chosen(state)
                began = self.world.begin(number, chosen)
                if began is not None:
                    what = self._config.calls[number]
                    before = known_before(what, self.world.choices[chosen])
                    yield self._asks(state, number, began, before)
                continue
            if call.hearing.pausing:
                yield from self._hears(state, number, *PAUSE_OVER)
            for whose, request, k, reply in state.replies:
                if (whose, request) == (number, call.request):
                    yield from self._hears(state, number, k, reply)

    def _handled(self, state: _Plain, request: int, k: int) -> _Plain:
        live = self.world.columns.requests[request]
        assert live is not None
        after, reply = self.world.acceptors.handle(state.acceptors[k], live)
        ways = [2 * reply]
        if isinstance(self.world.acceptors.replies[reply], Compacted):
            ways = [2 * reply + 1] if (k, request) in state.handled else [2 * reply, 2 * reply + 1]
        return state._replace(
            acceptors=(*state.acceptors[:k], after, *state.acceptors[k + 1 :]),
            replies=state.replies
            | {
                (number, request, k, way)
                for number, call in enumerate(state.calls)
                if call.request == request
                for way in ways
            },
            handled=state.handled | {(k, request)},
        )

    def _asks(self, state: _Plain, number: int, move: Move, before: int) -> _Plain:
        call = _Call(Hearing(move.machine, False, 0), move.request, before)
        return state._replace(
            calls=(*state.calls[:number], call, *state.calls[number + 1 :]),
            sent=state.sent | {move.request},
            replies=frozenset(each for each in state.replies if each[0] != number),
        )

    def _hears(self, state: _Plain, number: int, k: int, reply: int) -> Iterator[_Plain]:
        machines = self.world.machines
        call = state.calls[number]
        heard = machines.hear(call.hearing, k, reply)
        if isinstance(heard, Hearing):
            after = call._replace(hearing=heard)
            yield state._replace(calls=(*state.calls[:number], after, *state.calls[number + 1 :]))
        elif isinstance(heard, Move):
            if machines.may(heard):
                yield self._asks(state, number, heard, call.before)
        else:
            key = number, heard, self._chosen(state)
            self._results[key] = max(call.before, self._results.get(key, 0))
            gone = call._replace(hearing=Hearing(GONE, False, 0), request=0)
            commit = machines.results[heard].commit
            sent = state.sent | {commit} if self._config.commits and commit else state.sent
            yield state._replace(
                calls=(*state.calls[:number], gone, *state.calls[number + 1 :]), sent=sent
            )


def reached(world: World) -> Reached:
    """The same of the model with its shortcuts."""
    calls = len(world.config.calls)
    first, _ = world.initial()
    seen = {first}
    waiting = [first]
    acceptors = set()
    results: dict[tuple[int, int, int], int] = {}
    while waiting:
        state = waiting.pop()
        chosen = state[2 * calls + 1]
        columns = state[2 * calls + 2 :]
        acceptors.add((tuple(sorted(world.columns.acceptor[each] for each in columns)), chosen))
        for call in range(calls):
            if state[call] not in {GONE, world.machines.new(call)}:
                for result in world.outcomes(state, call).results:
                    key = call, result, chosen
                    results[key] = max(state[calls + call], results.get(key, 0))
        for step in world.steps(state):
            after, _ = world.after(state, step)
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return acceptors, results
