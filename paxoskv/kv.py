"""The library's face: :func:`open_kv` and :class:`KV`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import iscoroutinefunction
from random import Random
from typing import Any

import trio

from .arguments import check_int, check_key, check_prefix, check_timeout, check_version
from .client import Client, Nothing, open_client
from .entry import Entry
from .errors import SETTLE, Compacted, Unavailable, VersionTaken
from .identity import Address, parse_addresses
from .limits import DEFAULT_TIMEOUT
from .paxos import messages
from .paxos.messages import Instance, Proposal
from .paxos.operation import Latest
from .values import PLAIN, decode_value, encode_value, to_entry


def open_kv(
    addresses: Iterable[str],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    rng: Random | None = None,
    fast: bool = True,
    courtesy: bool = True,
) -> AbstractAsyncContextManager[KV]:
    """Open a client of a cluster, for the time of an ``async with`` block.

    It does not wait for the network: a call does, up to its timeout, until a quorum of
    acceptors is there. At the end of the block, calls that still wait raise
    ``trio.ClosedResourceError``, and the acceptors are told what they may not know to be chosen,
    which takes ``COMMIT_PATIENCE`` at most.

    Args:
        addresses: ``HOST:PORT`` of one or more acceptors of the cluster; the others are
            learned from them. With more than one, none of them has to be up.
        timeout: seconds that a call may take before it raises :class:`Unavailable`;
            ``math.inf`` leaves it to your own cancel scopes.
        rng: where jitter comes from; a test may seed it.
        fast: whether writes may begin at ballot 0, which takes one round trip instead of two
            where nobody else writes the same version, and all acceptors answer.
        courtesy: whether writers of a key that others write as well wait in line for it,
            instead of duelling.

    Raises:
        TypeError: an argument has the wrong type; at once.
        ValueError: an address is malformed, there is none, or the timeout is not above
            zero; at once.
    """
    seconds = check_timeout(timeout)
    if rng is None:
        rng = Random()  # noqa: S311 - jitter
    elif not isinstance(rng, Random):
        raise TypeError(f"rng is a random.Random, not {type(rng).__name__}")
    for name, switch in (("fast", fast), ("courtesy", courtesy)):
        if not isinstance(switch, bool):
            raise TypeError(f"{name} is True or False, not {type(switch).__name__}")
    return _open_kv(parse_addresses(addresses), seconds, rng, fast, courtesy)


@asynccontextmanager
async def _open_kv(
    addresses: tuple[Address, ...], timeout: float, rng: Random, fast: bool, courtesy: bool
) -> AsyncIterator[KV]:
    async with open_client(addresses, timeout, rng, fast=fast, courtesy=courtesy) as client:
        yield KV(client)


class KV:
    """A client of one cluster, for any number of tasks. :func:`open_kv` makes it.

    Every call may be cancelled at any time: the client goes on working, and others that
    use it notice nothing. A write that was cancelled, or that raised
    :class:`Unavailable`, may have been written or not: the same ``set`` again tells, and
    :meth:`settle` does for the others.

    All calls raise, besides what each says:

    - :class:`Unavailable`: no quorum brought it to an end in time; ``.maybe`` says what may
      have been written all the same.
    - :class:`WrongCluster`, :class:`ProtocolError`: those who answer are not acceptors of
      one cluster, or speak another version of the protocol, or what they say cannot be.
    - ``TypeError``, ``ValueError``, :class:`TooLarge`: an argument cannot be used, and
      nothing was sent; of a put, an update and a delete :class:`TooLarge` also says that no
      version is left, and nothing was written.
    - ``trio.ClosedResourceError``: the client is closed.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def rounds(self) -> int:
        """How many rounds this client has begun: fan-outs of one frame to all acceptors."""
        return self._client.rounds.count

    @property
    def attempts(self) -> int:
        """How many attempts its proposers have made, each at a new ballot, or at ballot 0."""
        return self._client.attempts

    # --- one version of a key --------------------------------------------------------

    async def set(self, key: str, ver: int, val: Any) -> Entry:
        """Write a version of a key, once and for all.

        Writing the same value again succeeds, so a call of unknown outcome may be
        repeated (rule R11).

        Args:
            key: any non-empty ``str`` of at most ``MAX_KEY_BYTES`` in UTF-8.
            ver: the version, 0 … 2**53 - 1. ``set(key, seen.ver + 1, new)`` is the
                compare-and-set.
            val: None, a bool, int, float, str, bytes, or a datetime with a time zone, or
                lists and dicts of these; at most ``MAX_VALUE_BYTES``.

        Returns:
            The entry, as every reader will see it.

        Raises:
            VersionTaken: the version holds another value; ``.entry`` is what it holds.
            Compacted: the version was dropped; ``.latest`` is the latest known.
        """
        entry, is_ours = await self._decide("set", key, ver, val)
        if not is_ours:
            raise VersionTaken(entry)
        return entry

    async def propose(self, key: str, ver: int, val: Any) -> Entry:
        """Propose a value for a version of a key, and return what the version holds.

        Returns:
            The entry that is chosen in the end: this value or another's.

        Raises:
            Compacted: the version was dropped; ``.latest`` is the latest known.
        """
        entry, _ = await self._decide("propose", key, ver, val)
        return entry

    async def get(self, key: str, ver: int | None = None) -> Entry | None:
        """Read a version of a key, or its latest one.

        One round trip when the acceptors agree. A proposal that somebody left unfinished
        is finished first (rule R6).

        Args:
            key: the key.
            ver: the version; None: the latest.

        Returns:
            The entry, or None: when it was called, nothing was chosen. Where the latest
            version is a tombstone, it is None too; the tombstone itself is shown by
            :meth:`latest`, or when its version is asked for.

        Raises:
            Compacted: the version was dropped; ``.latest`` is the latest known.
        """
        if ver is None:
            entry = await self.latest(key)
            return None if entry is None or entry.deleted else entry
        instance = Instance(check_key(key), check_version(ver))
        decision = await self._client.read(instance)
        return None if decision is None else _entry_of(instance, decision)

    # --- the latest version ------------------------------------------------------------

    async def latest(self, key: str) -> Entry | None:
        """Read the latest version of a key, also if it is a tombstone.

        Returns:
            The entry, whose ``ver + 1`` is the next to :meth:`set`, or None: there is none.
        """
        latest = await self._client.find(check_key(key))
        return None if latest is None else _latest_entry(key, latest)

    async def put(self, key: str, val: Any) -> Entry:
        """Write the version after the latest.

        It is newer than all that was chosen before the call began (rule R7).

        Returns:
            The entry.
        """
        check_key(key)
        value = encode_value(val)
        latest = await self._client.append("put", key, lambda _: value, blind=True)
        assert latest is not None, "there is always something to put"
        if type(val) in PLAIN:
            return Entry(key, latest.ver, val)  # nobody can change it, so it may be the same
        return _latest_entry(key, latest)

    async def update(self, key: str, function: Callable[[Any], Any]) -> Entry:
        """Write what a function makes of the latest value, atomically: read, modify, write.

        Args:
            key: the key.
            function: is given the latest value (None: there is none, or it is deleted), and
                returns the next. It runs in the caller's task, once more for each version
                that another writer wins. What it raises of a value that was looked up in
                this call ends the call, and nothing was written.

        Returns:
            The entry that was written.
        """
        if not callable(function):
            raise TypeError(f"what updates is a function, not {type(function).__name__}")
        if iscoroutinefunction(function):
            raise TypeError("what updates is a plain function, not an async one: wait before it")

        def compute(latest: Latest | None) -> bytes:
            value = None if latest is None else latest.proposal.value
            return encode_value(function(None if value is None else decode_value(value)))

        latest = await self._client.append("update", check_key(key), compute)
        assert latest is not None, "there is always something to write"
        return _latest_entry(key, latest)

    async def delete(self, key: str) -> Entry | None:
        """Write a tombstone as the version after the latest.

        Returns:
            The tombstone, or None: the key has no value, and nothing was written.
        """

        def compute(latest: Latest | None) -> Nothing | None:
            there = latest is not None and latest.proposal.value is not None
            return None if there else Nothing.NOTHING

        latest = await self._client.append("delete", check_key(key), compute)
        return None if latest is None else _latest_entry(key, latest)

    async def settle(self, error: Unavailable) -> bool:
        """Find out whether a write of unknown outcome was written after all.

        It brings the version to an end: where nothing is chosen yet, with the very proposal
        of that write.

        Args:
            error: what the write raised.

        Returns:
            Whether that very proposal was chosen: not merely an equal value of another.

        Raises:
            TypeError: it is no :class:`Unavailable`.
            Unavailable: it is not known yet; this one may be settled in place of the first.
            Compacted: the version was dropped, and nobody can tell any more.
        """
        if not isinstance(error, Unavailable):
            raise TypeError(f"what is settled is an Unavailable, not {type(error).__name__}")
        if error.maybe is None or error.proposal is None:
            await self._client.checkpoint()
            return False
        instance = Instance(error.maybe.key, error.maybe.ver)
        what = f"settle {instance.key!r} version {instance.ver}"
        try:
            decision = await self._client.decide(what, instance, error.proposal)
        except Unavailable as again:
            # What this call has not sent, the one before it has.
            text = str(again) if again.maybe else f"{again}; the write is in doubt still{SETTLE}"
            raise Unavailable(text, error.maybe, error.proposal) from None
        if isinstance(decision, messages.Compacted):
            raise _compacted(instance.key, decision)
        return decision.id == error.proposal.id

    # --- many versions, many keys --------------------------------------------------------

    async def history(self, key: str) -> list[Entry]:
        """The versions of a key that are still kept, tombstones included, oldest first."""
        versions = await self._client.history(check_key(key))
        return [_latest_entry(key, version) for version in versions]

    def scan(
        self, prefix: str = "", *, limit: int | None = None, after: str | None = None
    ) -> AsyncIterator[Entry]:
        """Iterate over the latest entries of the keys with a prefix, in key order.

        Every key that lives throughout the scan appears once, each entry as of some moment
        during the scan; it is no snapshot across keys. It reads page by page, and holds one
        page at a time; each page may take the client's timeout.

        Args:
            prefix: what the keys begin with; "": all keys.
            limit: the most entries to give; None: no limit.
            after: begin after this key, to go on where another scan ended.

        Returns:
            An asynchronous iterator; keys whose latest version is a tombstone are left out.

        Raises:
            TypeError, ValueError, TooLarge: an argument cannot be used; at once.
        """
        check_prefix(prefix, "prefix")
        check_prefix("" if after is None else after, "key to begin after")
        if limit is not None:
            check_int(limit, "a limit", 0, sys.maxsize)
        return _Scan(self._client, prefix, after or "", limit)

    async def _decide(self, name: str, key: str, ver: int, val: Any) -> tuple[Entry, bool]:
        """Propose a value; the entry that is chosen, and whether it has this very value."""
        instance = Instance(check_key(key), check_version(ver))
        value = encode_value(val)
        decision = await self._client.decide(f"{name} {key!r} version {ver}", instance, value)
        entry = _entry_of(instance, decision)
        return entry, isinstance(decision, Proposal) and decision.value == value


class _Scan:
    """A scan under way: one page at a time. Nothing runs between its steps."""

    def __init__(self, client: Client, prefix: str, after: str, limit: int | None) -> None:
        self._client = client
        self._prefix = prefix
        self._after: str | None = after  # None: there is no further page
        self._left = limit
        self._page: list[tuple[str, Latest]] = []  # the last first

    def __aiter__(self) -> AsyncIterator[Entry]:
        return self

    async def __anext__(self) -> Entry:
        while not self._page and self._after is not None and self._left != 0:
            page, self._after = await self._client.page(self._prefix, self._after)
            living = [item for item in page.items() if item[1].proposal.value is not None]
            self._page = living[::-1]
        # Other tasks had their turn while the page was read; to cancel it is possible anywhere.
        self._client.check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._page or self._left == 0:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= 1
        return _latest_entry(*self._page.pop())


def _latest_entry(key: str, latest: Latest) -> Entry:
    return to_entry(Instance(key, latest.ver), latest.proposal)


def _entry_of(instance: Instance, decision: Proposal | messages.Compacted) -> Entry:
    if isinstance(decision, messages.Compacted):
        raise _compacted(instance.key, decision)
    return to_entry(instance, decision)


def _compacted(key: str, reply: messages.Compacted) -> Compacted:
    return Compacted(to_entry(Instance(key, reply.latest), reply.proposal))
