"""Frames and messages, to bytes and back.

A frame is a 4-byte big-endian length and that many bytes of CBOR. The first frame on a
connection is the acceptor's greeting; after it, requests go one way and replies the
other, in frames of the form ``[first, [message, …]]``: messages whose request
ids are ``first``, ``first + 1``, … A reply has the id of its request. One frame of
requests may be answered by several frames of replies, in any order. Commits may go in a frame
whose ``first`` is null; it is not answered. A series of Accepts (`paxoskv.paxos.series`) is one
message with as many ids, and ``[first, count]`` answers those that were all voted for; the commits
of a series are one message without ids, for it is never answered.

Messages are arrays that begin with a small integer, their kind; ``docs/protocol.md``
lists them. Decoding takes every byte for hostile: what is not exactly one of these
arrays, with each number in its range, is a :class:`ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar, assert_never

import cbor2

from .errors import ProtocolError, StoreError
from .identity import ID_BYTES, Address, Identity, Member, parse_address
from .limits import (
    MAX_BALLOT,
    MAX_BATCH_MESSAGES,
    MAX_ENCODED_VALUE_BYTES,
    MAX_ENVELOPE_DEPTH,
    MAX_FRAME_BYTES,
    MAX_KEY_BYTES,
    MAX_PAGE_KEYS,
    MAX_REASON_LENGTH,
    MAX_REQUEST_ID,
    MAX_STORE_BYTES,
    MAX_VERSION,
)
from .paxos.messages import (
    END,
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Chosen,
    Commit,
    Compacted,
    Find,
    Found,
    Instance,
    Noted,
    Page,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Reply,
    Report,
    Request,
    Scan,
    Sight,
    State,
    Status,
    Told,
    Turn,
    Vote,
    Voted,
)
from .paxos.series import Accepts, CommitSeries
from .strictcbor import ARRAY, NO_TAGS, UNSIGNED, decode_one, read_head

PROTOCOL: Final = "paxoskv"
PROTOCOL_VERSION: Final = 3

Requests: TypeAlias = Sequence[Request | Accepts | CommitSeries]
"""Requests, among which there may be series."""

_MessageT = TypeVar("_MessageT")

# --- Frames ------------------------------------------------------------------------

_HEADER_BYTES: Final = 4
_FAREWELL: Final = b"\x81"  # how such a payload begins: an array of one item
_RUN: Final = b"\x82"  # of two
_UNANSWERED: Final = _RUN + b"\xf6"  # the first of which is null
_ARRAY: Final = b"\x80"  # the lowest head of an array; below are those of integers and strings


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

    def __len__(self) -> int:
        """How much of an unfinished frame it holds, in bytes."""
        return len(self._data)

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take bytes from the stream, and yield each payload that is complete by now.

        Raises:
            ProtocolError: a frame announces more bytes than the limit.
        """
        self._data += data
        data = b""  # what it holds is all that there is of it
        while len(self._data) >= _HEADER_BYTES:
            length = int.from_bytes(self._data[:_HEADER_BYTES], "big")
            if length > self._limit:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {self._limit}")
            end = _HEADER_BYTES + length
            if len(self._data) < end:
                return
            yield self._cut(end)

    def _cut(self, end: int) -> bytes:
        """Take a frame out; whoever gets its payload has it alone, and may let it go."""
        payload = bytes(self._data[_HEADER_BYTES:end])
        del self._data[:end]
        return payload


# --- Encoding ----------------------------------------------------------------------


def encode_requests(requests: Requests) -> bytes:
    """The part of a frame that is the same for every acceptor; see :func:`run`."""
    return cbor2.dumps([_request_array(request) for request in requests])


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """The replies of a frame; see :func:`run`."""
    return cbor2.dumps([_reply_array(reply) for reply in replies])


def encode_votes(count: int) -> bytes:
    """In place of replies: so many Accepts of a series were voted for."""
    return cbor2.dumps(count)


def run(first: int | None, messages: bytes) -> bytes:
    """A frame of encoded messages whose request ids begin at ``first``; None: they have none."""
    return frame(_RUN + cbor2.dumps(first) + messages)


def encode_greeting(identity: Identity) -> bytes:
    """The frame that an acceptor begins each connection with."""
    members = [[member.id, str(member.address)] for member in identity.members]
    return frame(
        cbor2.dumps([PROTOCOL, PROTOCOL_VERSION, identity.cluster, identity.acceptor, members])
    )


def encode_farewell(reason: str) -> bytes:
    """The frame with which an acceptor closes a connection that it cannot serve now."""
    shown = "".join(each if each.isprintable() else "?" for each in reason)
    return frame(cbor2.dumps([shown[:MAX_REASON_LENGTH]]))


def count_of(requests: Requests) -> int:
    """How many of these are to be answered, those of a series each counted."""
    count = len(requests)
    for each in requests:
        if isinstance(each, Accepts):
            count += len(each) - 1
        elif isinstance(each, CommitSeries):
            count -= 1
    return count


def size_of(message: Request | Reply) -> int:
    """About how many bytes a message takes in a frame, and never less."""
    match message:  # the most frequent first
        case Voted():
            return _FIXED_BYTES
        case Found():
            return size_of_sight("", message.sight)
        case Accept():
            return size_of_sight(message.instance.key, message.proposal)
        case Find():
            return size_of_sight(message.key, None)
        case Read((key, _)) | Prepare((key, _)) | Commit((key, _)) | Turn(key):
            return size_of_sight(key, None)
        case Scan(prefix, after):
            return size_of_sight(prefix + after, None)
        case Promise(sight) | Report(sight) | Refusal(_, sight):
            return size_of_sight("", sight)
        case Chosen(proposal) | Compacted(_, proposal) | Told(_, proposal):
            return size_of_sight("", proposal)
        case Page(items):
            return _FIXED_BYTES + sum(size_of_sight(key, sight) for key, _, sight in items)
        case _:
            return _FIXED_BYTES


_FIXED_BYTES: Final = 128  # heads, numbers and ids; an Accept has the most of them


def size_of_sight(key: str, sight: Sight | None) -> int:
    """About how many bytes a message takes that has these."""
    proposal = sight.proposal if isinstance(sight, Vote) else sight
    value = b"" if proposal is None or proposal.value is None else proposal.value
    return _FIXED_BYTES + 4 * len(key) + len(value)  # UTF-8: at most four bytes a character


def _request_array(request: Request | Accepts | CommitSeries) -> tuple[object, ...]:
    match request:  # the most frequent first
        case Accepts():
            columns = request.serials, request.keys, request.vers, request.values
            return (8, request.owner, *columns)
        case CommitSeries((owner, serial)):
            return (9, owner, serial)
        case Accept():  # taken apart in the cheapest way
            (key, ver), (n, proposer), ((owner, serial), value), append, after = request
            id_ = None if after is None else (*after,)  # cbor2 takes its time for named tuples
            return (2, key, ver, n, proposer, owner, serial, value, append, id_)
        case Find(key, below):
            return (4, key, below)
        case Read((key, ver)):
            return (0, key, ver)
        case Prepare((key, ver), (n, proposer)):
            return (1, key, ver, n, proposer)
        case Commit((key, ver), (owner, serial)):
            return (3, key, ver, owner, serial)
        case Scan(prefix, last):
            return (5, prefix, last)
        case Status():
            return (6,)
        case Turn(key):
            return (7, key)
        case _:
            assert_never(request)


def _reply_array(reply: Reply) -> tuple[object, ...]:
    match reply:  # the most frequent first
        case Voted():
            return (2, *reply)
        case Found():
            ver, sight, top = reply
            return (7, ver, _sight_array(sight), top)
        case Report(voted, top):
            return (0, _sight_array(voted), top)
        case Promise(voted, top):
            return (1, _sight_array(voted), top)
        case Refusal((n, proposer), voted, top):
            return (3, n, proposer, _sight_array(voted), top)
        case Chosen(((owner, serial), value), top):
            return (4, owner, serial, value, top)
        case Compacted(latest, ((owner, serial), value), top):
            return (5, latest, owner, serial, value, top)
        case Noted():
            return (6,)
        case Page(items, more):
            return (8, [(key, ver, _sight_array(sight)) for key, ver, sight in items], more)
        case State(release, keys, size):
            return (9, release, keys, size)
        case Told(ver, proposal):
            return (10, ver, _sight_array(proposal))
        case _:
            assert_never(reply)


def _sight_array(sight: Sight | None) -> tuple[object, ...] | None:
    match sight:
        case None:
            return None
        case Proposal():
            (owner, serial), value = sight
            return (owner, serial, value)
        case Vote():
            (n, proposer), ((owner, serial), value), append = sight
            return (n, proposer, owner, serial, value, append)


# --- Decoding ----------------------------------------------------------------------


def decode_requests(payload: bytes) -> tuple[int | None, list[Request | Accepts | CommitSeries]]:
    """The first request id (None: nobody wants the answers), and the requests, of a payload.

    Raises:
        ProtocolError: it is no frame of requests.
    """
    first, at = (None, 2) if payload[:2] == _UNANSWERED else _open_run(payload)
    _, encoded = _open_array(payload, at)
    requests = _messages(encoded, _REQUESTS)
    count = count_of(requests)
    if count > MAX_BATCH_MESSAGES:
        raise ProtocolError(f"a frame has at most {MAX_BATCH_MESSAGES} messages, series included")
    if first is not None:
        if not count:
            raise ProtocolError("a frame with a request id has a request that it is for")
        _integer(first, 0, MAX_REQUEST_ID - count)
    elif not all(isinstance(request, Commit | CommitSeries) for request in requests):
        raise ProtocolError("only commits need no answer")
    return first, requests


def open_replies(payload: bytes) -> tuple[int, int, bytes | None]:
    """What a frame's payload holds: the first request id, how many replies, and these, encoded.

    They may be of no interest, or the same as others that were decoded already. None in place of
    them: these are the votes that so many Accepts of a series asked for.

    Raises:
        StoreError: it is the farewell of an acceptor that cannot serve now.
        ProtocolError: it is no frame of messages.
    """
    if payload[:1] == _FAREWELL:
        (reason,) = decode_one(payload, NO_TAGS, MAX_ENVELOPE_DEPTH)
        raise StoreError(_text(reason, MAX_REASON_LENGTH))
    first, at = _open_run(payload)
    encoded: bytes | None = None
    if payload[at:] < _ARRAY:
        count, end = read_head(payload, at, UNSIGNED)
        if end != len(payload):
            raise ProtocolError("bad CBOR: more bytes follow the item")
        _integer(count, 1, MAX_BATCH_MESSAGES)
    else:
        count, encoded = _open_array(payload, at)
    return _integer(first, 0, MAX_REQUEST_ID - count), count, encoded


def decode_replies(encoded: bytes) -> list[Reply]:
    """The replies of a frame that was opened.

    Raises:
        ProtocolError: one of them is no reply.
    """
    return _messages(encoded, _REPLIES)


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


def _open_run(payload: bytes) -> tuple[int, int]:
    """The first request id of a frame, and where its messages begin."""
    if payload[:1] != _RUN:
        raise ProtocolError("a frame is [first, [message, …]]")
    return read_head(payload, 1, UNSIGNED)


def _open_array(payload: bytes, start: int) -> tuple[int, bytes]:
    """How many messages begin there, and all of them."""
    count, _ = read_head(payload, start, ARRAY)
    if not 1 <= count <= MAX_BATCH_MESSAGES:
        raise ProtocolError(f"a frame has 1 to {MAX_BATCH_MESSAGES} messages, not {count}")
    return count, payload[start:]


def _messages(
    encoded: bytes, kinds: Sequence[tuple[int, Callable[..., _MessageT]]]
) -> list[_MessageT]:
    arrays: list[Any] = decode_one(encoded, NO_TAGS, MAX_ENVELOPE_DEPTH - 1)
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
    return messages


def _read(_: int, key: Any, ver: Any) -> Read:
    return Read(_instance(key, ver))


def _prepare(_: int, key: Any, ver: Any, n: Any, proposer: Any) -> Prepare:
    ballot = _ballot(n, proposer)
    if ballot == FAST:
        raise ProtocolError("ballot 0 is never prepared")
    return Prepare(_instance(key, ver), ballot)


def _accept(
    _: int,
    key: Any,
    ver: Any,
    n: Any,
    proposer: Any,
    owner: Any,
    serial: Any,
    value: Any,
    append: Any,
    after: Any,
) -> Accept:
    instance = _instance(key, ver)
    proposal = _proposal(owner, serial, value)
    return Accept(instance, _ballot(n, proposer), proposal, _bool(append), _after(ver, after))


def _commit(_: int, key: Any, ver: Any, owner: Any, serial: Any) -> Commit:
    return Commit(_instance(key, ver), _proposal_id(owner, serial), None)


def _find(_: int, key: Any, below: Any) -> Find:
    return Find(_key(key), _integer(below, 1, END))


def _scan(_: int, prefix: Any, after: Any) -> Scan:
    return Scan(_prefix(prefix), _prefix(after))


def _status(_: int) -> Status:
    return Status()


def _turn(_: int, key: Any) -> Turn:
    return Turn(_key(key))


def _accepts(_: int, owner: Any, serials: Any, keys: Any, vers: Any, values: Any) -> Accepts:
    _columns(serials, keys, vers, values)
    _id(owner)
    _integers(serials, 1, MAX_BALLOT)
    _keys(keys)
    _integers(vers, 0, MAX_VERSION)
    if set(map(type, values)) != _ALL_BYTES or max(map(len, values)) > MAX_ENCODED_VALUE_BYTES:
        for value in values:
            _value(value)
    return Accepts(owner, serials, keys, vers, values)


def _commit_series(_: int, owner: Any, serial: Any) -> CommitSeries:
    return CommitSeries(_proposal_id(owner, serial))


def _report(_: int, voted: Any, top: Any) -> Report:
    return Report(_vote(voted), _top(top))


def _promise(_: int, voted: Any, top: Any) -> Promise:
    return Promise(_vote(voted), _top(top))


def _voted(_: int, top: Any, crowded: Any) -> Voted:
    return Voted(_top(top), _bool(crowded))


def _refusal(_: int, n: Any, proposer: Any, voted: Any, top: Any) -> Refusal:
    return Refusal(_ballot(n, proposer), _vote(voted), _top(top))


def _chosen(_: int, owner: Any, serial: Any, value: Any, top: Any) -> Chosen:
    return Chosen(_proposal(owner, serial, value), _top(top))


def _compacted(_: int, latest: Any, owner: Any, serial: Any, value: Any, top: Any) -> Compacted:
    proposal = _proposal(owner, serial, value)
    return Compacted(_integer(latest, 0, MAX_VERSION), proposal, _top(top))


def _noted(_: int) -> Noted:
    return Noted()


def _found(_: int, ver: Any, sight: Any, top: Any) -> Found:
    return Found(_top(ver), _sight(sight), _top(top))


def _page(_: int, items: Any, more: Any) -> Page:
    if type(items) is not list or len(items) > MAX_PAGE_KEYS:
        raise ProtocolError(f"expected at most {MAX_PAGE_KEYS} keys, not {_shown(items)}")
    return Page(tuple(map(_page_item, items)), _bool(more))


def _page_item(item: Any) -> tuple[str, int, Sight]:
    if type(item) is not list or len(item) != 3:
        raise ProtocolError(f"expected [key, version, sight], not {_shown(item)}")
    sight = _sight(item[2])
    if sight is None:
        raise ProtocolError("a page shows only what there is")
    return _key(item[0]), _integer(item[1], 0, MAX_VERSION), sight


def _state(_: int, release: Any, keys: Any, size: Any) -> State:
    return State(
        _text(release, MAX_REASON_LENGTH),
        _integer(keys, 0, MAX_STORE_BYTES),
        _integer(size, 0, MAX_STORE_BYTES),
    )


def _told(_: int, ver: Any, proposal: Any) -> Told:
    sight = _sight(proposal)
    if isinstance(sight, Vote):
        raise ProtocolError("a vote is nothing that can be told")
    return Told(_top(ver), sight)


# By kind: how many fields a message has, its kind included, and what makes it.
_REQUESTS: Final[Sequence[tuple[int, Callable[..., Request | Accepts | CommitSeries]]]] = (
    (3, _read),
    (5, _prepare),
    (10, _accept),
    (5, _commit),
    (3, _find),
    (3, _scan),
    (1, _status),
    (2, _turn),
    (6, _accepts),
    (3, _commit_series),
)
_REPLIES: Final[Sequence[tuple[int, Callable[..., Reply]]]] = (
    (3, _report),
    (3, _promise),
    (3, _voted),
    (5, _refusal),
    (5, _chosen),
    (6, _compacted),
    (1, _noted),
    (4, _found),
    (3, _page),
    (4, _state),
    (3, _told),
)


def _integer(item: Any, low: int, high: int) -> int:
    if type(item) is int and low <= item <= high:
        return item
    raise ProtocolError(f"expected an integer from {low} to {high}, not {_shown(item)}")


def _id(item: Any) -> bytes:
    if type(item) is bytes and len(item) == ID_BYTES:
        return item
    raise ProtocolError(f"expected an id of {ID_BYTES} bytes, not {_shown(item)}")


def _bool(item: Any) -> bool:
    if type(item) is bool:
        return item
    raise ProtocolError(f"expected true or false, not {_shown(item)}")


def _text(item: Any, limit: int) -> str:
    # It is shown to people, in a terminal.
    if type(item) is str and len(item) <= limit and item.isprintable():
        return item
    raise ProtocolError(f"expected a text of at most {limit} characters, not {_shown(item)}")


def _top(item: Any) -> int:
    return _integer(item, NO_TOP, MAX_VERSION)


def _prefix(item: Any) -> str:
    if type(item) is not str or _is_long(item):
        raise ProtocolError(f"expected at most {MAX_KEY_BYTES} bytes, not {_shown(item)}")
    return item


def _is_long(text: str) -> bool:
    """Whether it is too long for a key."""
    # Mostly one look is enough, for no character takes more than four bytes.
    return 4 * len(text) > MAX_KEY_BYTES and len(text.encode()) > MAX_KEY_BYTES


def _key(item: Any) -> str:
    if type(item) is not str or not item or _is_long(item):
        raise ProtocolError(f"expected a key of 1 to {MAX_KEY_BYTES} bytes, not {_shown(item)}")
    return item


def _instance(key: Any, ver: Any) -> Instance:
    return Instance(_key(key), _integer(ver, 0, MAX_VERSION))


def _ballot(n: Any, proposer: Any) -> Ballot:
    if n == 0 and type(n) is int:
        if proposer != FAST.proposer:
            raise ProtocolError("ballot 0 belongs to nobody")
        return FAST
    return Ballot(_integer(n, 1, MAX_BALLOT), _id(proposer))


def _proposal_id(owner: Any, serial: Any) -> ProposalId:
    return ProposalId(_id(owner), _integer(serial, 1, MAX_BALLOT))


def _after(ver: int, after: Any) -> ProposalId | None:
    """The id of what is chosen for the version before."""
    if after is None:
        return None
    if type(after) is not list or len(after) != 2 or ver == 0:
        raise ProtocolError(f"expected the id of a proposal, not {_shown(after)}")
    return _proposal_id(*after)


def _proposal(owner: Any, serial: Any, value: Any) -> Proposal:
    return Proposal(_proposal_id(owner, serial), _value(value))


def _value(item: Any) -> bytes | None:
    if item is None or (type(item) is bytes and len(item) <= MAX_ENCODED_VALUE_BYTES):
        return item
    raise ProtocolError(
        f"expected a value of at most {MAX_ENCODED_VALUE_BYTES} bytes, not {_shown(item)}"
    )


# Columns: mostly one look at the whole is enough; else each item is looked at.


def _columns(*columns: Any) -> None:
    """Columns must be arrays of one length, and not empty."""
    if any(type(each) is not list for each in columns) or not columns[0]:
        raise ProtocolError("a series is an array of columns, and never empty")
    if len(set(map(len, columns))) != 1:
        raise ProtocolError("the columns of a series are of one length")


def _integers(column: list[Any], low: int, high: int) -> None:
    if set(map(type, column)) != _ALL_INT or min(column) < low or max(column) > high:
        for item in column:
            _integer(item, low, high)


def _keys(column: list[Any]) -> None:
    if set(map(type, column)) == _ALL_STR:
        lengths = set(map(len, column))
        if 0 not in lengths and 4 * max(lengths) <= MAX_KEY_BYTES:
            return
    for item in column:
        _key(item)


_ALL_INT: Final[set[type]] = {int}
_ALL_STR: Final[set[type]] = {str}
_ALL_BYTES: Final[set[type]] = {bytes}


def _vote(item: Any) -> Vote | None:
    if item is None:
        return None
    if type(item) is not list or len(item) != 6:
        raise ProtocolError(f"expected a vote, not {_shown(item)}")
    n, proposer, owner, serial, value, append = item
    return Vote(_ballot(n, proposer), _proposal(owner, serial, value), _bool(append))


def _sight(item: Any) -> Sight | None:
    if type(item) is list and len(item) == 3:
        return _proposal(*item)
    return _vote(item)


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
