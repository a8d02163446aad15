"""CBOR from strangers: what is refused, and that it is refused before it costs anything."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NoReturn

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paxoskv import strictcbor
from paxoskv.errors import ProtocolError
from paxoskv.limits import (
    MAX_ENCODED_VALUE_BYTES,
    MAX_ENVELOPE_ITEMS,
    MAX_VALUE_DEPTH,
    MAX_WEAK_KEYS,
)
from paxoskv.strictcbor import NO_TAGS, decode_one
from paxoskv.values import decode_value, encode_value


def envelope(data: bytes, max_items: int = MAX_ENVELOPE_ITEMS) -> Any:
    return decode_one(data, NO_TAGS, 8, max_items)


def head(major: int, argument: int) -> bytes:
    """The longest form of a head, which a decoder has to take too."""
    return struct.pack(">BQ", major << 5 | 27, argument)


def array(*items: bytes) -> bytes:
    return head(4, len(items)) + b"".join(items)


def mapping(*keys: bytes) -> bytes:
    return head(5, len(keys)) + b"".join(key + b"\x00" for key in keys)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoder(*_: object, **__: object) -> NoReturn:
        pytest.fail("cbor2 saw the bytes")

    monkeypatch.setattr(cbor2, "CBORDecoder", decoder)


@pytest.fixture
def no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strictcbor, "_scan", lambda *_: pytest.fail("the bytes were scanned"))


# --- One item, whole and plain ----------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "premature end"),
        (b"\x82\x01", "premature end"),
        (b"\x42a", "premature end"),
        (b"\x80\x80", "more bytes follow"),
        (b"\x01\x01", "more bytes follow"),
        (b"\x58", "premature end"),
        (b"\x58\x02a", "premature end"),
        (b"\x78\x02aaa", "more bytes follow"),
        (b"\x5f\xff", "indefinite"),
        (b"\x9f\xff", "indefinite"),
        (b"\xff", "break"),
        (b"\x1c", "subtype"),
        (b"\x61\xff", "utf-8"),
        (b"\x63\xed\xa0\x80", "utf-8"),  # a surrogate
        (b"\xc1\x00", "tag 1 is not allowed"),
        (b"\xc2\x41\x01", "tag 2 is not allowed"),
        (b"\xa2\x61a\x00\x61a\x00", "Duplicate"),
        (b"\x81" * 10 + b"\x00", "nesting depth"),
    ],
)
def test_an_envelope_is_one_whole_plain_item(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=f"^bad CBOR: .*{reason}"):
        envelope(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x01", "too soon"),
        (b"\xa2\x01\x01\xfa\x00", "too soon"),
        (b"\x81\x42a", "premature end"),
        (b"\x81" + head(2, 2**64 - 1), "premature end"),
        (b"\x82" + head(2, 2**64 - 1), "too soon"),
        (b"\x80\x80", "more bytes follow"),
        (b"\x81\x5f\xff", "no item begins with 0x5f"),
        (b"\x9f\xff", "no item begins with 0x9f"),
        (b"\xbf\xff", "no item begins with 0xbf"),
        (b"\x81\x1c", "no item begins with 0x1c"),
        (b"\xff", "no item begins with 0xff"),
        (b"\xf7", "no item begins with 0xf7"),  # undefined
        (b"\x81\xe0", "no item begins with 0xe0"),  # a simple value without a name
        (b"\x81\xf8\xff", "no item begins with 0xf8"),
        (b"\xa1\xf7\x00", "no item begins with 0xf7"),
        (b"\xc1\x00", "tag 1 is not allowed"),
        (b"\xd9\xd9\xf7\x00", "tag 55799 is not allowed"),
        (b"\xc2\xc2\x41\x01", "bignum"),
        (b"\xc0\x00", "datetime"),
        (b"\xc2" * 1000 + b"\x41\x01", "nesting depth"),
        (b"\xa2\x01\x00\xf9\x3c\x00\x00", "Duplicate"),  # 1 and 1.0
        (b"\xa2\x01\x00\xf5\x00", "Duplicate"),  # 1 and True
        (b"\x81" * (MAX_VALUE_DEPTH + 1) + b"\x00", "nested more than"),
        (b"\xa1\x00" * (MAX_VALUE_DEPTH + 1) + b"\x00", "nested more than"),
    ],
)
def test_a_value_is_one_whole_plain_item(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=f"^bad CBOR: .*{reason}"):
        decode_value(data)


def test_numbers_and_floats_in_other_forms_than_ours_are_read() -> None:
    for data, value in (
        (head(0, 5), 5),
        (b"\xc2\x42\x00\x05", 5),
        (b"\xfb" + struct.pack(">d", 1.5), 1.5),
        (array(head(2, 1) + b"a", head(3, 1) + b"b"), [b"a", "b"]),
        (head(6, 2) + b"\x49\x01" + bytes(8), 2**64),
    ):
        assert decode_value(data) == value
    assert math.isnan(decode_value(b"\xfb\x7f\xf8\x00\x00\x00\x00\x01\x23"))


def test_an_integer_of_a_mebibyte() -> None:
    size = 2**20 - 5
    assert decode_value(b"\xc2\x5a" + size.to_bytes(4) + b"\xff" * size) == 2 ** (8 * size) - 1


# --- The number of items ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (array(b"\xfb" + struct.pack(">d", 1 / 3), b"\x18\xff", b"\xf4", b"\x43abc"), 5),
        (b"\x97" + b"\x60" * 23, 24),
        (array(array(), array(array()), b"\x00"), 5),
        (mapping(b"\x61a", b"\x41a"), 5),
        (array(mapping(), b"\x00", mapping(b"\x61a")), 6),
        (array(b"\x58\xff" + b"\xff" * 255, b"\x78\x20" + b"a" * 32), 3),
    ],
)
def test_items_are_counted(data: bytes, items: int) -> None:
    assert envelope(data, items) == envelope(data, items + 1) == cbor2.loads(data)
    with pytest.raises(ProtocolError, match=f"more than {items - 1} items"):
        envelope(data, items - 1)


@pytest.mark.usefixtures("no_decoding")
def test_a_tag_is_counted() -> None:
    # A million of them would be skipped one by one, and then refused by cbor2 at last.
    with pytest.raises(ProtocolError, match="more than 10 items"):
        envelope(b"\xc2" * 11 + b"\x00", 10)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x00" + array(*[item] * (MAX_ENVELOPE_ITEMS // items))
        for item, items in [(b"\x00", 1), (b"\x80", 1), (b"\x40", 1), (b"\x81\x80", 2)]
    ]
    + [head(4, 2**64 - 1) + bytes(MAX_ENVELOPE_ITEMS), head(5, 2**63) + bytes(MAX_ENVELOPE_ITEMS)],
)
def test_a_frame_of_tiny_items_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="more than 262144 items"):
        envelope(data)


@pytest.mark.usefixtures("no_decoding")
def test_a_value_has_no_more_items_than_the_largest_has_bytes() -> None:
    with pytest.raises(ProtocolError, match=f"more than {MAX_ENCODED_VALUE_BYTES} items"):
        decode_value(head(4, MAX_ENCODED_VALUE_BYTES))


@pytest.mark.usefixtures("no_decoding")
def test_a_scan_remembers_no_more_than_the_depth() -> None:
    with pytest.raises(ProtocolError, match="nested more than 8 deep"):
        envelope(b"\x81" * (MAX_ENVELOPE_ITEMS + 1))


@pytest.mark.usefixtures("no_scan")
def test_what_is_common_is_not_scanned() -> None:
    envelope(cbor2.dumps([7, [[2, "key", 0, 1, bytes(16), bytes(16), 1, bytes(100)]] * 512]))
    for value in (0, -1, 2**64 - 1, "text", b"x" * 100_000):
        assert decode_value(encode_value(value)) == value


def test_a_large_message_is_scanned_and_taken() -> None:
    message = [7, [[2, "key", 0, 1, bytes(16), bytes(16), 1, b"\x80" * (MAX_ENVELOPE_ITEMS + 9)]]]
    assert envelope(cbor2.dumps(message)) == message


# --- The keys of maps ---------------------------------------------------------------------

NOT_KEYS = [b"\x80", b"\x81\x20", b"\x98\x00", b"\xa0", b"\xb8\x00",
            b"\xc2\x49\x01" + bytes(8), b"\xc3\x49\x01" + bytes(8), b"\xd8\x02\x41\x01",
            b"\xf9\x7e\x00", b"\xf9\xfe\x01", b"\xfa\x7f\xc0\x00\x00",
            b"\xfb\x7f\xf8" + bytes(6)]  # fmt: skip
WEAK_KEYS = [b"\x00", b"\x20", head(0, 2**64 - 1), head(1, 2**64 - 1), b"\xf4", b"\xf5", b"\xf6",
             b"\xf9\x7c\x00", b"\xfa\xff\x80\x00\x00", b"\xfb\x7f\xf0" + bytes(6),
             cbor2.dumps(datetime(2020, 1, 1, tzinfo=UTC))]  # fmt: skip
STRONG_KEYS = [b"\x40", b"\x60", b"\x58\x01a", b"\x78\x01a"]


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("key", NOT_KEYS)
def test_what_is_no_key_of_a_value_is_refused_before_it_is_hashed(key: bytes) -> None:
    for data in (
        mapping(key),
        mapping(b"\x61a", key),
        array(b"\x00", mapping(b"\x00", b"\x60", key)),
        head(5, 1) + b"\x61a" + mapping(key),
        head(5, 2) + b"\x61a" + array(mapping(b"\x60"), b"\x00") + key + b"\x00",
    ):
        with pytest.raises(ProtocolError, match=r"(is|are) no key"):
            decode_value(data)


@pytest.mark.parametrize("key", WEAK_KEYS + STRONG_KEYS)
def test_scalars_are_keys_of_a_value(key: bytes) -> None:
    for data in (mapping(key), array(mapping(b"\x61x", key), b"\x00")):
        value = decode_value(data)
        assert value == cbor2.loads(data)
        assert decode_value(encode_value(value)) == value


@pytest.mark.parametrize("value", [item for item in NOT_KEYS if item[0] < 0xF8])
def test_what_is_no_key_may_be_a_value(value: bytes) -> None:
    data = head(5, 2) + b"\x00" + value + b"\x20" + array(value, value)
    assert decode_value(data) == cbor2.loads(data)


@pytest.mark.parametrize("key", NOT_KEYS + WEAK_KEYS)
def test_in_an_envelope_only_text_and_bytes_are_keys(key: bytes) -> None:
    # What comes after the first key would be missed, if that one were let pass.
    for data in (head(5, 500) + key, b"\x81" + head(5, 1) + key):
        with pytest.raises(ProtocolError, match=r"map key must be|tag [023] is not allowed"):
            envelope(data)
        with pytest.raises(ProtocolError, match="no keys but str and bytes"):
            envelope(data.ljust(2001, b"\x00"), 2000)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("key", WEAK_KEYS)
def test_a_large_dict_has_no_keys_whose_hashes_are_known(key: bytes) -> None:
    # Such keys can all be made to collide: 80 000 of 32 bits each took 7 s to become a dict.
    strong = [b"\x60"] * MAX_WEAK_KEYS
    small = mapping(b"\x00")
    for data in (
        mapping(*strong, key),
        mapping(key, *strong),
        array(small, mapping(*strong, key)),
        head(5, MAX_WEAK_KEYS + 1) + b"\x60" + small + key,
        head(5, MAX_WEAK_KEYS + 1) + b"\x60" + array() + key,
    ):
        with pytest.raises(ProtocolError, match="no keys but str and bytes"):
            decode_value(data)


def test_the_largest_dicts() -> None:
    for value in (
        {n: n for n in range(MAX_WEAK_KEYS)},
        {str(n): n for n in range(MAX_WEAK_KEYS + 1)},
        {b"%d" % n: [{n: n}] for n in range(MAX_WEAK_KEYS + 1)},
        [{n: n for n in range(MAX_WEAK_KEYS)}] * 2,
    ):
        assert decode_value(encode_value(value)) == value


# --- Against cbor2's own judgement ----------------------------------------------------------


def forms(major: int, argument: int) -> st.SearchStrategy[bytes]:
    """A head in one of the forms that hold its argument."""
    longer = [
        bytes([major << 5 | 24 + i]) + argument.to_bytes(1 << i)
        for i in range(4)
        if argument < 1 << (8 << i)
    ]
    return st.sampled_from(([bytes([major << 5 | argument])] if argument < 24 else []) + longer)


def string(major: int, content: bytes) -> st.SearchStrategy[bytes]:
    return forms(major, len(content)).map(lambda start: start + content)


def container(major: int, items: list[bytes]) -> st.SearchStrategy[bytes]:
    return forms(major, len(items)).map(lambda start: start + b"".join(items))


scalars = st.one_of(
    st.builds(forms, st.sampled_from([0, 1]), st.integers(0, 2**64 - 1)).flatmap(lambda s: s),
    st.builds(string, st.just(2), st.binary(max_size=30)).flatmap(lambda s: s),
    st.builds(string, st.just(3), st.text(max_size=9).map(str.encode)).flatmap(lambda s: s),
    st.sampled_from([b"\xf4", b"\xf5", b"\xf6"]),
    st.floats(width=16).map(lambda number: struct.pack(">Be", 0xF9, number)),
    st.floats().map(lambda number: struct.pack(">Bd", 0xFB, number)),
    st.datetimes(timezones=st.just(UTC)).map(cbor2.dumps),
)
odd = st.one_of(
    st.sampled_from([b"\xf7", b"\xf8\x20", b"\xe0", b"\x9f\xff", b"\xc1\x00"]),
    st.binary(min_size=7, max_size=10).map(lambda number: b"\xc2" + cbor2.dumps(number)),
)
cbor = st.recursive(
    scalars | odd,
    lambda inner: (
        st.lists(inner, max_size=5).flatmap(lambda items: container(4, items))
        | st.lists(st.tuples(scalars, scalars | inner).map(b"".join), max_size=4).flatmap(
            lambda pairs: container(5, pairs)
        )
        | st.tuples(inner, inner).map(lambda pair: b"\xa1" + b"".join(pair))
    ),
    max_leaves=15,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """CBOR with a byte or two replaced, removed or put in between."""
    data = draw(cbor)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=1)) + data[at + draw(st.integers(0, 1)) :]
    return data


class ValueTags(dict[int, Any]):
    """The tags of values; no big integer is a key."""

    def __missing__(self, tag: int) -> Any:
        if tag == 0:
            raise KeyError(tag)

        def big_integer(value: Any, immutable: bool) -> int:
            if tag not in (2, 3) or immutable or type(value) is not bytes:
                raise ValueError("no big integer, or one for a key")
            return int.from_bytes(value) if tag == 2 else -1 - int.from_bytes(value)

        return big_integer


def by_cbor2_alone(data: bytes) -> bytes | None:
    """The canonical form, if cbor2 without a scan reads what we would write ourselves."""
    decoder = cbor2.CBORDecoder(
        BytesIO(data),
        semantic_decoders=ValueTags(),
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    try:
        canonical = encode_value(decoder.decode())
    except (cbor2.CBORDecodeError, TypeError, ValueError):
        return None
    try:
        decoder.read(1)
    except cbor2.CBORDecodeEOF:
        return canonical
    return None


@given(mutated() | st.binary(max_size=20))
@example(b"\x00\x00")
@example(b"\xa1\xc2\x41\x01\x00")
def test_a_value_is_read_if_and_only_if_it_can_be_written_again(data: bytes) -> None:
    try:
        value = decode_value(data)
    except ProtocolError:
        assert by_cbor2_alone(data) is None
    else:
        assert by_cbor2_alone(data) == encode_value(value)


def count(item: object) -> int:
    match item:
        case list():
            return 1 + sum(map(count, item))
        case dict():
            return 1 + sum(count(key) + count(value) for key, value in item.items())
        case _:
            return 1


@given(mutated() | st.binary(max_size=20), st.integers(0, 15))
def test_a_scan_only_counts_what_cbor2_reads(data: bytes, max_items: int) -> None:
    try:
        item = envelope(data)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            envelope(data, max_items)
        return
    try:
        assert repr(envelope(data, max_items)) == repr(item)  # NaN is not equal to itself
    except ProtocolError as error:
        # Simple values without a name it refuses too, wherever it comes by.
        assert "no item begins" in str(error) or count(item) > max_items  # noqa: PT017
    else:
        assert count(item) <= max(max_items, len(data))
