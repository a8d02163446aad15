"""Values and the small integers that stand for them: a state is a tuple of such numbers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class Kept(Generic[ValueT]):
    """Values, numbered in the order in which they came."""

    def __init__(self) -> None:
        self.values: list[ValueT] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, value: ValueT) -> int:
        """The number of a value; ``key`` is equal for equal values, and only for these."""
        number = self._numbers.setdefault(key, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def __getitem__(self, number: int) -> ValueT:
        return self.values[number]
