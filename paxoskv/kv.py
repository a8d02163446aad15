"""The library's face: :func:`open_kv` and :class:`KV`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from random import Random
from typing import Any

import trio

from .cluster import Cluster
from .errors import PaxosKVError, Unavailable, VersionTaken
from .identity import Address, new_id, parse_addresses
from .limits import DEFAULT_TIMEOUT
from .paxos.messages import Instance, Proposal
from .paxos.proposer import Ballots, Proposer
from .paxos.reader import Reader
from .rounds import Rounds
from .tasks import background_nursery
from .values import Entry, check_key, check_version, decode_value, encode_value
from .writers import Writers


def open_kv(
    addresses: Iterable[str],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    rng: Random | None = None,
) -> AbstractAsyncContextManager[KV]:
    """Open a client of a cluster, for the time of an ``async with`` block.

    It does not wait for the network: a call does, up to its timeout, until a quorum of
    acceptors is there. At the end of the block, calls that still wait raise
    ``trio.ClosedResourceError``.

    Args:
        addresses: ``HOST:PORT`` of one or more acceptors of the cluster; the others are
            learned from them. With more than one, none of them has to be up.
        timeout: seconds that a call may take before it raises :class:`Unavailable`;
            ``math.inf`` leaves it to your own cancel scopes.
        rng: where jitter comes from; a test may seed it.

    Raises:
        TypeError: an argument has the wrong type; at once.
        ValueError: an address is malformed, there is none, or the timeout is not above
            zero; at once.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"a timeout is a number of seconds, not {type(timeout).__name__}")
    if not timeout > 0:
        raise ValueError(f"a timeout is more than 0 seconds, not {timeout}")
    return _open_kv(parse_addresses(addresses), timeout, rng or Random())  # noqa: S311 - jitter


@asynccontextmanager
async def _open_kv(
    addresses: tuple[Address, ...], timeout: float, rng: Random
) -> AsyncIterator[KV]:
    async with background_nursery() as nursery:
        kv = KV(addresses, timeout, rng, nursery)
        try:
            yield kv
        finally:
            kv._close()


class _Call:
    """A call under way."""

    __slots__ = ("error", "operation", "scope", "what")

    def __init__(self, what: str, timeout: float) -> None:
        self.what = what  # for people
        self.scope = trio.CancelScope(deadline=trio.current_time() + timeout)
        self.operation: Proposer | Reader | None = None  # None: not begun
        self.error: Exception | None = None  # why it was ended; None: its time was up

    def end(self, error: Exception) -> None:
        self.error = error
        self.scope.cancel()


class KV:
    """A client of one cluster, for any number of tasks. :func:`open_kv` makes it.

    Every call may be cancelled at any time: the client goes on working, and others that
    use it notice nothing. A ``set`` or ``propose`` that was cancelled, or that raised
    :class:`Unavailable`, may have been written or not; the same call again tells.
    """

    def __init__(
        self, addresses: tuple[Address, ...], timeout: float, rng: Random, nursery: trio.Nursery
    ) -> None:
        self._timeout = timeout
        self._cluster = Cluster(addresses, nursery, rng, self._cluster_changed)
        self._rounds = Rounds(self._cluster.links, nursery, rng)
        self._ballots = Ballots(new_id())
        self._writers = Writers()
        self._calls: set[_Call] = set()
        self._refusal: PaxosKVError | None = None
        self._closed = False

    @property
    def rounds(self) -> int:
        """How many rounds this client has begun: fan-outs of one frame to all acceptors."""
        return self._rounds.count

    @property
    def attempts(self) -> int:
        """How many attempts its proposers have made: each begins a phase 1 of its own."""
        return self._ballots.count

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
            Unavailable: no quorum brought it to an end in time; ``.maybe`` says whether
                it may have been written.
            TooLarge: the key or the value is over its limit.
            WrongCluster, ProtocolError: those who answer are not acceptors of one
                cluster, or speak another version of the protocol.
            TypeError, ValueError: an argument is not as above; nothing was sent.
            trio.ClosedResourceError: the client is closed.
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
            As :meth:`set`, without ``VersionTaken``.
        """
        entry, _ = await self._decide("propose", key, ver, val)
        return entry

    async def get(self, key: str, ver: int) -> Entry | None:
        """Read a version of a key.

        One round trip when the acceptors agree. A proposal that somebody left unfinished
        is finished first (rule R6).

        Returns:
            The entry, or None: when it was called, nothing was chosen.

        Raises:
            As :meth:`set`, without ``VersionTaken``.
        """
        instance = Instance(check_key(key), check_version(ver))
        with self._call(f"get {key!r} version {ver}") as call:
            await self._members_known()
            call.operation = Reader(instance, self._cluster.quorums, self._ballots)
            proposal = await self._rounds.perform(call.operation)
        return None if proposal is None else _entry(instance, proposal)

    async def _decide(self, name: str, key: str, ver: int, val: Any) -> tuple[Entry, bool]:
        """Propose a value; the entry that is chosen, and whether it has this very value."""
        instance = Instance(check_key(key), check_version(ver))
        own = self._ballots.proposal(encode_value(val))
        with self._call(f"{name} {key!r} version {ver}") as call:
            await self._members_known()
            await self._writers.enter(key)
            try:
                call.operation = Proposer(instance, own, self._cluster.quorums, self._ballots)
                chosen = await self._rounds.perform(call.operation)
            finally:
                self._writers.leave(key)
        assert chosen is not None, "whoever proposes something ends with something"
        return _entry(instance, chosen), chosen.value == own.value

    async def _members_known(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._cluster.links:
            await self._cluster.known()

    @contextmanager
    def _call(self, what: str) -> Iterator[_Call]:
        """The limits of a call: its time, the life of the client, and a cluster to ask."""
        call = _Call(what, self._timeout)
        self._calls.add(call)
        if self._closed:
            call.end(_closed())
        elif self._refusal is not None:
            call.end(_copy(self._refusal))
        try:
            with call.scope:
                yield call
        finally:
            self._calls.discard(call)
        if call.scope.cancelled_caught:
            raise (call.error or self._unavailable(call)) from None

    def _unavailable(self, call: _Call) -> Unavailable:
        """Why a call did not end in time, with the acceptors that did not answer."""
        text = f"{call.what}: not done within {self._timeout:g} s"
        operation = call.operation
        if not self._cluster.links:
            return Unavailable(f"{text}: no acceptor was reached: {self._cluster.explain(())}")
        quorums = self._cluster.quorums
        if operation is None:
            return Unavailable(f"{text}: it waited for another write of this client to the key")
        if len(operation.replied) < quorums.quorum:
            text += (
                f": {len(operation.replied)} of {quorums.n} acceptors answered, and "
                f"{quorums.quorum} are needed: {self._cluster.explain(operation.replied)}"
            )
        else:
            text += ": other proposers kept overtaking it"
        maybe = None
        if isinstance(operation, Proposer) and operation.own and operation.proposed_own:
            maybe = _entry(operation.instance, operation.own)
            text += "; it may have been written all the same, and the same again tells"
        return Unavailable(text, maybe)

    def _cluster_changed(self) -> None:
        """A link went up or down: is there still a cluster to ask?"""
        self._refusal = self._cluster.refusal()
        if self._refusal is not None:
            for call in self._calls:
                call.end(_copy(self._refusal))

    def _close(self) -> None:
        self._closed = True
        for call in self._calls:
            call.end(_closed())


def _entry(instance: Instance, proposal: Proposal) -> Entry:
    if proposal.value is None:
        return Entry(*instance, None, deleted=True)
    return Entry(*instance, decode_value(proposal.value))


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this client is closed")


def _copy(error: PaxosKVError) -> PaxosKVError:
    """The same error for another caller, who adds a traceback of its own."""
    return type(error)(*error.args)
