"""Good histories: clients of a sequential model, whose calls overlap at random."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import count
from random import Random

from .history import Entry, Event, Operation, Outcome, Recorder, operations

Steps = Generator[None, None, None]
"""A client at work; between two steps others may do theirs."""

KEY = "k"
CALLS = ["set", "propose", "get_ver", "get", "latest", "put", "update", "delete", "history"]


class Model:
    """One key, and clients that call it; each call looks, and later ends.

    Args:
        rng: draws who goes on, and what they call.
        gaps: whether there are ``set``s beyond the next version.
        calls: what they call.
    """

    def __init__(self, rng: Random, gaps: bool = True, calls: Sequence[str] = CALLS) -> None:
        self.rng = rng
        self.gaps = gaps
        self.calls = calls
        self.top = -1
        self.entries: dict[int, Entry] = {}
        self.events: list[Event] = []
        self.time = count()
        self.values = count(1)
        self.late: list[Entry] = []  # may be written at any time

    def run(self, clients: int, steps: int) -> list[Operation]:
        """What so many clients did in so many steps, and then a reader of everything."""
        at_work = [self.client(f"c{number}") for number in range(clients)]
        for _ in range(steps):
            next(self.rng.choice(at_work))
            if self.late and self.rng.random() < 0.2:
                self.write(self.late.pop())
        for _ in self.read_all():
            pass
        return operations(self.events)

    def recorder(self, client: str) -> Recorder:
        return Recorder(client, lambda: float(next(self.time)), self.events.append)

    def client(self, name: str) -> Steps:
        recorder = self.recorder(name)
        while True:
            call = self.rng.choice(self.calls)
            if call in {"set", "propose"}:
                yield from self.decide(recorder, call)
            elif call in {"put", "update", "delete"}:
                yield from self.append(recorder, call)
            else:
                yield from self.read(recorder, call)

    def read_all(self) -> Steps:
        recorder = self.recorder("reader")
        for ver in range(self.top + 2):
            operation = recorder.invoke("get", KEY, ver=ver)
            told = [self.entries[ver]] if ver in self.entries else []
            recorder.complete(operation, Outcome.OK if told else Outcome.NONE, *told)
            yield

    def some_version(self) -> int:
        ahead = 3 if self.gaps else 1
        return self.rng.randint(0, self.top + ahead)

    def write(self, entry: Entry) -> bool:
        """Choose an entry, if its version is free; whether it has this version now."""
        chosen = self.entries.setdefault(entry.ver, entry)
        self.top = max(self.top, entry.ver)
        return chosen == entry

    def read(self, recorder: Recorder, call: str) -> Steps:
        ver = self.some_version() if call == "get_ver" else None
        operation = recorder.invoke(call.removesuffix("_ver"), KEY, ver=ver)
        yield
        latest = self.entries.get(self.top)
        if ver is not None and ver < self.top and latest and self.rng.random() < 0.2:
            yield
            recorder.complete(operation, Outcome.COMPACTED, latest)
            return
        if call == "history":
            told = [self.entries[each] for each in sorted(self.entries)]
        else:
            told = [each for each in [latest if ver is None else self.entries.get(ver)] if each]
        if call == "get":
            told = [each for each in told if not each.deleted]
        yield
        is_ok = told or call == "history"
        recorder.complete(operation, Outcome.OK if is_ok else Outcome.NONE, *told)

    def decide(self, recorder: Recorder, call: str) -> Steps:
        entry = Entry(KEY, self.some_version(), self.rng.choice([next(self.values), "same"]))
        operation = recorder.invoke(call, KEY, ver=entry.ver, val=entry.val)
        yield
        if self.rng.random() < 0.2:
            yield from self.die(recorder, operation, entry)
            return
        is_own = self.write(entry)
        yield
        outcome = Outcome.OK if is_own or call == "propose" else Outcome.TAKEN
        recorder.complete(operation, outcome, self.entries[entry.ver])

    def append(self, recorder: Recorder, call: str) -> Steps:
        val = None if call == "delete" else next(self.values)
        operation = recorder.invoke(call, KEY, val=val if call == "put" else None)
        while True:
            yield
            ver = self.top + 1
            below = self.entries.get(ver - 1)
            if call == "delete" and (below is None or below.deleted):
                recorder.complete(operation, Outcome.NONE)
                return
            if call == "update":
                recorder.attempt(operation, None if below is None else below.val, val)
            yield
            entry = Entry(KEY, ver, val, deleted=call == "delete")
            if self.rng.random() < 0.2:
                yield from self.die(recorder, operation, entry)
                return
            if ver not in self.entries:
                self.write(entry)
                yield
                recorder.complete(operation, Outcome.OK, entry)
                return

    def die(self, recorder: Recorder, operation: int, entry: Entry) -> Steps:
        """End with an unknown outcome, or never, or with a failure; it is written later, or not."""
        what = self.rng.choice(["failed", "maybe", "unknown", "settled"])
        if what == "failed":
            recorder.complete(operation, Outcome.FAILED)
            return
        if entry.ver not in self.entries and self.rng.random() < 0.6:
            self.late.append(entry)
        if what != "unknown":
            recorder.complete(operation, Outcome.UNKNOWN, entry)
        yield
        if what == "settled" and entry.val != "same":
            settle = recorder.invoke("settle", KEY, ver=entry.ver, of=operation)
            yield
            # Tombstones are equal: if this one is still to be written, then by this call.
            self.write(entry)
            yield
            if self.entries[entry.ver] is entry:
                recorder.complete(settle, Outcome.OK, entry)
            else:
                recorder.complete(settle, Outcome.NONE)
