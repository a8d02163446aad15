"""What happened in a run, in order: its lines are the same whenever the seed is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from paxoskv.errors import PaxosKVError
from paxoskv.wire import FrameBuffer, decode_greeting, decode_requests, open_replies

from ..frames import replies_in
from .clock import Clock


class Trace:
    """The events of one run; their text is made only when somebody wants to read it.

    Args:
        clock: of the run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: list[tuple[float, str, str, bytes | str]] = []

    def __len__(self) -> int:
        return len(self._events)

    def note(self, who: str, what: str, detail: object = "") -> None:
        """Something happened."""
        shown = detail if isinstance(detail, bytes) else str(detail)
        self._events.append((self._clock.now, who, what, shown))

    def lines(self) -> Iterator[str]:
        """All events, one a line, with the bytes that were sent."""
        for time, who, what, detail in self._events:
            shown = detail.hex() if isinstance(detail, bytes) else detail
            yield f"{time:.9f} {who} {what} {shown}\n"

    def digest(self) -> str:
        """A hash of all lines."""
        digest = hashlib.sha256()
        for line in self.lines():
            digest.update(line.encode())
        return digest.hexdigest()

    def story(self) -> Iterator[str]:
        """All events, one a line, with the messages in what was sent."""
        for time, who, what, detail in self._events:
            shown = _messages(detail) if isinstance(detail, bytes) else detail
            yield f"{time:12.6f} {who:<9} {what} {shown}\n"


def _messages(data: bytes) -> str:
    """The messages in what is mostly a whole number of frames."""
    try:
        shown = [_message(payload) for payload in FrameBuffer().feed(data)]
    except PaxosKVError:
        shown = []
    return "; ".join(shown) or f"{len(data)} bytes of a frame"


def _replies(payload: bytes) -> object:
    first, count, encoded = open_replies(payload)
    return (first, f"{count} votes") if encoded is None else replies_in(payload)


_DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_requests,
    _replies,
    decode_greeting,
)


def _message(payload: bytes) -> str:
    for decode in _DECODERS:
        try:
            decoded = decode(payload)
        except PaxosKVError:
            continue
        return str(decoded)
    return f"{payload!r}"
