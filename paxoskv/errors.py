"""The errors of paxoskv. All of them derive from :class:`PaxosKVError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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


SETTLE: Final = ": settle(error) tells"
"""How the message of an :class:`Unavailable` ends that may have written something."""


class Unavailable(PaxosKVError):  # noqa: N818 - the contract's name
    """The call did not come to an end within its time, or cannot tell how it ended.

    The message names the acceptors that did not answer, and why, or what else it waited for. At
    once, it comes of a put, an update or a delete that others overtook before it was known
    whether its own proposal was written (rule R7).

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
        return message


class TooLarge(PaxosKVError):  # noqa: N818 - the contract's name
    """A key or a value is over its limit, or no version is left; the message says which."""


class ProtocolError(PaxosKVError):
    """What an acceptor, or a client, says is no message, or breaks the rules of the protocol."""


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
