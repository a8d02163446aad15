"""What users give to calls, besides values: checked before anything is sent."""

from __future__ import annotations

from .errors import TooLarge
from .limits import MAX_KEY_BYTES, MAX_VERSION


def check_key(key: object) -> str:
    """Return a key that may be used.

    Raises:
        TypeError: it is no ``str``.
        ValueError: it is empty, or not Unicode (a lone surrogate).
        TooLarge: it is longer than ``MAX_KEY_BYTES`` in UTF-8.
    """
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    if not key:
        raise ValueError("a key cannot be empty")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the key {key!a} is not valid Unicode") from None
    if size > MAX_KEY_BYTES:
        raise TooLarge(f"a key of {size} bytes is over the limit of {MAX_KEY_BYTES}")
    return str.__str__(key)  # of a subclass, what everybody else will see


def check_prefix(prefix: object, what: str) -> str:
    """Return what keys may begin with: a key, or "".

    Raises:
        As :func:`check_key`; ``what`` names it there.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"a {what} is a str, not {type(prefix).__name__}")
    return check_key(prefix) if prefix else prefix


def check_version(ver: object) -> int:
    """Return a version that may be used.

    Raises:
        TypeError: it is no ``int`` (``True`` is none either).
        ValueError: it is outside 0 … ``MAX_VERSION``.
    """
    return check_int(ver, "a version", 0, MAX_VERSION)


def check_int(number: object, what: str, low: int, high: int) -> int:
    """Return an integer that may be used; ``what`` names it in errors.

    Raises:
        TypeError: it is no ``int`` (``True`` is none either).
        ValueError: it is outside ``low`` … ``high``.
    """
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{what} is an int, not {type(number).__name__}")
    if not low <= number <= high:
        # Of what is longer, Python refuses to make a text.
        shown = f"{number}" if number.bit_length() <= 64 else "one so far from it"
        raise ValueError(f"{what} is between {low} and {high}, not {shown}")
    return int.__int__(number)


def check_timeout(timeout: object) -> float:
    """Return a number of seconds that may be waited; ``math.inf`` is for ever.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above zero.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"a timeout is a number of seconds, not {type(timeout).__name__}")
    try:
        seconds = float(timeout)
    except OverflowError:
        raise ValueError("a timeout is too large; math.inf is no limit at all") from None
    if not seconds > 0:
        raise ValueError(f"a timeout is more than 0 seconds, not {seconds}")
    return seconds
