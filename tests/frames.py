"""Frames, as tests look at them."""

from __future__ import annotations

from paxoskv.paxos.messages import Reply
from paxoskv.wire import decode_replies, open_replies


def replies_in(payload: bytes) -> tuple[int, list[Reply]]:
    """The first request id, and the replies, of a frame's payload."""
    first, count, encoded = open_replies(payload)
    assert encoded is not None, "these are votes in one word"
    replies = decode_replies(encoded)
    assert len(replies) == count
    return first, replies
