"""Records: summaries and registers as bytes, and the names under which they are kept.

They are packed, not CBOR, for an acceptor mostly writes two with each vote, and packing takes
less than half the time.
``docs/storage.md`` has the layout.
"""

from __future__ import annotations

import struct
from typing import Final

from ..identity import ID_BYTES
from ..limits import MAX_KEEP
from ..paxos.acceptor import Register, Summary
from ..paxos.messages import FAST, Ballot, Proposal, ProposalId, Vote

# The first byte of a name says what it is.
REGISTER: Final = b"r"
SUMMARY: Final = b"s"

_NONE: Final = struct.Struct(">c3q")  # a summary without a chosen version
_RUN: Final = struct.Struct(">c5q")  # and one whose chosen versions follow one another
_BALLOT: Final = f"Q{ID_BYTES}s"
_PROPOSAL: Final = f"{ID_BYTES}sQ?"  # its id, and whether there is a value, which follows
_PROMISE: Final = struct.Struct(f">c{_BALLOT}")
_VOTE: Final = struct.Struct(f">c{_BALLOT}{_BALLOT}?{_PROPOSAL}")  # with the promise before it
_CHOSEN: Final = struct.Struct(f">c{_PROPOSAL}")


def summary_name(key: str) -> bytes:
    """The name of a key's summary; these sort as the keys do."""
    return SUMMARY + key.encode()


def registers_prefix(key: str) -> bytes:
    """What the names of a key's registers begin with, and no other names do."""
    data = key.encode()
    return REGISTER + len(data).to_bytes(2, "big") + data


def register_name(prefix: bytes, ver: int) -> bytes:
    """The name of the register of a version; these sort as the versions do."""
    return prefix + ver.to_bytes(8, "big")


def version_of(name: bytes) -> int:
    """The version whose register has this name."""
    return int.from_bytes(name[-8:], "big")


def dump_summary(summary: Summary, reach: int) -> bytes:
    """A summary as bytes, with the highest version that has a register."""
    top, floor, chosen = summary
    if not chosen:
        return _NONE.pack(b"s", top, reach, floor)
    if len(chosen) <= MAX_KEEP and chosen[-1] - chosen[0] == len(chosen) - 1:
        return _RUN.pack(b"r", top, reach, floor, chosen[0], len(chosen))
    return struct.pack(f">c3q{len(chosen)}q", b"s", top, reach, floor, *chosen)


def load_summary(data: bytes) -> tuple[Summary, int]:
    """The summary that these bytes are, and the highest version that has a register.

    Raises:
        ValueError: they are none.
    """
    try:
        match data[:1]:
            case b"r":
                _, top, reach, floor, first, count = _RUN.unpack(data)
                if 0 < count <= MAX_KEEP:
                    return Summary(top, floor, tuple(range(first, first + count))), reach
            case b"s":
                _, top, reach, floor, *chosen = struct.unpack(f">c{len(data) // 8}q", data)
                return Summary(top, floor, tuple(chosen)), reach
    except struct.error as error:
        raise ValueError(f"no summary: {error}") from None
    raise ValueError("no summary: it begins with none of its letters, or has too many versions")


def dump_register(register: Register) -> bytes:
    """A register as bytes."""
    (n, owner), vote, chosen = register
    assert len(owner) == ID_BYTES or not n, "what is shorter would come back longer"
    if chosen is not None:
        assert register == Register(chosen=chosen), "the rest is blank once one is chosen"
        (proposer, serial), value = chosen
        assert len(proposer) == ID_BYTES, "what is shorter would come back longer"
        return _CHOSEN.pack(b"c", proposer, serial, value is not None) + (value or b"")
    if vote is None:
        return _PROMISE.pack(b"p", n, owner)
    (m, voter), ((proposer, serial), value), append = vote
    assert len(proposer) == ID_BYTES
    assert len(voter) == ID_BYTES or not m
    head = _VOTE.pack(b"v", n, owner, m, voter, append, proposer, serial, value is not None)
    return head + (value or b"")


_FIRST: Final = _VOTE.pack(b"v", 0, b"", 0, b"", True, b"", 0, False)[
    : -struct.calcsize(f">{_PROPOSAL}")
]


def dump_first_vote(id_: ProposalId, value: bytes | None) -> bytes:
    """A register as bytes, of which the first vote is for an append at ballot 0.

    It is most of what there is to write, and so has a shorter way than :func:`dump_register`.
    """
    owner, serial = id_
    assert len(owner) == ID_BYTES, "what is shorter would come back longer"
    if value is None:
        return _FIRST + owner + serial.to_bytes(8, "big") + b"\0"
    return b"%b%b%b\1%b" % (_FIRST, owner, serial.to_bytes(8, "big"), value)


def is_vote_for(data: bytes, id_: ProposalId) -> bool:
    """Whether these bytes are a register with a vote for the proposal with this id."""
    owner, serial = id_
    return data.startswith(b"v") and data.startswith(owner + serial.to_bytes(8, "big"), len(_FIRST))


def size_of_value(data: bytes) -> int:
    """How many bytes the value has of a register that these bytes are; 0: it has none."""
    return len(data) - _HEADS[data[:1]]


_HEADS: Final = {b"p": _PROMISE.size, b"v": _VOTE.size, b"c": _CHOSEN.size}


def load_register(data: bytes) -> Register:
    """The register that these bytes are.

    Raises:
        ValueError: they are none.
    """
    try:
        match data[:1]:
            case b"p":
                _, n, owner = _PROMISE.unpack(data)
                return Register(_ballot(n, owner))
            case b"v":
                _, n, owner, m, voter, append, proposer, serial, there = _VOTE.unpack_from(data)
                proposal = _proposal(proposer, serial, there, data[_VOTE.size :])
                return Register(_ballot(n, owner), Vote(_ballot(m, voter), proposal, append))
            case b"c":
                _, proposer, serial, there = _CHOSEN.unpack_from(data)
                return Register(chosen=_proposal(proposer, serial, there, data[_CHOSEN.size :]))
    except struct.error as error:
        raise ValueError(f"no register: {error}") from None
    raise ValueError("no register: it begins with none of its letters")


def _ballot(n: int, proposer: bytes) -> Ballot:
    return Ballot(n, proposer) if n else FAST


def _proposal(proposer: bytes, serial: int, there: bool, value: bytes) -> Proposal:
    return Proposal(ProposalId(proposer, serial), value if there else None)
