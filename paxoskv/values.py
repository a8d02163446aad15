"""Users' values: what they may be, and how they become bytes.

A value travels and is stored as its canonical CBOR (RFC 8949, section 4.2), which only
clients look into. Two values are the same when these bytes are: ``1``, ``True`` and
``1.0`` are three values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from datetime import datetime
from itertools import chain
from math import isnan
from reprlib import repr as shortened
from typing import Any, Final

import cbor2

from .entry import Entry
from .errors import ProtocolError, TooLarge
from .limits import (
    MAX_ENCODED_VALUE_BYTES,
    MAX_VALUE_BYTES,
    MAX_VALUE_DEPTH,
    MAX_WEAK_KEYS,
)
from .paxos.messages import Instance, Proposal
from .strictcbor import AllowedTags, decode_one


def to_entry(instance: Instance, proposal: Proposal) -> Entry:
    """The entry of an instance with this proposal.

    Raises:
        ProtocolError: its value is none that :func:`encode_value` makes.
    """
    if proposal.value is None:
        return Entry(*instance, None, deleted=True)
    try:
        return Entry(*instance, decode_value(proposal.value))
    except ProtocolError as error:
        raise ProtocolError(f"{instance.key!r} version {instance.ver}: {error}") from None


def encode_value(value: object) -> bytes:
    """The canonical CBOR of a value, which will be read back equal.

    Raises:
        TypeError: it holds what CBOR cannot carry, or would give back changed.
        ValueError: it holds a naive datetime, text that is not Unicode, or a dict whose
            keys cannot be read again safely, or is nested more than ``MAX_VALUE_DEPTH``
            deep.
        TooLarge: it is larger than ``MAX_VALUE_BYTES``.
    """
    doubtful = type(value) not in PLAIN and _Check().check(value, "the value", MAX_VALUE_DEPTH)
    try:
        data = cbor2.dumps(value, canonical=True)
        if doubtful:
            decode_value(data)
    except UnicodeEncodeError:
        raise ValueError("the value holds a str that is not valid Unicode") from None
    except ProtocolError as error:
        raise ValueError(f"the value could not be read again: {error}") from None
    if len(data) > MAX_ENCODED_VALUE_BYTES:
        raise TooLarge(f"a value of {len(data)} bytes is over the limit of {MAX_VALUE_BYTES}")
    return data


def decode_value(data: bytes) -> Any:
    """The value that these bytes encode.

    Raises:
        ProtocolError: they are no value that :func:`encode_value` makes.
    """
    return decode_one(data, _VALUE_TAGS, MAX_VALUE_DEPTH, MAX_ENCODED_VALUE_BYTES, MAX_WEAK_KEYS)


PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
"""The types of values that hold no others, and that nobody can change."""

_VALUE_TAGS: Final = AllowedTags(0, 2, 3)  # datetimes, and integers beyond 64 bits


class _Check:
    """Refuses what would not be read back equal.

    Before cbor2 sees the value, for it recurses without a limit of its own, and knows no
    limit for lists that hold the same list, or string, many times over.
    """

    def __init__(self) -> None:
        self._left = MAX_ENCODED_VALUE_BYTES  # bytes that the value may yet take, at least

    def check(self, value: object, where: str, depth: int) -> bool:
        """Check a part of a value.

        Args:
            value: the part.
            where: it is, for people.
            depth: how many containers may follow.

        Returns:
            Whether that is not enough, for a container of a type of its own may show itself
            differently each time.
        """
        doubtful = False
        match value:
            case None | bool() | int() | float() | str() | bytes() | bytearray():
                pass
            case datetime():
                _check_datetime(value, where)
            case list() | dict() if depth == 0:
                raise ValueError(f"the value is nested more than {MAX_VALUE_DEPTH} deep")
            case list():
                doubtful = type(value) is not list
                self._count(value, value)
                for index, item in enumerate(value):
                    if type(item) not in PLAIN:
                        doubtful |= self.check(item, f"{where}[{index}]", depth - 1)
            case dict():
                doubtful = type(value) is not dict
                self._count(value, chain(value, value.values()))
                for key, item in value.items():
                    if type(key) is not str:
                        self._check_key(key, where, len(value))
                    if type(item) not in PLAIN:
                        doubtful |= self.check(item, f"{where}[{shortened(key)}]", depth - 1)
            case _:
                raise TypeError(
                    f"{where} is a {type(value).__name__}, which would not come back as it is; "
                    "a value is made of None, bool, int, float, str, bytes, list, dict and "
                    "datetime with a time zone"
                )
        return doubtful

    def _count(self, container: Sized, parts: Iterable[object]) -> None:
        """Each item takes a byte at least, and more where it is long."""
        self._left -= len(container)
        for part in parts:
            if isinstance(part, str | bytes | bytearray):
                self._left -= len(part)
            elif isinstance(part, int):
                self._left -= part.bit_length() // 8
        if self._left < 0:
            raise TooLarge(f"a value of so many items is over the limit of {MAX_VALUE_BYTES} bytes")

    def _check_key(self, key: object, where: str, size: int) -> None:
        """The rules of :mod:`.strictcbor` for the keys of maps."""
        match key:
            case str() | bytes():
                pass
            case _ if size > MAX_WEAK_KEYS:
                raise ValueError(
                    f"{where} has a key of type {type(key).__name__}; "
                    f"in a dict of more than {MAX_WEAK_KEYS} items all keys are str or bytes"
                )
            case int() if not -(2**64) <= key < 2**64:
                raise ValueError(f"{where} has an int beyond 64 bits for a key")
            case float() if isnan(key):
                raise ValueError(f"{where} has NaN for a key, which equals no other")
            case _:
                self.check(key, f"the key {shortened(key)} of {where}", 0)


def _check_datetime(value: datetime, where: str) -> None:
    if value.utcoffset() is None:
        raise ValueError(f"{where} is a datetime without a time zone; give it one")
    if type(value) is not datetime:
        raise TypeError(f"{where} is a {type(value).__name__}; make it a plain datetime")
    try:
        again = decode_value(cbor2.dumps(value))
    except ProtocolError:
        again = None
    if again != value:
        raise ValueError(
            f"{where} is a datetime that would come back changed; "
            "convert it with astimezone(timezone.utc)"
        )
