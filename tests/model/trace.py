"""How a state came about, as a script (`script`) that can be run and read.

The explorer knows which states follow each other. Here one way through them is told with
every message and under the acceptors' true names: the states call the acceptors as it suits
them, so who is where is followed from step to step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from paxoskv.paxos.messages import Accept, Commit, Compacted, ProposalId

from .machines import GONE, PAUSE_OVER, Heard, Hearing, Move
from .script import words
from .violation import WRONG
from .world import ACCEPTORS, NOBODY, State, Step, World, setup

CALLS = "XYZ"
STRANGERS = "PQRSTU"
ROUNDS = 4  # that a call is shown to go on for which never ends


@dataclass
class _Taken:
    """An acceptor takes a request. If that changes nothing, it matters if the reply is heard."""

    acceptor: int
    request: str
    matters: bool


_Event: TypeAlias = "str | _Taken | tuple[str, _Taken, str]"
"""A line of the script; an acceptor takes a request; or a call hears the reply to that, perhaps
as one to a request that was sent again."""

_Path: TypeAlias = list[tuple[int, int]]
"""What a call hears: places and replies, and pauses that are over."""


def script(world: World, came_from: Mapping[int, int], last: State, what: str) -> str:
    """The shortest way to a state, and to what is wrong there.

    Args:
        world: the one in which this was found.
        came_from: of the hash of each state, the hash of one before it.
        last: the state.
        what: what is wrong, for people.
    """
    hashes = [hash(last)]
    while came_from[hashes[-1]]:
        hashes.append(came_from[hashes[-1]])
    teller = _Teller(world)
    for following in hashes[-2::-1]:
        teller.go(following)
    teller.end()
    return f"# {what}\n\n" + teller.text()


class _Teller:
    """Follows the states, and notes what happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._state, order = world.initial()
        self._who: Sequence[int] = order  # the acceptor at each place
        self._events: list[_Event] = []
        self._names: dict[int, str] = {}  # of requests
        self._heard: dict[tuple[int, int, int], _Taken] = {}  # acceptor, request, reply
        self._count = [0] * len(world.config.calls)
        self._prepare()

    def _prepare(self) -> None:
        config = self._world.config
        versions = "version" if config.keep == 1 else "versions"
        header = f"{config.acceptors} acceptors, which keep {config.keep} {versions}"
        if config.fast:
            operations = "operation" if config.fast == 1 else "operations"
            header += f"; calls begin {config.fast} {operations} at ballot 0"
        self._events.append(header)
        strangers = iter(STRANGERS)
        names: dict[ProposalId, str] = {}
        for request, places in [*setup(config), *((each, []) for each in config.sent)]:
            if isinstance(request, Accept):
                (_, ver), ballot, (id_, value), append, _ = request
                who = names[id_] = next(strangers)
                what = f"proposes {(value or b'').decode()} for foo {ver} at ballot {ballot.n}"
                self._events.append(f"{who} {what}{' as an append' if append else ''}")
                self._names[self._world.number(request)] = f"{who}1"
            elif isinstance(request, Commit):
                who = names[request.id]
                self._events.append(f"{who} tells that it is chosen")
                self._names[self._world.number(request)] = f"{who}2"
            name = self._names[self._world.number(request)]
            self._events += [_Taken(k, name, matters=True) for k in places]

    # --- what happens ------------------------------------------------------------------------

    def go(self, following: int) -> None:
        """Go on to the state with that hash."""
        for step in self._world.steps(self._state):
            after, order = self._world.after(self._state, step)
            if hash(after) == following:
                self._tell(step)
                self._state = after
                self._who = [self._who[k] for k in order]
                return
        raise AssertionError("the same world always goes the same ways")

    def _tell(self, step: Step) -> None:
        call, machine, request, k = step
        columns: Sequence[int] = self._state[-self._world.config.acceptors :]
        if call != NOBODY:
            if self._state[call] == self._world.machines.new(call):
                self._events.append(f"{CALLS[call]} {words(self._world.config.calls[call])}")
            else:
                self._hear(call, next(p for p, h in self._paths(call) if self._leads(h, step)))
            self._name(call, request)
            columns = self._world.asked(columns, call, machine, request)
            for place in range(len(columns)):
                self._answers(place, columns[place])
        if k != NOBODY:
            self._take(columns[k], request, k)

    def _leads(self, heard: Heard | None, step: Step) -> bool:
        """Whether what comes of a reply is the step of the call."""
        _, machine, request, _ = step
        if machine != GONE:
            return bool(heard == Move(machine, request))
        return isinstance(heard, int) and self._world.machines.results[heard].commit == request

    def _name(self, call: int, request: int) -> None:
        self._count[call] += 1
        self._names[request] = f"{CALLS[call]}{self._count[call]}"
        # The same may have been asked before, and answers to that come too late.
        self._heard = {key: taken for key, taken in self._heard.items() if key[1] != request}

    def _take(self, column: int, request: int, k: int) -> None:
        """The acceptor at a place takes a request that changes it."""
        acceptors, columns = self._world.acceptors, self._world.columns
        live = columns.requests[request]
        assert live is not None
        _, reply = acceptors.handle(columns[column].acceptor, live)
        taken = _Taken(self._who[k], self._names[request], matters=True)
        self._events.append(taken)
        self._heard[self._who[k], request, 2 * reply] = taken
        self._answers(k, columns.take(column, request))

    def _answers(self, k: int, column: int) -> None:
        """What the acceptor at a place now tells the calls beside: requests that come again."""
        _, asked, _, told = self._world.columns[column]
        for request, replies in zip(asked, told, strict=True):
            for reply in self._world.columns.told[replies]:
                key = self._who[k], request, reply
                if key not in self._heard:
                    twin = (
                        self._heard.get((self._who[k], request, reply - 1)) if reply % 2 else None
                    )
                    self._heard[key] = twin or _Taken(self._who[k], self._names[request], False)
                    if twin is None:
                        self._events.append(self._heard[key])

    def _hear(self, call: int, path: _Path) -> None:
        request = self._world.asking(self._state, call)
        for place, reply in path:
            if (place, reply) == PAUSE_OVER:
                self._events.append(f"{CALLS[call]} goes on")
            else:
                taken = self._heard[self._who[place], request, reply]
                taken.matters = True
                self._events.append((CALLS[call], taken, " again" if reply % 2 else ""))

    def _paths(self, call: int) -> Iterator[tuple[_Path, Heard | None]]:
        """All that a call may hear, the shortest first, and what comes of it (None: an error)."""
        machines = self._world.machines
        told = self._world.told(self._state, call)
        waiting: deque[tuple[Hearing, _Path]] = deque([(Hearing(self._state[call], False, 0), [])])
        seen = set()
        while waiting:
            here, path = waiting.popleft()
            for next_ in machines.audible(here, told):
                way = [*path, next_]
                try:
                    heard = machines.hear(here, *next_)
                except WRONG:
                    yield way, None
                    continue
                yield way, heard
                if isinstance(heard, Hearing) and heard not in seen:
                    seen.add(heard)
                    waiting.append((heard, way))

    # --- the end -----------------------------------------------------------------------------

    def end(self) -> None:
        """Tell what is wrong in this state, or with what may come next."""
        calls = [
            call
            for call in range(len(self._count))
            if self._state[call] not in {GONE, self._world.machines.new(call)}
        ]
        for call in calls:
            for path, heard in self._paths(call):
                if heard is None or (isinstance(heard, int) and self._is_wrong(call, heard)):
                    return self._hear(call, path)
        for step in self._world.steps(self._state):
            try:
                self._world.after(self._state, step)
            except WRONG:
                return self._tell_wrong(step)
        for call in calls:
            self._leave_alone(call)
        return None

    def _tell_wrong(self, step: Step) -> None:
        """Tell of the step, and of what an acceptor cannot take after it."""
        with suppress(*WRONG):
            self._tell(step)
        columns, acceptors = self._world.columns, self._world.acceptors
        if acceptors.failed is None:
            return
        state, request = acceptors.failed
        now = [columns.acceptor[column] for column in self._state[-len(self._who) :]]
        place = step[3] if state not in now else now.index(state)
        name = self._names[self._world.number(request)]
        self._events.append(_Taken(self._who[place], name, matters=True))

    def _is_wrong(self, call: int, result: int) -> bool:
        known, chosen = self._world.knowledge(self._state, call)
        try:
            self._world.judge(call, result, known, chosen)
        except WRONG:
            return True
        return False

    def _leave_alone(self, call: int) -> None:
        """All acceptors answer a call, and only it: that it never ends shows after a while."""
        world = self._world
        request = world.asking(self._state, call)
        here = Hearing(self._state[call], False, 0)
        columns = self._state[-world.config.acceptors :]
        acceptors = [world.columns.acceptor[column] for column in columns]
        for _ in range(ROUNDS):
            live = world.columns.requests[request]
            assert live is not None
            heard: Heard = here
            for k, acceptor in enumerate(acceptors):
                acceptors[k], reply = world.acceptors.handle(acceptor, live)
                taken = _Taken(self._who[k], self._names[request], matters=True)
                again = isinstance(world.acceptors.replies[reply], Compacted)
                self._events += [taken, (CALLS[call], taken, " again" if again else "")]
                try:
                    heard = world.machines.hear(here, k, 2 * reply + again)
                except WRONG:
                    return
                if not isinstance(heard, Hearing):
                    break
                here = heard
            if isinstance(heard, Hearing):
                self._events.append(f"{CALLS[call]} goes on")
                heard = world.machines.hear(here, *PAUSE_OVER)
            if not isinstance(heard, Move):
                return
            here = Hearing(heard.machine, False, 0)
            request = heard.request
            self._name(call, request)

    # --- the script --------------------------------------------------------------------------

    def text(self) -> str:
        """The script, without the replies that nobody heard."""
        lines = []
        numbers: dict[int, int] = {}
        for event in self._events:
            match event:
                case str():
                    lines.append(event)
                case _Taken(acceptor, request, matters):
                    if matters:
                        numbers[id(event)] = len(numbers) + 1
                        lines.append(f"{ACCEPTORS[acceptor]} takes {request}")
                case call, taken, again:
                    lines.append(f"{call} hears {numbers[id(taken)]}{again}")
        return "\n".join(lines) + "\n"
