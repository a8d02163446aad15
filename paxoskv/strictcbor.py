"""CBOR from strangers: decode exactly one item, and nothing that was not asked for.

Decoding must cost no more than the bytes that came, and cbor2, however strict, leaves two
ways open. A frame of tiny items grows to 70 times its size. And the hashes of all but str
and bytes are no secret, so that a stranger can choose the keys of a map to collide, even
if they are small integers (a dict probes by the lowest bits first), and then building the
map takes quadratic time.

So a scan goes first, from head to head of the items, which builds nothing: it counts the
items and looks at the keys. It is Python, and left out where it could find nothing: bytes
no more than the allowed items hold no more items, and where str and bytes are the only
keys, cbor2 refuses others before it hashes them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from math import isnan
from typing import Any, Final, NoReturn

import cbor2

from .errors import ProtocolError
from .limits import MAX_ENVELOPE_ITEMS


class AllowedTags(dict[int, Callable[[Any, bool], Any]]):
    """The decoders of tags as cbor2 takes them: all refused but for the given ones."""

    def __init__(self, *allowed: int) -> None:
        super().__init__()
        self._allowed = frozenset(allowed)

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in self._allowed:
            raise KeyError(tag)  # cbor2 falls back to its own decoder

        def refuse(_value: Any, _immutable: bool) -> NoReturn:
            raise ValueError(f"CBOR tag {tag} is not allowed here")

        return refuse


NO_TAGS: Final = AllowedTags()


def decode_one(
    data: bytes,
    tags: AllowedTags,
    max_depth: int,
    max_items: int = MAX_ENVELOPE_ITEMS,
    max_weak_keys: int = 0,
) -> Any:
    """Decode bytes that are one CBOR item, whole.

    Args:
        data: the bytes.
        tags: the tags that may occur.
        max_depth: how deeply arrays and maps may be nested (one deeper, if not scanned).
        max_items: how many items there may be, arrays and maps and what is in them.
        max_weak_keys: the largest map whose keys may be other than str and bytes: any
            scalar but NaN and integers beyond 64 bits. If it is not 0, the only simple
            values that may occur are False, True and None.

    Raises:
        ProtocolError: they are anything else; the message says what was wrong.
    """
    if len(data) > max_items or (max_weak_keys and data[:1] >= _FIRST_CONTAINER):
        _scan(data, max_depth, max_items, max_weak_keys)
    try:
        if data and _is_scalar(data):
            return cbor2.loads(data)
        decoder = cbor2.CBORDecoder(
            BytesIO(data),
            semantic_decoders=tags,
            max_depth=max_depth + 1,  # a tag counts as one
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=not max_weak_keys,
        )
        item = decoder.decode()
    except cbor2.CBORDecodeError as error:
        reason = error if error.__cause__ is None else error.__cause__
        raise ProtocolError(f"bad CBOR: {reason}") from error
    try:
        decoder.read(1)
    except cbor2.CBORDecodeEOF:
        return item
    raise ProtocolError("bad CBOR: more bytes follow the item")


UNSIGNED: Final = 0
ARRAY: Final = 4


def read_head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """Read the head of an item that must be of this major type.

    Returns:
        Its argument (the integer, or how many items the array has), and where the head ends.

    Raises:
        ProtocolError: no such item begins there.
    """
    info = data[at] - (major << 5) if at < len(data) else -1
    if 0 <= info < 24:
        return info, at + 1
    end = at + 1 + (1 << info - 24) if 24 <= info < 28 else 0
    if not at < end <= len(data):
        raise ProtocolError(f"bad CBOR: expected an item of major type {major}")
    return int.from_bytes(data[at + 1 : end]), end


def _is_scalar(data: bytes) -> bool:
    """Whether this is one number, string or the like, and no more, as most values are."""
    head = data[0]
    if head in _MIDDLE_STRINGS:
        return len(data) > 1 and len(data) == 2 + data[1]
    return len(data) == _SIZES[head]


_MIDDLE_STRINGS: Final = 0x58, 0x78  # of up to 255 bytes
_FIRST_CONTAINER: Final = b"\x80"  # below are the heads of integers and strings

# How many bytes an item has, by its first one; 0 where there is more to it.
_SIZES: Final = bytearray(256)
_SIZES[0x00:0x1C] = _SIZES[0x20:0x3C] = bytes([1] * 24 + [2, 3, 5, 9])  # integers
_SIZES[0x40:0x58] = _SIZES[0x60:0x78] = bytes(range(1, 25))  # short strings
_SIZES[0xF4:0xF7] = b"\1\1\1"  # False, True, None
_SIZES[0xF9:0xFC] = b"\3\5\x09"  # floats


def _scan(data: bytes, max_depth: int, max_items: int, max_weak_keys: int) -> None:
    """Refuse what would cost too much to decode, and leave the rest to cbor2.

    A tag counts as an item, and then stands for what it marks.
    """
    sizes = _SIZES
    at = 0
    items = max_items - 1  # that may yet be announced
    left = 1  # to come in this container; in a map, a key comes next when they are even
    is_map = False
    weak = True  # whether its keys may be other than str and bytes
    outer: list[tuple[int, bool, bool]] = []  # the same of the containers around it
    try:
        while True:
            while left:
                head = data[at]
                if is_map and not left & 1 and not 0x40 <= head < 0x80:
                    _check_weak_key(data, at, weak)
                if size := sizes[head]:
                    at += size
                    left -= 1
                    continue
                major, info = head >> 5, head & 31
                if info > 27 or major == 7:
                    raise ProtocolError(f"bad CBOR: no item begins with {head:#x} here")
                at += 1
                if info < 24:
                    argument = info
                else:
                    end = at + (1 << info - 24)
                    argument = int.from_bytes(data[at:end])
                    at = end
                if major == 6:
                    items -= 1
                elif major < 4:
                    at = min(at + argument, len(data))  # what is beyond may be no index at all
                    left -= 1
                else:
                    outer.append((left - 1, is_map, weak))
                    is_map = major == 5
                    weak = argument <= max_weak_keys
                    left = 2 * argument if is_map else argument
                    items -= left
                    if len(outer) > max_depth:
                        raise ProtocolError(f"bad CBOR: nested more than {max_depth} deep")
                if items < 0:
                    raise ProtocolError(f"bad CBOR: more than {max_items} items")
            if not outer:
                return
            left, is_map, weak = outer.pop()
    except (IndexError, struct.error):
        raise ProtocolError("bad CBOR: it ends too soon") from None


def _check_weak_key(data: bytes, at: int, weak: bool) -> None:
    """Refuse a key, neither str nor bytes, that cannot be one."""
    head = data[at]
    if not weak:
        raise ProtocolError("bad CBOR: a map so large has no keys but str and bytes")
    if 0x80 <= head < 0xE0 and head != _TAG_0:
        raise ProtocolError("bad CBOR: arrays, maps and integers beyond 64 bits are no keys")
    if head in _FLOATS and isnan(*struct.unpack_from(_FLOATS[head], data, at + 1)):
        raise ProtocolError("bad CBOR: NaN is no key")


_TAG_0: Final = 0xC0  # a datetime
_FLOATS: Final = {0xF9: ">e", 0xFA: ">f", 0xFB: ">d"}
