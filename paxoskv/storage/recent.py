"""What was used recently, in memory: two lots, and the older one goes when the newer is full."""

from __future__ import annotations

from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """A bounded cache, in which looking at something keeps it, at the cost of a dict.

    Args:
        limit: the most that it holds, in bytes.
    """

    __slots__ = ("_half", "_newer", "_older", "_size")

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._newer: dict[KeyT, tuple[ValueT, int]] = {}
        self._older: dict[KeyT, tuple[ValueT, int]] = {}
        self._size = 0  # of all that was put in the newer lot, in bytes

    def get(self, key: KeyT) -> ValueT | None:
        """What was put there, if it is still here."""
        kept = self._newer.get(key)
        if kept is None:
            kept = self._older.get(key)
            if kept is None:
                return None
            self.put(key, *kept)
        return kept[0]

    def put(self, key: KeyT, value: ValueT, size: int) -> None:
        """Keep a value that takes so many bytes; what was there before counts on, for a while."""
        self._newer[key] = value, size
        self._size += size
        if self._size > self._half:
            self._older, self._newer, self._size = self._newer, {}, 0

    def forget(self, key: KeyT) -> None:
        """Let go what was put there."""
        self._newer.pop(key, None)
        self._older.pop(key, None)
