"""Live objects as values: frozen to be compared, copied to be changed, with acceptors renamed."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from enum import Enum
from typing import Any


def freeze(thing: Any) -> Hashable:
    """A hashable value that is equal for two objects in the same state, and only for these.

    Named tuples of different types with the same items are equal to each other; what they are
    frozen to is not.
    """
    match thing:
        case None | bool() | int() | str() | bytes() | Enum():
            return thing
        case tuple():
            return (type(thing).__name__, *map(freeze, thing))
        case dict():
            return frozenset((freeze(key), freeze(value)) for key, value in thing.items())
        case set() | frozenset():
            return frozenset(map(freeze, thing))
        case _:
            return (type(thing).__name__, freeze(_attributes(thing)))


def renamed(thing: Any, names: Mapping[bytes, bytes]) -> Any:
    """A copy in which acceptors have other names."""
    return _rename(copy.deepcopy(thing), names, {})


def _rename(thing: Any, names: Mapping[bytes, bytes], done: dict[int, Any]) -> Any:
    match thing:
        case bytes():
            return names.get(thing, thing)
        case None | bool() | int() | str() | Enum():
            return thing
        case tuple() if hasattr(thing, "_fields"):
            return type(thing)(*(_rename(each, names, done) for each in thing))
        case tuple():
            return tuple(_rename(each, names, done) for each in thing)
        case dict():
            return {
                _rename(key, names, done): _rename(value, names, done)
                for key, value in thing.items()
            }
        case set():
            return {_rename(each, names, done) for each in thing}
    if id(thing) not in done:  # an object that is shared stays so
        done[id(thing)] = thing
        for name, value in _attributes(thing).items():
            setattr(thing, name, _rename(value, names, done))
    return thing


def _attributes(thing: Any) -> dict[str, Any]:
    """What an object of ours holds, whether it has slots or not."""
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
    return held | getattr(thing, "__dict__", {})
