"""What was used recently, in memory: two lots, and the older one goes when the newer is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """A bounded cache, in which looking at something keeps it, at the cost of a dict.

    Args:
        limit: the most that it holds, in bytes.
        size: what a value takes, in bytes.
    """

    __slots__ = ("_half", "_newer", "_older", "_size", "_size_of")

    def __init__(self, limit: int, size: Callable[[ValueT], int]) -> None:
        self._half = limit // 2
        self._size_of = size
        self._newer: dict[KeyT, ValueT] = {}
        self._older: dict[KeyT, ValueT] = {}
        self._size = 0  # of the newer lot

    def get(self, key: KeyT) -> ValueT | None:
        """What was put there, if it is still here."""
        value = self._newer.get(key)
        if value is None:
            value = self._older.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: KeyT, value: ValueT) -> None:
        """Keep a value."""
        before = self._newer.get(key)
        self._size += self._size_of(value) - (0 if before is None else self._size_of(before))
        self._newer[key] = value
        if self._size > self._half:
            self._older, self._newer, self._size = self._newer, {}, 0

    def forget(self, key: KeyT) -> None:
        """Let go what was put there."""
        before = self._newer.pop(key, None)
        if before is not None:
            self._size -= self._size_of(before)
        self._older.pop(key, None)
