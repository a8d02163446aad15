"""Frames and messages: everything of ours survives the way, nothing else gets through."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxoskv.errors import ProtocolError
from paxoskv.identity import Address, Identity, Member, new_cluster
from paxoskv.limits import (
    MAX_BALLOT,
    MAX_BATCH_MESSAGES,
    MAX_ENCODED_VALUE_BYTES,
    MAX_FRAME_BYTES,
    MAX_KEY_BYTES,
    MAX_REQUEST_ID,
    MAX_STORE_BYTES,
    MAX_VERSION,
)
from paxoskv.paxos.messages import (
    END,
    FAST,
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
    State,
    Status,
    Told,
    Turn,
    Vote,
    Voted,
)
from paxoskv.paxos.series import Accepts, CommitSeries
from paxoskv.wire import (
    FrameBuffer,
    count_of,
    decode_greeting,
    decode_requests,
    encode_greeting,
    encode_replies,
    encode_requests,
    encode_votes,
    frame,
    open_replies,
    run,
    size_of,
)

from .frames import replies_in

ID = b"i" * 16

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_KEY_BYTES // 4)
instances = st.builds(Instance, keys, st.integers(0, MAX_VERSION))
ids = st.binary(min_size=16, max_size=16)
classic = st.builds(Ballot, st.integers(1, MAX_BALLOT), ids)
ballots = st.just(FAST) | classic
later_instances = st.builds(Instance, keys, st.integers(1, MAX_VERSION))
proposal_ids = st.builds(ProposalId, ids, st.integers(1, MAX_BALLOT))
proposals = st.builds(
    Proposal,
    proposal_ids,
    st.none() | st.binary(max_size=200),
)
cast = st.builds(Vote, ballots, proposals, st.booleans())
votes = st.none() | cast
versions = st.integers(0, MAX_VERSION)
tops = st.integers(-1, MAX_VERSION)
prefixes = st.just("") | keys
items = st.tuples(keys, versions, cast | proposals)
sizes = st.integers(0, MAX_STORE_BYTES)
commits = st.builds(Commit, instances, proposal_ids, st.none())
requests: st.SearchStrategy[Request] = (
    st.builds(Read, instances)
    | st.builds(Prepare, instances, classic)
    | st.builds(Accept, instances, ballots, proposals, st.booleans(), st.none())
    | st.builds(Accept, later_instances, ballots, proposals, st.booleans(), proposal_ids)
    | commits
    | st.builds(Find, keys, st.integers(1, END))
    | st.builds(Scan, prefixes, prefixes)
    | st.builds(Turn, keys)
    | st.just(Status())
)
replies: st.SearchStrategy[Reply] = (
    st.builds(Report, votes, tops)
    | st.builds(Promise, votes, tops)
    | st.builds(Voted, tops, st.booleans())
    | st.builds(Refusal, ballots, votes, tops)
    | st.builds(Chosen, proposals, tops)
    | st.builds(Compacted, versions, proposals, tops)
    | st.just(Noted())
    | st.builds(Found, tops, votes | proposals, tops)
    | st.builds(Told, tops, st.none() | proposals)
    | st.builds(Page, st.lists(items, max_size=3).map(tuple), st.booleans())
    | st.builds(State, st.text("abc.-", max_size=20), sizes, sizes)
)


def payload_of(data: bytes) -> bytes:
    (payload,) = FrameBuffer().feed(data)
    return payload


@given(st.integers(0, 2**40), st.lists(requests, min_size=1, max_size=5))
def test_requests_survive_the_way(first: int, messages: list[Request]) -> None:
    payload = payload_of(run(first, encode_requests(messages)))
    assert decode_requests(payload) == (first, messages)
    assert len(payload) <= 16 + sum(map(size_of, messages))


@given(st.lists(commits, min_size=1, max_size=5))
def test_commits_survive_the_way_without_ids(messages: list[Request]) -> None:
    payload = payload_of(run(None, encode_requests(messages)))
    assert decode_requests(payload) == (None, messages)
    assert len(payload) <= 16 + sum(map(size_of, messages))


@given(st.integers(0, 2**40), st.lists(replies, min_size=1, max_size=5))
def test_replies_survive_the_way(first: int, messages: list[Reply]) -> None:
    payload = payload_of(run(first, encode_replies(messages)))
    assert replies_in(payload) == (first, messages)
    assert len(payload) <= 16 + sum(map(size_of, messages))


columns = st.lists(
    st.tuples(
        st.integers(1, MAX_BALLOT),
        keys,
        versions,
        st.none() | st.binary(max_size=200),
    ),
    min_size=1,
    max_size=5,
)


@given(ids, columns, proposal_ids, st.integers(0, 2**40))
def test_series_survive_the_way(
    owner: bytes,
    rows: list[tuple[int, str, int, bytes | None]],
    chosen: ProposalId,
    first: int,
) -> None:
    accepts = Accepts(owner, *zip(*rows, strict=True))
    commits = CommitSeries(chosen)
    read = Read(Instance("foo", 0))
    payload = payload_of(run(first, encode_requests([commits, read, accepts])))
    decoded_first, (*others, series) = decode_requests(payload)
    assert (decoded_first, others) == (first, [commits, read])
    assert isinstance(series, Accepts)
    assert [*series] == [*accepts]
    assert count_of([commits, read, accepts]) == 1 + len(rows), "commits are not answered"
    assert len(payload) <= 144 + sum(map(size_of, [read, *accepts]))


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, MAX_BATCH_MESSAGES])
def test_votes_survive_the_way(count: int) -> None:
    assert open_replies(payload_of(run(5, encode_votes(count)))) == (5, count, None)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(cbor2.dumps([0, 0]), id="none"),
        pytest.param(cbor2.dumps([0, MAX_BATCH_MESSAGES + 1]), id="too many"),
        pytest.param(cbor2.dumps([0, -1]), id="less than none"),
        pytest.param(cbor2.dumps([0, True]), id="a bool"),
        pytest.param(cbor2.dumps([0, 1.0]), id="a float"),
        pytest.param(cbor2.dumps([0, None]), id="null"),
        pytest.param(cbor2.dumps([0, "1"]), id="text"),
        pytest.param(cbor2.dumps([0, {}]), id="a map"),
        pytest.param(cbor2.dumps([MAX_REQUEST_ID, 1]), id="an id too high"),
        pytest.param(cbor2.dumps([0, 1]) + b"\0", id="a byte after the end"),
        pytest.param(b"\x82\0\x19", id="half a number"),
        pytest.param(b"\x82\0", id="nothing"),
        pytest.param(b"\x83\0\1\1", id="a third item"),
    ],
)
def test_what_is_no_number_of_votes_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_replies(payload)


def test_a_greeting_survives_the_way() -> None:
    for identity in new_cluster([Address("a.example", 1), Address("::1", 2), Address("b", 3)]):
        assert decode_greeting(payload_of(encode_greeting(identity))) == identity


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_frames_survive_any_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    buffer, got = FrameBuffer(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += buffer.feed(stream[:cut])
        stream = stream[cut:]
    assert got == payloads
    assert not buffer


def test_a_frame_over_the_limit_is_refused_by_its_header_alone() -> None:
    with pytest.raises(ProtocolError, match=f"{MAX_FRAME_BYTES + 1} bytes is over the limit"):
        list(FrameBuffer().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big")))


READ = [0, "foo", 0]
ACCEPTS = [8, ID, [1, 2], ["foo", "bar"], [0, 1], [b"value", None]]
COMMITS = [9, ID, 1]


def changed(message: list[object], field: int, value: object) -> list[object]:
    return [0, [READ, [*message[:field], value, *message[field + 1 :]]]]


PREPARE = [1, "foo", 0, 1, ID]
ACCEPT = [2, "foo", 1, 1, ID, ID, 1, b"value", False, [ID, 1]]

HOSTILE_REQUESTS: dict[str, object] = {
    "no array": 5,
    "a map": {0: 1},
    "one element": [0],
    "no messages": [0, []],
    "too many": [0, [READ] * (MAX_BATCH_MESSAGES + 1)],
    "negative id": [-1, [READ]],
    "id too high": [2**53 - 1, [READ]],
    "id a bool": [True, [READ]],
    "id a float": [0.0, [READ]],
    "message no array": [0, ["read"]],
    "message empty": [0, [[]]],
    "kind unknown": [0, [[10, "foo", 0]]],
    "kind a reply's": [0, [[3, 1, ID, None, 0]]],
    "kind negative": [0, [[-1, "foo", 0]]],
    "kind a bool": [0, [[False, "foo", 0]]],
    "a field too few": [0, [READ[:-1]]],
    "a field too many": [0, [[*READ, 0]]],
    "key empty": [0, [[0, "", 0]]],
    "key bytes": [0, [[0, b"foo", 0]]],
    "key too long": [0, [[0, "€" * (MAX_KEY_BYTES // 3 + 1), 0]]],
    "version negative": [0, [[0, "foo", -1]]],
    "version too high": [0, [[0, "foo", MAX_VERSION + 1]]],
    "version a bool": [0, [[0, "foo", True]]],
    "version a float": [0, [[0, "foo", 0.0]]],
    "ballot 0 prepared": [0, [[1, "foo", 0, 0, b""]]],
    "ballot 0 of somebody": [0, [[2, "foo", 0, 0, ID, ID, 1, None, False, None]]],
    "ballot of nobody": [0, [[1, "foo", 0, 1, b""]]],
    "ballot negative": [0, [[1, "foo", 0, -1, ID]]],
    "ballot too high": [0, [[1, "foo", 0, MAX_BALLOT + 1, ID]]],
    "proposer short": [0, [[1, "foo", 0, 1, ID[:-1]]]],
    "proposer text": [0, [[1, "foo", 0, 1, "i" * 16]]],
    "serial zero": [0, [[2, "foo", 0, 1, ID, ID, 0, None, False, None]]],
    "append no bool": [0, [[2, "foo", 0, 1, ID, ID, 1, None, 0, None]]],
    "value text": [0, [[2, "foo", 0, 1, ID, ID, 1, "value", False, None]]],
    "value too large": [
        0,
        [[2, "foo", 0, 1, ID, ID, 1, bytes(MAX_ENCODED_VALUE_BYTES + 1), False, None]],
    ],
    "after an id only": [0, [[*ACCEPT[:-1], ID]]],
    "after a long id": [0, [[*ACCEPT[:-1], [ID, 1, 1]]]],
    "after a short owner": [0, [[*ACCEPT[:-1], [ID[:-1], 1]]]],
    "after the serial 0": [0, [[*ACCEPT[:-1], [ID, 0]]]],
    "after, at version 0": [0, [[2, "foo", 0, *ACCEPT[3:]]]],
    "nested too deeply": [0, [[[[[[[[[[]]]]]]]]]]],
    "commits alone, with an id": [0, [COMMITS]],
    "a series of too many": [
        0,
        [[8, ID, [1] * 513, ["foo"] * 513, [0] * 513, [None] * 513]],
    ],
    "series that are too many together": [
        0,
        2 * [[8, ID, [1] * 257, ["foo"] * 257, [0] * 257, [None] * 257]],
    ],
    "a series that is too long beside a read": [
        0,
        [READ, [8, ID, [1] * 512, ["foo"] * 512, [0] * 512, [None] * 512]],
    ],
    "a series of none": [0, [READ, [8, ID, [], [], [], []]]],
    "an owner of many": changed(ACCEPTS, 1, [ID, ID]),
    "an owner short": changed(ACCEPTS, 1, ID[:-1]),
    "commits of an owner short": changed(COMMITS, 1, ID[:-1]),
    "no column": changed(ACCEPTS, 3, "ab"),
    "a column short": changed(ACCEPTS, 3, ["foo"]),
    "a column long": changed(ACCEPTS, 5, [b"", b"", b""]),
    "a serial zero": changed(ACCEPTS, 2, [1, 0]),
    "a serial a bool": changed(ACCEPTS, 2, [True, 2]),
    "a serial too high": changed(ACCEPTS, 2, [1, MAX_BALLOT + 1]),
    "commits of no serial": changed(COMMITS, 2, [1]),
    "commits of a serial too high": changed(COMMITS, 2, MAX_BALLOT + 1),
    "a key empty": changed(ACCEPTS, 3, ["foo", ""]),
    "a key bytes": changed(ACCEPTS, 3, [b"foo", "bar"]),
    "a key too long": changed(ACCEPTS, 3, ["foo", "€" * (MAX_KEY_BYTES // 3 + 1)]),
    "a version negative": changed(ACCEPTS, 4, [0, -1]),
    "a version too high": changed(ACCEPTS, 4, [0, MAX_VERSION + 1]),
    "a version a float": changed(ACCEPTS, 4, [0, 1.0]),
    "a value text": changed(ACCEPTS, 5, [b"", "value"]),
    "a value too large": changed(ACCEPTS, 5, [b"", bytes(MAX_ENCODED_VALUE_BYTES + 1)]),
}


@pytest.mark.parametrize("name", HOSTILE_REQUESTS)
def test_what_is_no_frame_of_requests_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        decode_requests(cbor2.dumps(HOSTILE_REQUESTS[name]))


def test_the_frames_that_the_hostile_ones_are_made_of_are_good() -> None:
    good = [READ, PREPARE, ACCEPT, ACCEPTS, COMMITS]
    _, decoded = decode_requests(cbor2.dumps([0, good]))
    assert [type(request) for request in decoded] == [Read, Prepare, Accept, Accepts, CommitSeries]


def test_commits_of_a_series_need_no_ids_and_a_series_of_accepts_does() -> None:
    assert decode_requests(cbor2.dumps([None, [COMMITS]])) == (
        None,
        [CommitSeries(ProposalId(ID, 1))],
    )
    with pytest.raises(ProtocolError, match="only commits"):
        decode_requests(cbor2.dumps([None, [COMMITS, ACCEPTS]]))


@pytest.mark.parametrize(
    "message",
    [
        [0, None],
        [0, None, -2],
        [0, [1, ID, ID, 1], 0],
        [0, [1, ID, ID, 1, "text"], 0],
        [0, False, 0],
        [2, None],
        [3, 1, ID, None],
        [4, 0],
        [10, 0, [0, b"", ID, 1, b"a vote", False]],
        [10, -2, None],
    ],
)
def test_what_is_no_reply_is_refused(message: object) -> None:
    with pytest.raises(ProtocolError):
        replies_in(cbor2.dumps([0, [message]]))


def tagged(tag: int, item: bytes) -> bytes:
    return b"\xda" + tag.to_bytes(4, "big") + item


GOOD = cbor2.dumps([0, [READ]])


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(GOOD + b"\x00", id="a byte after the end"),
        pytest.param(GOOD + GOOD, id="a second item"),
        pytest.param(GOOD[:-1], id="truncated"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x82", id="no request id"),
        pytest.param(b"\x82\x1a\x00\x00\x00", id="half a request id"),
        pytest.param(b"\x82\x20" + GOOD[2:], id="a request id below 0"),
        pytest.param(b"\x82\x00\xa1\x00\x00", id="a map of messages"),
        pytest.param(b"\x82\x00\x99\x00", id="half a number of messages"),
        pytest.param(b"\x82\x00\x82" + GOOD[3:], id="a message too few"),
        pytest.param(b"\x82\x00\x80", id="no message"),
        pytest.param(b"\x82\xf6\x80", id="no message that needs no answer"),
        pytest.param(b"\x82\xf6" + GOOD[2:], id="a read without an id"),
        pytest.param(b"\x82\xf7" + GOOD[2:], id="undefined for a request id"),
        pytest.param(b"\x9f\x00\x9f\x83\x00cfoo\x00\xff\xff", id="indefinite arrays"),
        pytest.param(b"\x82\x00\x81\x83\x00\x7fcfoo\xff\x00", id="indefinite text"),
        pytest.param(b"\x82\xc2\x41\x00\x81\x83\x00cfoo\x00", id="bignum for an integer"),
        pytest.param(tagged(55799, GOOD), id="self-described"),
        pytest.param(tagged(28, GOOD), id="shareable"),
        pytest.param(b"\x82\xd8\x1c\x00" + GOOD[2:], id="shareable inside"),
        pytest.param(tagged(256, GOOD), id="string references"),
        pytest.param(tagged(35, b"\x61a"), id="a regular expression"),
        pytest.param(b"\x82\x00\x81\x83\x00\x63f\xffo\x00", id="text that is not UTF-8"),
        pytest.param(b"\x9b" + b"\xff" * 8, id="an array of 2**64 - 1"),
        pytest.param(b"\x5b" + b"\x7f" * 8, id="bytes without end"),
        pytest.param(b"\x81" * 100_000, id="nested 100,000 deep"),
    ],
)
def test_cbor_that_is_not_plain_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_requests(payload)


def test_replies_have_ids() -> None:
    with pytest.raises(ProtocolError):
        replies_in(b"\x82\xf6" + GOOD[2:])


def test_a_frame_may_have_heads_of_any_length() -> None:
    _, messages = decode_requests(GOOD)
    for first, one in (b"\x18\x05", b"\x98\x01"), (b"\x1b" + bytes(7) + b"\5", b"\x9a\0\0\0\1"):
        assert decode_requests(b"\x82" + first + one + GOOD[3:]) == (5, messages)


@pytest.mark.parametrize("item", [b"\x00", b"\x41\x01", b"\x61a", b"\x80", b"\xf6"])
def test_no_tag_at_all_passes_in_the_envelope(item: bytes) -> None:
    for tag in [*range(1100), 43000, 55799, 2**32 - 1]:
        with pytest.raises(ProtocolError, match=f"tag {tag} is not allowed|bad CBOR"):
            decode_requests(b"\x82\x00" + tagged(tag, item))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_politely(payload: bytes) -> None:
    for decode in (decode_requests, replies_in, decode_greeting):
        with pytest.raises(ProtocolError):
            decode(payload)


json_like: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.tuples(st.integers(-1, 3), st.lists(st.lists(json_like, max_size=8), max_size=3)))
def test_random_shapes_are_refused_or_are_messages(item: tuple[int, list[object]]) -> None:
    try:
        data = cbor2.dumps(item)
    except UnicodeEncodeError:
        return
    for decode in (decode_requests, replies_in):
        try:
            _, messages = decode(data)
        except ProtocolError:
            continue
        assert len(messages) == len(item[1])


def test_a_greeting_of_another_version_says_so() -> None:
    with pytest.raises(ProtocolError, match=r"speaks version 1 .* this is version 3"):
        decode_greeting(cbor2.dumps(["paxoskv", 1, "whatever it looked like then"]))


def test_a_greeting_must_be_of_a_cluster() -> None:
    member = Member(ID, Address("a", 1))
    for bad in (
        Identity(ID, ID, ()),
        Identity(ID, ID, (member, member)),
        Identity(ID, ID, (member, Member(b"j" * 16, member.address))),
        Identity(ID, b"k" * 16, (member,)),
    ):
        with pytest.raises(ProtocolError, match="bad greeting"):
            decode_greeting(payload_of(encode_greeting(bad)))
