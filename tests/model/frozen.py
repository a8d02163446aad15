"""Live objects as values: frozen to be compared, copied to be changed, with acceptors renamed.

The objects are the machines of `paxoskv.paxos`. What they hold are values, which never change
(messages are tuples); dicts and sets of values; and other objects.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Final

from paxoskv.paxos.quorums import Quorums

_ATOMS: Final = (type(None), bool, int, str, bytes, Enum, Quorums)
"""What is a value, beside tuples of values; a world has one ``Quorums``."""


@cache
def _is_value(kind: type) -> bool:
    return issubclass(kind, (*_ATOMS, tuple))


@cache
def _slots(kind: type) -> tuple[str, ...]:
    return tuple(name for each in kind.__mro__ for name in getattr(each, "__slots__", ()))


def freeze(thing: Any) -> Hashable:
    """A hashable value that is equal for two objects in the same state, and only for these.

    Named tuples of different types with the same items are equal to each other; what they are
    frozen to is not. Of what is in a tuple or in an object that need not be said: each place
    there has one type, or two that are never equal, as a vote and a proposal are.
    """
    kind = type(thing)
    if _is_value(kind):
        return (kind, thing) if isinstance(thing, tuple) else thing  # type: ignore[no-any-return]
    frozen: list[Hashable] = [kind]
    for value in _attributes(thing).values():
        if _is_value(type(value)):
            frozen.append(value)
        elif isinstance(value, dict):
            frozen.append(frozenset(value.items()))
        elif isinstance(value, set):
            frozen.append(frozenset(value))
        else:
            frozen.append(freeze(value))
    return tuple(frozen)


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


def copied(thing: Any) -> Any:
    """A copy that can be changed."""
    return _copy(thing, {})


def _copy(thing: Any, done: dict[int, Any]) -> Any:
    twin = done.get(id(thing))  # an object that is shared stays so
    if twin is None:
        twin = done[id(thing)] = object.__new__(type(thing))
        for name, value in _attributes(thing).items():
            if _is_value(type(value)):
                new = value
            elif isinstance(value, dict | set):
                new = value.copy()
            else:
                new = _copy(value, done)
            object.__setattr__(twin, name, new)
    return twin


def renamed(thing: Any, names: Mapping[bytes, bytes]) -> Any:
    """A copy in which acceptors have other names."""
    return _rename(copied(thing), names, set())


def _rename(thing: Any, names: Mapping[bytes, bytes], done: set[int]) -> Any:
    match thing:
        case bytes():
            return names.get(thing, thing)
        case tuple():
            items = [_rename(each, names, done) for each in thing]
            return type(thing)(*items) if hasattr(thing, "_fields") else tuple(items)
        case dict():
            return {
                _rename(key, names, done): _rename(value, names, done)
                for key, value in thing.items()
            }
        case set():
            return {_rename(each, names, done) for each in thing}
    if not _is_value(type(thing)) and id(thing) not in done:
        done.add(id(thing))
        for name, value in _attributes(thing).items():
            object.__setattr__(thing, name, _rename(value, names, done))
    return thing


def _attributes(thing: Any) -> dict[str, Any]:
    """What an object of ours holds, whether it has slots or not."""
    slots = _slots(type(thing))
    if not slots:
        return thing.__dict__  # type: ignore[no-any-return]
    held = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
    return held | getattr(thing, "__dict__", {})
