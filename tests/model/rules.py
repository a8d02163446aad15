"""What a call may return: agreement, validity, and the rules R6, R7 and R9."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from paxoskv.paxos.messages import Compacted, Proposal
from paxoskv.paxos.operation import Latest

from .calls import Call, Get, GetLatest, Put, PutNext, Set, Update, computed
from .violation import Violation


def known_before(call: Call, chosen: AbstractSet[tuple[int, Proposal]]) -> int:
    """What counts of all that was chosen when a call began.

    For a read of one version: whether (1) or not (0) it was; for what is about the latest:
    the version after the latest; for the others nothing does.
    """
    match call:
        case Get(ver):
            return int(any(each == ver for each, _ in chosen))
        case GetLatest() | Put() | PutNext() | Update():
            return max((ver + 1 for ver, _ in chosen), default=0)
        case _:
            return 0


def check_once(proposal: Proposal, chosen: AbstractSet[tuple[int, Proposal]]) -> None:
    """Judge a choice: no two proposals of one call are chosen.

    Raises:
        Violation: they are.
    """
    call = proposal.id.proposer[0]
    if call and sum(each.id.proposer[0] == call for _, each in chosen) > 1:
        raise Violation(f"R7: what call {call - 1} wrote is chosen at two versions")


def check_denied(
    call: int, denied: AbstractSet[Proposal], chosen: AbstractSet[tuple[int, Proposal]]
) -> None:
    """Judge what a call says that gives up: that something is not written, and never will be.

    Raises:
        Violation: it is.
    """
    if any(proposal in denied for _, proposal in chosen):
        raise Violation(f"R7: call {call} said that nothing was written, and it was")


def check_result(
    call: int, what: Call, result: Any, before: int, chosen: Mapping[int, Proposal]
) -> None:
    """Judge what a call returns.

    Args:
        call: its number.
        what: the call.
        result: what it returns.
        before: what :func:`known_before` said when it began.
        chosen: the versions that are chosen by now.

    Raises:
        Violation: it must not return that.
    """
    match what, result:
        case ((Set(ver) | Get(ver)), Proposal()):
            if chosen.get(ver) != result:
                raise Violation(f"call {call} returned what is not chosen")
        case Get(ver), None:
            if before:
                raise Violation(f"R6: call {call} missed version {ver}, chosen before it began")
        case ((Set(ver) | Get(ver)), Compacted(latest, proposal)):
            if chosen.get(latest) != proposal or latest <= ver:
                raise Violation(f"R9: call {call} was told a latest version that is none")
        case ((GetLatest() | Put() | PutNext() | Update()), Latest(ver, proposal)):
            if chosen.get(ver) != proposal:
                raise Violation(f"call {call} returned what is not chosen")
            if isinstance(what, GetLatest) and ver < before - 1:
                raise Violation(f"R6: a get returned {ver}, and {before - 1} was chosen before")
            if isinstance(what, Put | PutNext | Update) and ver < before:
                raise Violation(f"R7: a put returned {ver}, and {before - 1} was chosen before")
            if isinstance(what, Update) and proposal.value != computed(what, chosen.get(ver - 1)):
                raise Violation(f"call {call} did not compute its value from the one before")
            if isinstance(what, Put | PutNext | Update) and proposal.id.proposer[0] != call + 1:
                raise Violation(f"R7: call {call} took another's proposal for its own")
        case GetLatest(), None:
            if before:
                raise Violation(f"R6: a get found nothing, and {before - 1} was chosen before")
        case ((Put() | PutNext() | Update()), None):
            pass  # it cannot tell
        case _:
            raise Violation(f"call {call} returned {result}")
