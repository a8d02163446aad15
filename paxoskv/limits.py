"""Every limit of paxoskv, named once (rule R12).

A number that bounds a queue, a frame, a retry or a wait, and is of interest outside of its module,
stands here and nowhere else. Sizes are in bytes and times in seconds, unless a comment says
otherwise.
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

MAX_WEAK_KEYS: Final = 1024
"""The largest dict in a value whose keys may be other than str and bytes.

Their hashes are no secret, so that a stranger can choose keys that all collide. This
many cost a millisecond then, which is what as many bytes cost in another way.
"""

MAX_VERSION: Final = 2**53 - 1
"""The highest version: what a float, and so JSON, still counts exactly."""

# --- The algorithm ---------------------------------------------------------------

MAX_BALLOT: Final = 2**53 - 1
"""The highest ballot number, and the highest serial of a proposal id."""

MAX_BALLOT_BY_HAND: Final = MAX_BALLOT // 2
"""The highest that may be prepared by hand, so that others can go on above it."""

MAX_ACCEPTORS: Final = 15
"""The largest cluster. Each write talks to all of them; five are plenty."""

DEFAULT_KEEP: Final = 16
"""How many of the newest chosen versions of a key an acceptor keeps, unless told otherwise."""

MAX_KEEP: Final = 4096
"""The most that it can be told to keep."""

MAX_PAGE_KEYS: Final = 1024
"""Keys in one page of a scan."""

MAX_PAGE_BYTES: Final = 256 * KIB
"""Where a page of a scan is cut, unless one entry alone is larger."""

MAX_PAUSE_ROUND_TRIPS: Final = 32.0
"""The longest pause of a proposer that lost a duel, in round trips."""

MAX_PAUSE: Final = 1.0
"""The same in seconds, whatever a round trip takes."""

# --- The wire --------------------------------------------------------------------

MAX_FRAME_BYTES: Final = 16 * MIB
"""The longest frame that is read. A header that announces more closes the connection."""

MAX_GREETING_BYTES: Final = 64 * KIB
"""The longest greeting."""

MAX_REASON_LENGTH: Final = 400
"""The longest text, in characters, by which an acceptor says why it cannot serve."""

MAX_STORE_BYTES: Final = 2**62
"""More than any acceptor can have on disk."""

MAX_ENVELOPE_DEPTH: Final = 8
"""How deeply the arrays of a frame may be nested."""

MAX_ENVELOPE_ITEMS: Final = 256 * KIB
"""CBOR items in one frame: as many as ``MAX_BATCH_BYTES``, for a longer frame is mostly
values, which are quickly scanned."""

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

MAX_ROUND_OPERATIONS: Final = 128
"""Operations in one round, which is one frame. More go in several, so that acceptors and the client
work at the same time; with fewer, what each round costs is shared by too few."""
assert MAX_ROUND_OPERATIONS <= MAX_BATCH_MESSAGES

MAX_OPEN_ROUNDS: Final = 16
"""Rounds that wait for replies at a time; further callers wait in order."""

MAX_PENDING_COMMITS: Final = 4096
"""Commits that wait to be sent; beyond, the oldest are forgotten, which is no harm (R8)."""

MAX_PENDING_SERIES: Final = MAX_OPEN_ROUNDS
"""Series of which all is chosen, and that is still to be told; likewise."""
assert MAX_ROUND_OPERATIONS + MAX_PENDING_SERIES <= MAX_BATCH_MESSAGES

COMMIT_DELAY: Final = 0.01
"""How long a commit waits for the next version of its key to ride on, or that of a series for the
next round."""

COMMIT_ROUND_TRIPS: Final = 4.0
"""The same in round trips, where these take long; the longer of the two counts, up to
``COMMIT_PATIENCE``."""

COMMIT_PATIENCE: Final = 0.25
"""How long a commit waits at most, and how long a client that closes waits for its last ones."""

CONTENDED: Final = 1.0
"""How long after it met another writer of a key a client waits in line before it writes it."""

MAX_NOTED_KEYS: Final = 1024
"""Keys of which a client remembers that it met another writer, or that it has the turn."""

LINE_PATIENCE: Final = 0.5
"""How long it waits in line, before it goes on without."""

MAX_UNFINISHED: Final = 1024
"""Versions of which a client remembers that it has begun something there."""

MAX_REMEMBERED_BYTES: Final = 16 * MIB
"""What a client remembers of the latest versions that it has seen."""

LATE: Final = 0.02
"""How long an acceptor may owe an answer before it is not counted on for ballot 0."""

LATE_ROUND_TRIPS: Final = 4.0
"""The same in round trips, where these take long; the longer of the two counts."""

MAX_UNANSWERED_FRAMES: Final = 64
"""Frames that an acceptor may owe an answer to before its link is *behind*."""

MAX_UNANSWERED_BYTES: Final = 4 * MIB
"""The same in bytes."""

CONNECT_TIMEOUT: Final = 2.0
"""How long an acceptor may take to accept a connection and to greet."""

SILENCE_TIMEOUT: Final = 3.0
"""How long an acceptor that owes an answer may send nothing before its link is reopened.
To it comes the time that what was sent takes at ``SLOWEST_LINK``."""

SLOWEST_LINK: Final = 64 * KIB
"""The speed in bytes per second below which a connection counts as stalled."""

RECONNECT_FIRST: Final = 0.02
"""The first pause before a link is opened again; it doubles with each failure."""

RECONNECT_MAX: Final = 1.0
"""The longest such pause."""

# --- An acceptor -----------------------------------------------------------------

MAX_HEARD_ACCEPTS: Final = MAX_PENDING_SERIES * MAX_ROUND_OPERATIONS
"""Accepts of series that an acceptor keeps in mind for one connection, until it is told that they
are chosen; without their values."""
assert MAX_HEARD_ACCEPTS >= MAX_BATCH_MESSAGES

MAX_HEARD_BYTES: Final = 32 * MIB
"""What it keeps in mind so for all connections together."""

MAX_CONNECTIONS: Final = 1024
"""Connections that an acceptor serves at a time; for one more, the one that has been idle for
the longest is closed."""

MAX_HELD_BYTES: Final = 256 * MIB
"""What all connections of an acceptor together may hold of frames that have begun to arrive, of
those whose replies have not left, and of these replies. With more, one that holds much, and has
for long, is closed."""

FAREWELL_PATIENCE: Final = 1.0
"""Seconds that a client has to take the reason for which it is sent away."""

MIN_CONNECTIONS: Final = 16
"""Connections that an acceptor serves however few files it may open."""

COMPLAINT_PAUSE: Final = 1.0
"""Seconds between two lines of the log about what strangers do; of the others it says how many
there were."""

MAX_SEARCHES: Final = 8
"""Requests for which the store is searched that one connection has answered in one go; others are
served in between."""

STALLED_FRAME_TIMEOUT: Final = 30.0
"""How long a frame may take to arrive, or replies to be read, besides the time that so many
bytes take at ``SLOWEST_LINK``."""

QUICK_FLUSH: Final = 0.005
"""A flush that can be expected to take less is not worth a thread: a full frame takes as long."""

COMPANY: Final = 8
"""Flushes after the last one for another client for which an acceptor looks around who else has
something to flush; then it does not, which saves a pass of the scheduler."""

HINT_FLUSH_INTERVAL: Final = 0.5
"""How often commits that nobody waits for go to disk, if no other flush takes them along."""

MEND_PAUSE: Final = 0.5
"""The pause before an acceptor whose disk failed reads its store again."""

MAX_MISSED_KEYS: Final = 1024
"""Keys that an acceptor notes as missed; with more, it goes through all keys."""

TURN_TIME: Final = 0.05
"""How long one client may keep the turn to write a key while others wait in line for it."""

TURN_SLICE: Final = 0.0025
"""How long after its turn has come a client goes on with it, if it has more to write."""
assert TURN_SLICE < TURN_TIME / 2

MAX_IN_LINE: Final = 256
"""Clients that wait in one line; for more it makes no sense to wait."""

MAX_TURNS_AWAITED: Final = MAX_UNANSWERED_FRAMES // 2
"""Turns that one connection waits for at a time; asked for more, it is answered at once. By
itself it puts no link behind."""

MAX_LINES: Final = 1024
"""Keys for which an acceptor keeps a line."""

# --- The store on disk -------------------------------------------------------------

MAX_CACHE_BYTES: Final = 32 * MIB
"""What RocksDB caches of its tables, their indexes and filters included."""

MAX_RECENT_BYTES: Final = 32 * MIB
"""Summaries and registers that are in memory, decoded, for they were just used."""

MAX_UNWRITTEN_BYTES: Final = 8 * MIB
"""What is saved, and is not yet handed to RocksDB; beyond, it does not wait for the flush."""

WRITE_BUFFER_BYTES: Final = 8 * MIB
"""What RocksDB collects in memory before it writes a table; so much is read again on a start."""

MAX_WRITE_BUFFERS: Final = 4
"""How many of these there may be until a write waits."""

MAX_OPEN_TABLES: Final = 256
"""Files of RocksDB that are open at a time."""

MAX_INFO_LOG_BYTES: Final = 1 * MIB
"""The longest file in which RocksDB tells what it does."""

MAX_INFO_LOGS: Final = 4
"""How many of these are kept."""

MAX_MANIFEST_BYTES: Final = 4 * MIB
"""The length from which RocksDB begins a new list of its tables."""

BLOOM_BITS: Final = 10
"""Bits per record, by which a table tells (to 1 in 100) what it does not have."""

# --- Catching up -----------------------------------------------------------------

CATCH_UP_SPEED: Final = 8 * MIB
"""How much an acceptor that was away reads from the others, in bytes per second."""

CATCH_UP_BATCH: Final = 64
"""Versions that it learns at a time, so that service goes on in between; fewer where they take
``MAX_BATCH_BYTES``."""

CATCH_UP_BYTES: Final = 8 * MIB
"""What it reads of one key: of more, the newest versions."""

CATCH_UP_PAUSE: Final = 1.0
"""How often it looks whether it has missed something."""

CATCH_UP_LEAST: Final = 10.0
"""Seconds at least from one time that it begins to go through all keys to the next, if it thinks
that it was cut off: where all are slow, it would think so again and again."""

AWAY: Final = 3.0
"""An acceptor that has not run for so long was away."""

CATCH_UP_INTERVAL: Final = 600.0
"""How often it goes through all keys, whatever it knows of."""
