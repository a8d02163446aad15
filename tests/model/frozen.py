"""Live objects as values: frozen to be compared, copied to be changed, with acceptors renamed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Final

from paxoskv.paxos.quorums import Quorums

_ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes, Quorums})
"""What is never changed; a world has one ``Quorums``."""

_NOBODY: Final[Mapping[bytes, bytes]] = {}


def freeze(thing: Any) -> Hashable:
    """A hashable value that is equal for two objects in the same state, and only for these.

    Named tuples of different types with the same items are equal to each other; what they are
    frozen to is not. Of the tuples in a tuple that need not be said: each place in a message
    has one type, or two that are never equal, as a vote and a proposal are.
    """
    kind = type(thing)
    if kind in _ATOMS:
        return thing  # type: ignore[no-any-return]
    if isinstance(thing, tuple):
        return kind, thing
    if kind is dict:
        return frozenset([(key, freeze(value)) for key, value in thing.items()])
    if kind is set:
        return frozenset(thing)
    if isinstance(thing, Enum):
        return thing
    return kind, *[freeze(value) for value in _attributes(thing).values()]


def marked(frozen: Hashable, name: bytes, others: frozenset[bytes]) -> Hashable:
    """What is frozen, as one acceptor may see it: "me" and "them" instead of the names."""
    match frozen:
        case bytes():
            return "me" if frozen == name else "them" if frozen in others else frozen
        case tuple():
            return tuple([marked(each, name, others) for each in frozen])
        case frozenset():
            return frozenset([marked(each, name, others) for each in frozen])
        case _:
            return frozen


def copied(thing: Any, names: Mapping[bytes, bytes] = _NOBODY) -> Any:
    """A copy that can be changed, in which acceptors may have other names."""
    return _copy(thing, names, {})


def _copy(thing: Any, names: Mapping[bytes, bytes], done: dict[int, Any]) -> Any:
    kind = type(thing)
    if kind is bytes:
        return names.get(thing, thing)
    if kind in _ATOMS:
        return thing
    if isinstance(thing, tuple):
        if not names:
            return thing
        items = [_copy(each, names, done) for each in thing]
        return kind(*items) if hasattr(thing, "_fields") else tuple(items)
    if kind is dict:
        return {_copy(key, names, done): _copy(value, names, done) for key, value in thing.items()}
    if kind is set:
        return {_copy(each, names, done) for each in thing}
    if isinstance(thing, Enum):
        return thing
    if id(thing) not in done:  # an object that is shared stays so
        twin = done[id(thing)] = object.__new__(kind)
        for name, value in _attributes(thing).items():
            object.__setattr__(twin, name, _copy(value, names, done))
    return done[id(thing)]


def _attributes(thing: Any) -> dict[str, Any]:
    """What an object of ours holds, whether it has slots or not."""
    slots = _slots(type(thing))
    if not slots:
        return thing.__dict__  # type: ignore[no-any-return]
    held = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
    return held | getattr(thing, "__dict__", {})


@cache
def _slots(kind: type) -> list[str]:
    return [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]
