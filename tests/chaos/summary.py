"""What came of a run, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.linearizability.history import APPENDS, Operation, Outcome

from .run import Result


def summary(result: Result) -> Iterator[str]:
    """Lines that say how many calls ended how, what was done to them, and how long none could."""
    history, faults = result.history, result.faults
    kinds = Counter(
        (_name(operation), operation.outcome if operation.ended < float("inf") else "killed")
        for operation in history
    )
    outcomes = [*Outcome, "killed"]
    yield f"{'':10}" + "".join(f"{each:>10}" for each in outcomes)
    for call in sorted({call for call, _ in kinds}):
        yield f"{call:10}" + "".join(f"{kinds[call, each] or '':>10}" for each in outcomes)
    yield f"{len(history)} calls on {len({each.key for each in history})} keys"
    yield "faults: " + ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
    yield f"longest time between two writes done: {longest_gap(history):.2f} s"
    yield f"from the healing to the last goodbye: {result.recovery:.2f} s"


def longest_gap(history: list[Operation]) -> float:
    """The longest time in which no write was done."""
    times = sorted(
        operation.ended
        for operation in history
        if operation.outcome is Outcome.OK and operation.call in {"set", "propose", *APPENDS}
    )
    return max((second - first for first, second in pairwise(times)), default=0.0)


def _name(operation: Operation) -> str:
    has_version = operation.call == "get" and operation.ver is not None
    return "get ver" if has_version else operation.call
