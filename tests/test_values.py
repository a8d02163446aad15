"""What a user may store, and what comes back."""

from __future__ import annotations

import math
import uuid
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxoskv.arguments import check_key, check_version
from paxoskv.errors import ProtocolError, TooLarge
from paxoskv.limits import MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH
from paxoskv.values import decode_value, encode_value

text = st.text(st.characters(exclude_categories=["Cs"]))
keys = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary()
    | st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-5, minutes=30))))
)
values = st.recursive(
    keys | st.integers(-(2**200), 2**200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_taken_comes_back_equal(value: object) -> None:
    data = encode_value(value)
    assert decode_value(data) == value
    assert encode_value(decode_value(data)) == data


def test_the_order_of_a_dict_does_not_matter() -> None:
    assert encode_value({"a": 1, "b": 2}) == encode_value({"b": 2, "a": 1})


def test_one_true_and_one_point_zero_are_three_values() -> None:
    assert len({encode_value(1), encode_value(True), encode_value(1.0)}) == 3


def test_nan_is_one_value() -> None:
    assert encode_value(math.nan) == encode_value(float("nan"))
    assert math.isnan(decode_value(encode_value(math.nan)))


class Colour(IntEnum):
    RED = 1


class Name(StrEnum):
    RED = "red"


def test_subclasses_come_back_as_their_equals() -> None:
    for value in (
        [Colour.RED],
        {Colour.RED: Name.RED},
        {Name.RED: 1} | {str(n): n for n in range(2000)},
    ):
        assert decode_value(encode_value(value)) == value


@pytest.mark.parametrize(
    "value",
    [(1,), [(1,)], {"a": (1,)}, {(1, 2): 3}, {1}, frozenset(), Decimal(1), 1j, object(),
     uuid.uuid4(), date(2020, 1, 1), memoryview(b"x"), encode_value],
)  # fmt: skip
def test_what_would_come_back_changed_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="would not come back as it is"):
        encode_value(value)


def nested(depth: int, inner: object = 0) -> object:
    for _ in range(depth):
        inner = [inner]
    return inner


def test_depth_has_a_limit() -> None:
    now = datetime.now(UTC)
    for inner in (0, now, 2**100):
        value = nested(MAX_VALUE_DEPTH, inner)
        assert decode_value(encode_value(value)) == value
    cyclic: list[object] = []
    cyclic.append(cyclic)
    # cbor2 alone would overflow the stack of the process on the second.
    for value in (nested(MAX_VALUE_DEPTH + 1), nested(100_000), cyclic, {"a": cyclic}):
        with pytest.raises(ValueError, match="nested more than"):
            encode_value(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime(2020, 1, 1), "without a time zone"),
        (datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=30))), "come back changed"),
        (["\ud800"], "not valid Unicode"),
        ({math.nan: 1}, "NaN for a key"),
        ({"a": [{2**64: 1}]}, "int beyond 64 bits for a key"),
        ({-(2**64) - 1: 1}, "int beyond 64 bits for a key"),
        ({10**5000: 1}, "int beyond 64 bits for a key"),  # too long to be printed
        ([dict.fromkeys(range(1025))], r"\[0\] has a key of type int; in a dict of more than 1024"),
        (dict.fromkeys([*map(str, range(1024)), None]), "has a key of type NoneType; in a dict"),
    ],
)
def test_what_cannot_be_read_again_is_a_value_error(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_value(value)


def test_what_shows_itself_differently_each_time_is_refused() -> None:
    class Twice(dict[str, int]):
        def items(self) -> object:  # type: ignore[override]
            return [("a", 1), ("a", 2)]

    class Longer(list[int]):
        def __len__(self) -> int:
            return 5

    for value in (Twice(a=1), [Twice(a=1)], {"b": Twice(a=1)}, Longer([1]), {"b": [Longer([1])]}):
        with pytest.raises(ValueError, match="could not be read again"):
            encode_value(value)


def test_an_error_shows_no_more_of_a_long_key_than_is_of_use() -> None:
    with pytest.raises(TypeError) as caught:
        encode_value({"k" * 10**5: {"k" * 10**5: ()}})
    assert len(str(caught.value)) < 500


def test_the_largest_value_and_one_byte_more() -> None:
    for one in (b"x", "x"):
        assert decode_value(encode_value(one * MAX_VALUE_BYTES)) == one * MAX_VALUE_BYTES
        with pytest.raises(TooLarge, match=str(MAX_VALUE_BYTES)):
            encode_value(one * (MAX_VALUE_BYTES + 1))


@pytest.mark.parametrize(
    "data",
    [b"\xd9\x01\x02\x81\x01", b"\xd8\x23\x61a", b"\x9f\xff", b"\x01\x01", b"",
     b"\xa2\x01\x01\x01\x02",
     b"\xd8\x1c\x80", b"\xc0\x61x", b"\x81" * 1000],
)  # fmt: skip
def test_bytes_that_no_client_of_ours_writes_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_value(data)


@given(st.binary(max_size=100))
def test_random_bytes_never_crash_the_decoder(data: bytes) -> None:
    with suppress(ProtocolError):
        decode_value(data)


def test_keys() -> None:
    for key in ("a", "键", "😀", " ", "\n", "x" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2)):
        assert check_key(key) == key
    for key in ("x" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1)):
        with pytest.raises(TooLarge):
            check_key(key)
    for key in ("", "\ud800"):
        with pytest.raises(ValueError, match="key"):
            check_key(key)
    for wrong in (b"a", 1, None):
        with pytest.raises(TypeError):
            check_key(wrong)


def test_keys_and_versions_of_a_type_of_their_own_become_plain() -> None:
    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "odd"

    assert check_key(Odd("foo")) == "foo"
    assert type(check_key(Odd("foo"))) is str
    assert type(check_version(Colour.RED)) is int


def test_versions() -> None:
    for ver in (0, 1, 2**53 - 1):
        assert check_version(ver) == ver
    for out in (-1, 2**53):
        with pytest.raises(ValueError, match="between 0 and"):
            check_version(out)
    for wrong in (True, 1.0, "1", None):
        with pytest.raises(TypeError):
            check_version(wrong)


@pytest.mark.parametrize(
    "part",
    ["x" * 1000, b"x" * 1000, bytearray(1000), pytest.param(1 << 8000, id="int")],
)
def test_what_stands_in_a_value_many_times_over_counts_each_time(part: object) -> None:
    """Before it is encoded, which could take more memory than there is."""
    by_name = {str(number): part for number in range(1100)}
    for value in ([part] * 10**6, [[part] * 1000] * 1000, by_name):
        with pytest.raises(TooLarge, match="so many items"):
            encode_value(value)
    assert decode_value(encode_value([part] * 1000)) == [part] * 1000


def test_lists_that_share_a_list_many_times_over_are_refused_in_time() -> None:
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(TooLarge, match="so many items"):
        encode_value(value)
