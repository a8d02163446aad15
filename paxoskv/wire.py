"""Frames and messages, to bytes and back.

A frame is a 4-byte big-endian length and that many bytes of CBOR. The first frame on a
connection is the acceptor's greeting; after it, requests go one way and replies the
other, in frames of the form ``[first, [message, …]]``: a run of messages whose request
ids are ``first``, ``first + 1``, … A reply has the id of its request. One frame of
requests may be answered by several frames of replies, in any order.

Messages are arrays that begin with a small integer, their kind; ``docs/protocol.md``
lists them. Decoding takes every byte for hostile: what is not exactly one of these
arrays, with each number in its range, is a :class:`ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, assert_never

import cbor2

from .errors import ProtocolError
from .identity import ID_BYTES, Address, Identity, Member, parse_address
from .limits import (
    MAX_BALLOT,
    MAX_BATCH_MESSAGES,
    MAX_ENCODED_VALUE_BYTES,
    MAX_ENVELOPE_DEPTH,
    MAX_FRAME_BYTES,
    MAX_KEY_BYTES,
    MAX_REQUEST_ID,
    MAX_VERSION,
)
from .paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Instance,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Reply,
    Report,
    Request,
    Vote,
    Voted,
)
from .strictcbor import NO_TAGS, decode_one

PROTOCOL: Final = "paxoskv"
PROTOCOL_VERSION: Final = 1

_MessageT = TypeVar("_MessageT")

# --- Frames ------------------------------------------------------------------------

_HEADER_BYTES: Final = 4


def frame(payload: bytes) -> bytes:
    """A frame with this payload."""
    assert len(payload) <= MAX_FRAME_BYTES
    return len(payload).to_bytes(_HEADER_BYTES, "big") + payload


class FrameBuffer:
    """Cuts a stream of bytes into the payloads of its frames.

    It holds the bytes of one unfinished frame at most, besides what was fed last.

    Args:
        limit: the longest payload in bytes.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._data = bytearray()

    def __bool__(self) -> bool:
        """Whether the beginning of a frame waits for its rest."""
        return bool(self._data)

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take bytes from the stream, and yield each payload that is complete by now.

        Raises:
            ProtocolError: a frame announces more bytes than the limit.
        """
        self._data += data
        while len(self._data) >= _HEADER_BYTES:
            length = int.from_bytes(self._data[:_HEADER_BYTES], "big")
            if length > self._limit:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {self._limit}")
            end = _HEADER_BYTES + length
            if len(self._data) < end:
                return
            payload = bytes(self._data[_HEADER_BYTES:end])
            del self._data[:end]
            yield payload


# --- Encoding ----------------------------------------------------------------------


def encode_requests(requests: Sequence[Request]) -> bytes:
    """The part of a frame that is the same for every acceptor; see :func:`run`."""
    return cbor2.dumps([_request_array(request) for request in requests])


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """The replies of a frame; see :func:`run`."""
    return cbor2.dumps([_reply_array(reply) for reply in replies])


def run(first: int, messages: bytes) -> bytes:
    """A frame of encoded messages whose request ids begin at ``first``."""
    return frame(b"\x82" + cbor2.dumps(first) + messages)


def encode_greeting(identity: Identity) -> bytes:
    """The frame that an acceptor begins each connection with."""
    members = [[member.id, str(member.address)] for member in identity.members]
    return frame(
        cbor2.dumps([PROTOCOL, PROTOCOL_VERSION, identity.cluster, identity.acceptor, members])
    )


def size_of(message: Request | Reply) -> int:
    """About how many bytes a message takes in a frame, and never less."""
    size = _FIXED_BYTES
    if isinstance(message, Read | Prepare | Accept):
        size += 4 * len(message.instance.key)  # UTF-8 has at most four bytes a character
    if isinstance(message, Accept):
        proposal: Proposal | None = message.proposal
    elif isinstance(message, Voted | Read | Prepare) or message.voted is None:
        proposal = None
    else:
        proposal = message.voted.proposal
    if proposal is not None and proposal.value is not None:
        size += len(proposal.value)
    return size


_FIXED_BYTES: Final = 128  # heads, numbers and ids; a refusal has the most of them


def _request_array(request: Request) -> tuple[object, ...]:
    match request:
        case Read((key, ver)):
            return (0, key, ver)
        case Prepare((key, ver), (n, proposer)):
            return (1, key, ver, n, proposer)
        case Accept((key, ver), (n, proposer), ((owner, count), value)):
            return (2, key, ver, n, proposer, owner, count, value)
        case _:
            assert_never(request)


def _reply_array(reply: Reply) -> tuple[object, ...]:
    match reply:
        case Report(voted, top):
            return (0, _vote_array(voted), top)
        case Promise(voted, top):
            return (1, _vote_array(voted), top)
        case Voted(top):
            return (2, top)
        case Refusal((n, proposer), voted, top):
            return (3, n, proposer, _vote_array(voted), top)
        case _:
            assert_never(reply)


def _vote_array(vote: Vote | None) -> tuple[object, ...] | None:
    if vote is None:
        return None
    (n, proposer), ((owner, count), value) = vote
    return (n, proposer, owner, count, value)


# --- Decoding ----------------------------------------------------------------------


def decode_requests(payload: bytes) -> tuple[int, list[Request]]:
    """The first request id, and the requests, of a frame's payload.

    Raises:
        ProtocolError: it is no frame of requests.
    """
    return _decode_run(payload, _REQUESTS)


def decode_replies(payload: bytes) -> tuple[int, list[Reply]]:
    """The first request id, and the replies, of a frame's payload.

    Raises:
        ProtocolError: it is no frame of replies.
    """
    return _decode_run(payload, _REPLIES)


def decode_greeting(payload: bytes) -> Identity:
    """The identity that an acceptor greets with.

    Raises:
        ProtocolError: it is no greeting of this protocol and version.
    """
    item = decode_one(payload, NO_TAGS, MAX_ENVELOPE_DEPTH)
    if type(item) is not list or len(item) < 2 or item[0] != PROTOCOL:
        raise ProtocolError("it does not greet as a paxoskv acceptor")
    if item[1] != PROTOCOL_VERSION:
        raise ProtocolError(
            f"it speaks version {item[1]!r} of the protocol, and this is version "
            f"{PROTOCOL_VERSION}; run the same release of paxoskv on both sides"
        )
    if len(item) != 5 or type(item[4]) is not list:
        raise ProtocolError("a greeting is [protocol, version, cluster, acceptor, members]")
    identity = Identity(_id(item[2]), _id(item[3]), tuple(map(_member, item[4])))
    try:
        identity.check()
    except ValueError as error:
        raise ProtocolError(f"bad greeting: {error}") from None
    return identity


def _decode_run(
    payload: bytes, kinds: Sequence[tuple[int, Callable[..., _MessageT]]]
) -> tuple[int, list[_MessageT]]:
    item = decode_one(payload, NO_TAGS, MAX_ENVELOPE_DEPTH)
    if type(item) is not list or len(item) != 2 or type(item[1]) is not list:
        raise ProtocolError("a frame is [first, [message, …]]")
    first, arrays = item
    if not 1 <= len(arrays) <= MAX_BATCH_MESSAGES:
        raise ProtocolError(f"a frame has 1 to {MAX_BATCH_MESSAGES} messages, not {len(arrays)}")
    _integer(first, 0, MAX_REQUEST_ID - len(arrays))
    messages = []
    for array in arrays:
        if type(array) is not list or not array:
            raise ProtocolError("a message is an array that begins with its kind")
        kind = array[0]
        if type(kind) is not int or not 0 <= kind < len(kinds):
            raise ProtocolError(f"there is no message of kind {_shown(kind)} here")
        fields, build = kinds[kind]
        if len(array) != fields:
            raise ProtocolError(f"kind {kind} has {fields} fields here, not {len(array)}")
        messages.append(build(*array))
    return first, messages


def _read(_: int, key: Any, ver: Any) -> Read:
    return Read(_instance(key, ver))


def _prepare(_: int, key: Any, ver: Any, n: Any, proposer: Any) -> Prepare:
    ballot = _ballot(n, proposer)
    if ballot == FAST:
        raise ProtocolError("ballot 0 is never prepared")
    return Prepare(_instance(key, ver), ballot)


def _accept(
    _: int, key: Any, ver: Any, n: Any, proposer: Any, owner: Any, count: Any, value: Any
) -> Accept:
    return Accept(_instance(key, ver), _ballot(n, proposer), _proposal(owner, count, value))


def _report(_: int, voted: Any, top: Any) -> Report:
    return Report(_vote(voted), _integer(top, NO_TOP, MAX_VERSION))


def _promise(_: int, voted: Any, top: Any) -> Promise:
    return Promise(_vote(voted), _integer(top, NO_TOP, MAX_VERSION))


def _voted(_: int, top: Any) -> Voted:
    return Voted(_integer(top, NO_TOP, MAX_VERSION))


def _refusal(_: int, n: Any, proposer: Any, voted: Any, top: Any) -> Refusal:
    return Refusal(_ballot(n, proposer), _vote(voted), _integer(top, NO_TOP, MAX_VERSION))


# By kind: how many fields a message has, its kind included, and what makes it.
_REQUESTS: Final[Sequence[tuple[int, Callable[..., Request]]]] = (
    (3, _read),
    (5, _prepare),
    (8, _accept),
)
_REPLIES: Final[Sequence[tuple[int, Callable[..., Reply]]]] = (
    (3, _report),
    (3, _promise),
    (2, _voted),
    (5, _refusal),
)


def _integer(item: Any, low: int, high: int) -> int:
    if type(item) is int and low <= item <= high:
        return item
    raise ProtocolError(f"expected an integer from {low} to {high}, not {_shown(item)}")


def _id(item: Any) -> bytes:
    if type(item) is bytes and len(item) == ID_BYTES:
        return item
    raise ProtocolError(f"expected an id of {ID_BYTES} bytes, not {_shown(item)}")


def _instance(key: Any, ver: Any) -> Instance:
    if type(key) is not str or not key or len(key.encode()) > MAX_KEY_BYTES:
        raise ProtocolError(f"expected a key of 1 to {MAX_KEY_BYTES} bytes, not {_shown(key)}")
    return Instance(key, _integer(ver, 0, MAX_VERSION))


def _ballot(n: Any, proposer: Any) -> Ballot:
    if n == 0 and type(n) is int:
        if proposer != FAST.proposer:
            raise ProtocolError("ballot 0 belongs to nobody")
        return FAST
    return Ballot(_integer(n, 1, MAX_BALLOT), _id(proposer))


def _proposal(owner: Any, count: Any, value: Any) -> Proposal:
    if value is not None and (type(value) is not bytes or len(value) > MAX_ENCODED_VALUE_BYTES):
        raise ProtocolError(
            f"expected a value of at most {MAX_ENCODED_VALUE_BYTES} bytes, not {_shown(value)}"
        )
    return Proposal(ProposalId(_id(owner), _integer(count, 1, MAX_BALLOT)), value)


def _vote(item: Any) -> Vote | None:
    if item is None:
        return None
    if type(item) is not list or len(item) != 5:
        raise ProtocolError(f"expected a vote, not {_shown(item)}")
    n, proposer, owner, count, value = item
    return Vote(_ballot(n, proposer), _proposal(owner, count, value))


def _member(item: Any) -> Member:
    if type(item) is not list or len(item) != 2:
        raise ProtocolError(f"expected a member, not {_shown(item)}")
    try:
        address: Address = parse_address(item[1])
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"bad greeting: {error}") from None
    return Member(_id(item[0]), address)


def _shown(item: object) -> str:
    """A short description of what a stranger sent, fit for a log."""
    match item:
        case str() | bytes() | list() | dict():
            return f"a {type(item).__name__} of length {len(item)}"
        case int() if abs(item) >= 2**64:
            return "a huge int"
        case _:
            return repr(item)[:40]
