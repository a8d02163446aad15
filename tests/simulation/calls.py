"""The calls that clients made, and how they ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

from paxoskv import Compacted, Unavailable, VersionTaken
from paxoskv import Entry as Told
from tests.linearizability.history import APPENDS, Entry, Operation, Outcome

from .trace import Trace

WRITES = APPENDS | {"set", "propose"}
"""The calls that may have written something when nobody knows how they ended."""


class Calls:
    """All calls of a run, in the order in which they began.

    Their times are numbers that everything has which happens, so that no two are the same.

    Args:
        trace: takes note of them.

    Attributes:
        order: where the numbers come from.
        all: the calls.
        bad: what no call may ever raise, for people.
        maybes: what those raised of which nobody knows whether they wrote.
        dropped: those of which nobody knows because others have written so much since.
    """

    def __init__(self, trace: Trace) -> None:
        self.order = count()
        self.all: list[Operation] = []
        self.bad: list[str] = []
        self.maybes: dict[tuple[str, int], Unavailable] = {}
        self.dropped: set[tuple[str, int]] = set()
        self._trace = trace

    def begin(
        self,
        client: str,
        name: str,
        key: str,
        ver: int | None = None,
        val: object = None,
        of: int | None = None,
    ) -> Operation:
        """Note that a call begins now."""
        began = next(self.order)
        call = Operation(client, began, name, key, began, ver, val, of)
        self.all.append(call)
        self._trace.note(client, "calls", call)
        return call

    async def make(
        self, call: Operation, function: Callable[[], Awaitable[Told | list[Told] | bool | None]]
    ) -> None:
        """Make a call that has begun, and note how it ended."""
        try:
            call.outcome, told = _understood(await function())
        except VersionTaken as error:
            call.outcome, told = Outcome.TAKEN, [error.entry]
        except Compacted as error:
            call.outcome, told = Outcome.COMPACTED, [error.latest]
        except Unavailable as error:
            told = [] if error.maybe is None else [error.maybe]
            call.outcome = Outcome.UNKNOWN if told else Outcome.FAILED
            if told and call.call in WRITES:
                self.maybes[call.client, call.id] = error
            if "later versions came about while" in str(error):
                self.dropped.add((call.client, call.id))
        except Exception as error:
            self.bad.append(f"{call} raised {error!r}")
            raise
        finally:
            call.ended = next(self.order)
        call.entries = [Entry(each.key, each.ver, each.val, each.deleted) for each in told]
        self._trace.note(call.client, "ended", call)


def _understood(result: Told | list[Told] | bool | None) -> tuple[Outcome, list[Told]]:
    match result:
        case Told():
            return Outcome.OK, [result]
        case list():
            return Outcome.OK, result
        case None | False:
            return Outcome.NONE, []
        case True:
            return Outcome.OK, []
    raise AssertionError(f"a call returned {result!r}")
