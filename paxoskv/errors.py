"""The errors of paxoskv. All of them derive from :class:`PaxosKVError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .entry import Entry
    from .paxos.messages import Proposal


class PaxosKVError(Exception):
    """The base of all errors that paxoskv raises of its own."""


class VersionTaken(PaxosKVError):  # noqa: N818 - the contract's name
    """The version holds another value, and always will.

    Attributes:
        entry: what it holds.
    """

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.entry = entry

    def __str__(self) -> str:
        held = "is deleted" if self.entry.deleted else f"holds {_brief(self.entry.val)}"
        return f"version {self.entry.ver} of {self.entry.key!r} {held} already"


class Compacted(PaxosKVError):  # noqa: N818 - the contract's name
    """The version was dropped; only newer ones are kept (rule R9).

    Attributes:
        latest: the latest entry of the key that is known.
    """

    def __init__(self, latest: Entry) -> None:
        super().__init__(latest)
        self.latest = latest

    def __str__(self) -> str:
        return f"dropped; the latest version known of {self.latest.key!r} is {self.latest.ver}"


class Unavailable(PaxosKVError):  # noqa: N818 - the contract's name
    """No quorum of acceptors brought the call to an end within its time.

    The message names the acceptors that did not answer, and why.

    Attributes:
        maybe: the entry that the call may have written all the same, now or later, or
            None: it certainly wrote nothing. ``KV.settle`` tells, and after a ``set`` so
            does the same ``set`` again (rule R11).
        proposal: what tells that entry from an equal one of another writer.
    """

    def __init__(
        self, message: str, maybe: Entry | None = None, proposal: Proposal | None = None
    ) -> None:
        super().__init__(message, maybe, proposal)
        self.maybe = maybe
        self.proposal = proposal

    def __str__(self) -> str:
        message: str = self.args[0]
        return message if self.maybe is None else f"{message}: settle(error) tells"


class TooLarge(PaxosKVError):  # noqa: N818 - the contract's name
    """A key or a value is larger than the limit that the message names."""


class ProtocolError(PaxosKVError):
    """Bytes that are no message of this protocol version."""


class WrongCluster(PaxosKVError):  # noqa: N818 - the contract's name
    """The acceptors that answer are not those of the cluster that was asked for."""


class DirectoryError(PaxosKVError):
    """A data directory cannot be used; the message says what to do instead."""


class StoreError(PaxosKVError):
    """What an acceptor keeps on disk cannot be read or written at the moment."""


class StoreDamaged(StoreError):  # noqa: N818 - says what it is
    """What is on the disk of an acceptor is not what it wrote there."""


def _brief(value: object, limit: int = 80) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python will not print integers of more than 4300 digits
        return f"a very long {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}…"
