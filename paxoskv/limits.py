"""Every limit of paxoskv, named once (rule R12).

A number that bounds a queue, a frame, a retry or a wait stands here and nowhere
else. Sizes are in bytes and times in seconds, unless a comment says otherwise.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- What a user may store -------------------------------------------------------

MAX_KEY_BYTES: Final = 1 * KIB
"""The longest key, in UTF-8."""

MAX_VALUE_BYTES: Final = 1 * MIB
"""The largest value: a ``bytes`` or a ``str`` of this length still fits."""

MAX_ENCODED_VALUE_BYTES: Final = MAX_VALUE_BYTES + 5
"""The same with the head (at most five bytes) that CBOR puts before the value."""

MAX_VALUE_DEPTH: Final = 64
"""How deeply lists and dicts in a value may be nested."""

MAX_VERSION: Final = 2**53 - 1
"""The highest version: what a float, and so JSON, still counts exactly."""

# --- The algorithm ---------------------------------------------------------------

MAX_BALLOT: Final = 2**53 - 1
"""The highest ballot number, and the highest count of a proposal id."""

MAX_ACCEPTORS: Final = 15
"""The largest cluster. Each write talks to all of them; five are plenty."""

MAX_PAUSE_ROUND_TRIPS: Final = 32.0
"""The longest pause of a proposer that lost a duel, in round trips."""

MAX_PAUSE: Final = 1.0
"""The same in seconds, whatever a round trip takes."""

# --- The wire --------------------------------------------------------------------

MAX_FRAME_BYTES: Final = 16 * MIB
"""The longest frame that is read. A header that announces more closes the connection."""

MAX_GREETING_BYTES: Final = 64 * KIB
"""The longest greeting."""

MAX_ENVELOPE_DEPTH: Final = 8
"""How deeply the arrays of a frame may be nested."""

MAX_REQUEST_ID: Final = 2**53 - 1
"""The highest request id; each connection begins at 0, and none lives to use them up."""

MAX_BATCH_MESSAGES: Final = 512
"""Messages in one frame."""

MAX_BATCH_BYTES: Final = 256 * KIB
"""Where a frame is cut, unless one message alone is larger."""

RECEIVE_BYTES: Final = 64 * KIB
"""What is read from a socket at a time."""

# --- A client --------------------------------------------------------------------

DEFAULT_TIMEOUT: Final = 5.0
"""How long a call may take, unless ``open_kv`` is told otherwise."""

MAX_OPEN_ROUNDS: Final = 16
"""Rounds that wait for replies at a time; further callers wait in order."""

MAX_UNANSWERED_FRAMES: Final = 64
"""Frames that an acceptor may owe an answer to before its link is *behind*."""

MAX_UNANSWERED_BYTES: Final = 4 * MIB
"""The same in bytes."""

CONNECT_TIMEOUT: Final = 2.0
"""How long an acceptor may take to accept a connection and to greet."""

SILENCE_TIMEOUT: Final = 3.0
"""How long an acceptor that owes an answer may send nothing before its link is reopened."""

RECONNECT_FIRST: Final = 0.02
"""The first pause before a link is opened again; it doubles with each failure."""

RECONNECT_MAX: Final = 1.0
"""The longest such pause."""

# --- An acceptor -----------------------------------------------------------------

MAX_CONNECTIONS: Final = 1024
"""Connections that an acceptor serves at a time; one more is closed at once."""

STALLED_FRAME_TIMEOUT: Final = 30.0
"""How long a connection may stall in the middle of a frame, or not read its replies."""
