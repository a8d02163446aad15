"""CBOR from strangers: decode exactly one item, and nothing that was not asked for.

cbor2 by itself lets pass what no message of ours has: bytes after the item, items of
indefinite length, repeated keys in a map, and every tag that it knows, among them
big integers in place of integers, shared references and the self-describing tag.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, NoReturn

import cbor2

from .errors import ProtocolError


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


NO_TAGS = AllowedTags()


def decode_one(data: bytes, tags: AllowedTags, max_depth: int) -> Any:
    """Decode bytes that are one CBOR item, whole.

    Args:
        data: the bytes.
        tags: the tags that may occur.
        max_depth: how deeply containers may be nested.

    Raises:
        ProtocolError: they are anything else; the message says what was wrong.
    """
    decoder = cbor2.CBORDecoder(
        BytesIO(data),
        semantic_decoders=tags,
        max_depth=max_depth,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    try:
        item = decoder.decode()
    except cbor2.CBORDecodeError as error:
        reason = error if error.__cause__ is None else error.__cause__
        raise ProtocolError(f"bad CBOR: {reason}") from error
    try:
        decoder.read(1)
    except cbor2.CBORDecodeEOF:
        return item
    raise ProtocolError("bad CBOR: more bytes follow the item")
