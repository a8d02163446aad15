"""What was used recently, in memory: two lots, and the older one goes when the newer is full."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What knows how many bytes it takes, roughly."""

    size: int


KeyT = TypeVar("KeyT")
SizedT = TypeVar("SizedT", bound=Sized)


class Recent(Generic[KeyT, SizedT]):
    """A bounded cache, in which looking at something keeps it, at the cost of a dict.

    Args:
        limit: the most that it holds, in bytes.
    """

    __slots__ = ("_half", "_newer", "_older", "_size")

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._newer: dict[KeyT, SizedT] = {}
        self._older: dict[KeyT, SizedT] = {}
        self._size = 0  # of all that was put in the newer lot, in bytes

    def __len__(self) -> int:
        """How much it holds; what is in both lots counts twice."""
        return len(self._newer) + len(self._older)

    def get(self, key: KeyT) -> SizedT | None:
        """What was put there, if it is still here."""
        kept = self._newer.get(key)
        if kept is None:
            kept = self._older.get(key)
            if kept is not None:
                self.put(key, kept)
        return kept

    def put(self, key: KeyT, value: SizedT) -> None:
        """Keep a value."""
        self._newer[key] = value
        self.grew(value.size)

    def grew(self, size: int) -> None:
        """Something that is kept takes so many bytes more, or less, than when it was put."""
        self._size += size
        if self._size < 0:  # what is less may have counted in the older lot
            self._size = 0
        elif self._size > self._half:
            self._older, self._newer, self._size = self._newer, {}, 0
