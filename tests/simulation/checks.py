"""What the calls returned, held against what one saw who sees all disks.

The observer knows when each proposal was chosen: at the moment when the last vote of its quorum
was on disk. So these checks of the rules R6 and R7 are sharper than a history of calls allows,
which knows of a choice only what somebody was told.
"""

from __future__ import annotations

from collections.abc import Iterator

from paxoskv.paxos.messages import Instance
from paxoskv.values import to_entry
from tests.linearizability.history import APPENDS, Entry, Operation, Outcome, token, token_of

from .observer import Chosen, Observer

READS = {"get", "latest"}


def check_calls(calls: list[Operation], observer: Observer) -> Iterator[str]:
    """What is wrong with the calls, for people."""
    by_key: dict[str, list[Chosen]] = {}
    for chosen in observer.chosen.values():
        by_key.setdefault(chosen.instance.key, []).append(chosen)
    for call in calls:
        for problem in _check(call, observer, by_key.get(call.key, [])):
            yield f"{problem}: {call}"


def _check(call: Operation, observer: Observer, chosen: list[Chosen]) -> Iterator[str]:
    if call.outcome in (Outcome.UNKNOWN, Outcome.FAILED):
        return
    for told in call.entries:
        found = observer.chosen.get(Instance(told.key, told.ver))
        if found is None or found.order > call.ended:
            yield f"version {told.ver} was told before it was chosen"
        elif token_of(_entry(found)) != token_of(told):
            yield f"version {told.ver} holds {found.proposal}"
    if call.outcome not in (Outcome.OK, Outcome.NONE):
        return
    before = [each for each in chosen if each.order < call.began]
    highest = max(before, key=lambda each: each.instance.ver, default=None)
    entry = call.entries[0] if call.entries else None
    if call.call == "get" and call.ver is not None:
        if entry is None and any(each.instance.ver == call.ver for each in before):
            yield "it did not see what was chosen before it began"
    elif highest is None:
        return
    elif call.call in READS and not _is_fresh(call, entry, highest, chosen):
        yield f"older than {highest}, which was chosen before it began"
    elif call.call in APPENDS and entry is not None:
        if highest.instance.ver >= entry.ver:
            yield f"not newer than {highest}, which was chosen before it began"
        yield from _check_append(call, entry, observer)
    elif call.call == "history" and (entry is None or call.entries[-1].ver < highest.instance.ver):
        yield f"it lacks {highest}, which was chosen before it began"


def _is_fresh(call: Operation, entry: Entry | None, highest: Chosen, chosen: list[Chosen]) -> bool:
    """Whether it shows nothing older; a tombstone hides behind the None of a ``get``."""
    if entry is not None:
        return entry.ver >= highest.instance.ver
    return call.call == "get" and any(
        each.proposal.value is None
        and each.order < call.ended
        and each.instance >= highest.instance
        for each in chosen
    )


def _check_append(call: Operation, entry: Entry, observer: Observer) -> Iterator[str]:
    """It comes right after another version, and an update is made from that one's value."""
    previous: object = None
    if entry.ver > 0:
        found = observer.chosen.get(Instance(entry.key, entry.ver - 1))
        if found is None or found.order > call.ended:
            yield "nothing was chosen below it"
            return
        previous = _entry(found).val
    if call.call == "update" and token(call.attempts[-1].base) != token(previous):
        yield f"it was not made from {previous!r}, which is below it"


def _entry(chosen: Chosen) -> Entry:
    told = to_entry(chosen.instance, chosen.proposal)
    return Entry(told.key, told.ver, told.val, told.deleted)
