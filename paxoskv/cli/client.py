"""``paxoskv set``, ``propose`` and ``get``: one call of the library each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import trio

from ..kv import KV, open_kv
from ..limits import DEFAULT_TIMEOUT
from ..values import Entry
from .output import show_entry, show_nothing
from .params import CLUSTER, KEY, VALUE, VERSION

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])
_ResultT = TypeVar("_ResultT")

EXIT_NOTHING = 1

# With it, a VALUE may begin with a minus sign without being taken for an option.
_MINUS_IS_NO_OPTION = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


def _client_options(command: _CommandT) -> _CommandT:
    """The options of every command that is a client of a cluster."""
    for option in (
        click.option(
            "--json", "as_json", is_flag=True, help="One JSON object, also in a terminal."
        ),
        click.option(
            "--timeout",
            type=float,
            default=DEFAULT_TIMEOUT,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for a quorum.",
        ),
        click.option(
            "--cluster",
            type=CLUSTER,
            envvar="PAXOSKV_CLUSTER",
            required=True,
            metavar="HOST:PORT,...",
            help="Acceptors of the cluster; one is enough, the others are learned from it. "
            "Or set PAXOSKV_CLUSTER.",
        ),
    ):
        command = option(command)
    return command


@click.command("set", context_settings=_MINUS_IS_NO_OPTION)
@click.argument("key", type=KEY)
@click.argument("ver", type=VERSION)
@click.argument("value", type=VALUE)
@_client_options
def set_(key: str, ver: int, value: Any, cluster: list[str], timeout: float, as_json: bool) -> None:
    """Write version VER of KEY; exit with 3 if it holds another value.

    VALUE is read as JSON if it is JSON, else as a string. The same value again succeeds.
    """
    show_entry(_call(cluster, timeout, lambda kv: kv.set(key, ver, value)), as_json)


@click.command(context_settings=_MINUS_IS_NO_OPTION)
@click.argument("key", type=KEY)
@click.argument("ver", type=VERSION)
@click.argument("value", type=VALUE)
@_client_options
def propose(
    key: str, ver: int, value: Any, cluster: list[str], timeout: float, as_json: bool
) -> None:
    """Propose VALUE for version VER of KEY, and print what it holds in the end.

    VALUE is read as JSON if it is JSON, else as a string.
    """
    show_entry(_call(cluster, timeout, lambda kv: kv.propose(key, ver, value)), as_json)


@click.command(context_settings=_MINUS_IS_NO_OPTION)
@click.argument("key", type=KEY)
@click.option("--ver", type=VERSION, metavar="VER", required=True, help="The version to read.")
@_client_options
def get(key: str, ver: int, cluster: list[str], timeout: float, as_json: bool) -> int:
    """Print version --ver of KEY; exit with 1 if there is nothing."""
    entry: Entry | None = _call(cluster, timeout, lambda kv: kv.get(key, ver))
    if entry is None:
        show_nothing(key, ver)
        return EXIT_NOTHING
    show_entry(entry, as_json)
    return 0


def _call(
    cluster: list[str], timeout: float, operation: Callable[[KV], Awaitable[_ResultT]]
) -> _ResultT:
    """Open a client, perform one operation, and close it."""
    try:
        opening = open_kv(cluster, timeout=timeout)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    async def run() -> _ResultT:
        async with opening as kv:
            return await operation(kv)

    return trio.run(run)
