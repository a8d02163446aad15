"""The commands of a client: one call of the library each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import trio

from ..entry import Entry
from ..kv import KV, open_kv
from ..limits import DEFAULT_TIMEOUT
from ..status import cluster_status
from .exits import EXIT_NOTHING, EXIT_UNAVAILABLE
from .output import show_entry, show_nothing, show_status
from .params import CLUSTER, KEY, KEY_AFTER_OPTIONS, LIMIT, PREFIX, VALUE, VERSION

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])
_ResultT = TypeVar("_ResultT")

# With it, a VALUE may begin with a minus sign without being taken for an option.
_MINUS_IS_NO_OPTION = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


class _WithValue(click.Command):
    """A command with a VALUE, which may begin with a minus sign; a KEY may after ``--`` only."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, context_settings=_MINUS_IS_NO_OPTION, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether the KEY stands behind a ``--``, for click does not tell."""
        if "--" in args:
            before, _, _ = self.make_parser(ctx).parse_args(args[: args.index("--")])
            ctx.meta[KEY_AFTER_OPTIONS] = not isinstance(before.get("key"), str)
        return super().parse_args(ctx, args)


def _client_options(command: _CommandT) -> _CommandT:
    """The options of every command that is a client of a cluster."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON objects, also in a terminal."),
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


@click.command("set", cls=_WithValue)
@click.argument("key", type=KEY)
@click.argument("ver", type=VERSION)
@click.argument("value", type=VALUE)
@_client_options
def set_(key: str, ver: int, value: Any, cluster: list[str], timeout: float, as_json: bool) -> None:
    """Write version VER of KEY; exit with 3 if it holds another value.

    VALUE is read as JSON if it is JSON, else as a string. The same value again succeeds.
    """
    show_entry(_call(cluster, timeout, lambda kv: kv.set(key, ver, value)), as_json)


@click.command(cls=_WithValue)
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


@click.command()
@click.argument("key", type=KEY)
@click.option("--ver", type=VERSION, metavar="VER", help="The version to read; else the latest.")
@_client_options
def get(key: str, ver: int | None, cluster: list[str], timeout: float, as_json: bool) -> int:
    """Print the latest version of KEY, or version --ver; exit with 1 if there is nothing."""
    entry: Entry | None = _call(cluster, timeout, lambda kv: kv.get(key, ver))
    if entry is None:
        show_nothing(key, ver)
        return EXIT_NOTHING
    show_entry(entry, as_json)
    return 0


@click.command(cls=_WithValue)
@click.argument("key", type=KEY)
@click.argument("value", type=VALUE)
@_client_options
def put(key: str, value: Any, cluster: list[str], timeout: float, as_json: bool) -> None:
    """Write VALUE as the next version of KEY, after the latest.

    VALUE is read as JSON if it is JSON, else as a string.
    """
    show_entry(_call(cluster, timeout, lambda kv: kv.put(key, value)), as_json)


@click.command()
@click.argument("key", type=KEY)
@_client_options
def delete(key: str, cluster: list[str], timeout: float, as_json: bool) -> None:
    """Delete KEY: write a next version that has no value. If it has none already, do nothing."""
    entry: Entry | None = _call(cluster, timeout, lambda kv: kv.delete(key))
    if entry is None:
        show_nothing(key, None)
    else:
        show_entry(entry, as_json)


@click.command()
@click.argument("key", type=KEY)
@_client_options
def history(key: str, cluster: list[str], timeout: float, as_json: bool) -> int:
    """Print the versions of KEY that are still kept, oldest first; exit with 1 without any."""
    entries = _call(cluster, timeout, lambda kv: kv.history(key))
    for entry in entries:
        show_entry(entry, as_json)
    if not entries:
        show_nothing(key, None)
    return 0 if entries else EXIT_NOTHING


@click.command()
@click.argument("prefix", type=PREFIX, default="")
@click.option("--after", type=PREFIX, metavar="KEY", help="Begin after this key.")
@click.option("--limit", type=LIMIT, metavar="N", help="Print at most so many.")
@_client_options
def scan(
    prefix: str,
    after: str | None,
    limit: int | None,
    cluster: list[str],
    timeout: float,
    as_json: bool,
) -> None:
    """Print the latest entries of the keys that begin with PREFIX, in key order.

    It goes page by page, and each page may take --timeout.
    """

    async def show_all(kv: KV) -> None:
        async for entry in kv.scan(prefix, limit=limit, after=after):
            show_entry(entry, as_json)

    _call(cluster, timeout, show_all)


@click.command()
@_client_options
def status(cluster: list[str], timeout: float, as_json: bool) -> int:
    """Print how each acceptor is, one a line; exit with 4 if fewer than a quorum answer."""
    if not timeout > 0:
        raise click.UsageError(f"a timeout is more than 0 seconds, not {timeout}")
    found = trio.run(cluster_status, cluster, timeout)
    show_status(found, as_json)
    return 0 if found.available else EXIT_UNAVAILABLE


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
