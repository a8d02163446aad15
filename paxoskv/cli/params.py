"""The types of what stands on the command line. What does not fit is a usage error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..arguments import check_key, check_prefix, check_version
from ..identity import Address, parse_address, parse_addresses
from ..values import encode_value

_T = TypeVar("_T")

KEY_AFTER_OPTIONS: Final = "paxoskv.key_after_options"
"""In the ``meta`` of a context: whether the KEY stands behind a ``--``."""


class _Checked(click.ParamType[_T]):
    """A parameter that one of the library's own checks reads and judges."""

    def __init__(self, name: str, read: Callable[[str], _T]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _T:
        """Read the text, or fail with the reason of the check."""
        try:
            return self._read(value)
        except (TypeError, ValueError) as error:
            self.fail(str(error), param, ctx)


class _Key(_Checked[str]):
    """A key. Where a VALUE may begin with a minus sign, click takes no option amiss, so we do."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read the key, unless it is more likely an option that there is not."""
        open_ended = ctx is not None and ctx.ignore_unknown_options
        known = ctx is not None and ctx.meta.get(KEY_AFTER_OPTIONS)
        if str(value).startswith("-") and open_ended and not known:
            self.fail(
                f"no such option: {value}; if this is the key, write -- before it", param, ctx
            )
        return super().convert(value, param, ctx)


def _read_version(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,4000}", text):
        raise ValueError(f"{text!r} is no version, which is a number from 0")
    return check_version(int(text))


def _read_value(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_int)
    except ValueError:
        value = text
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    encode_value(value)
    return value


def _read_int(text: str) -> int:
    """Read an integer of any length that fits into a command line."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return int(text)
    finally:
        sys.set_int_max_str_digits(limit)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")  # though Python's reader takes it


def _read_address_or_port_0(text: str) -> Address:
    return parse_address(text, lowest_port=0)


def _read_addresses(text: str) -> list[str]:
    return [str(address) for address in parse_addresses(map(str.strip, text.split(",")))]


KEY: Final = _Key("key", check_key)
LIMIT: Final = click.IntRange(0, sys.maxsize)
PREFIX: Final = _Checked("prefix", lambda text: check_prefix(text, "prefix"))
VERSION: Final = _Checked("version", _read_version)
VALUE: Final = _Checked("value", _read_value)
"""JSON if it is JSON, else the text itself."""
ADDRESS: Final = _Checked("host:port", parse_address)
LISTEN_ADDRESS: Final = _Checked("host:port", _read_address_or_port_0)
CLUSTER: Final = _Checked("host:port,...", _read_addresses)
