"""The logs of RocksDB after a crash: what is a torn end, and what is damage.

A log is a sequence of blocks; a record is a frame in a block, or several: the first, those
in the middle, the last. RocksDB takes a frame that does not end within the file for one
that was being written when the machine stopped, and a frame of zeros for the end of a
block. A flipped bit in a length, or a page of zeros, would so lose promises unsaid; hence
this check, which goes before it. ``docs/storage.md`` has the reasons.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import StoreDamaged

_BLOCK: Final = 32768
_FRAME: Final = struct.Struct("<IHB")  # a checksum of what follows the length, a length, a kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_BATCH: Final = struct.Struct("<QI")  # how a record of a write-ahead log begins: number, count


def check_logs(path: Path, suspect: bool) -> bool:
    """Look for damage in the logs, and cut off what a crash left half written.

    Args:
        path: the directory of the store.
        suspect: whether to check all checksums, not only those of logs that look bad.

    Returns:
        Whether something was cut off.

    Raises:
        StoreDamaged: a log is damaged; the message names it.
    """
    current = path / "CURRENT"
    manifest = path / current.read_bytes().decode("ascii", "replace").removesuffix("\n")
    if not re.fullmatch("MANIFEST-[0-9]+", manifest.name) or not manifest.exists():
        raise StoreDamaged(f"{current} is damaged: there is no file {manifest.name!r}")
    _sound(manifest, suspect, numbered=False)
    logs = sorted(path.glob("*.log"), key=lambda log: int(log.stem))
    if not logs:
        raise StoreDamaged(f"{path} is damaged: its write-ahead log is gone")
    parts = [(log, _sound(log, suspect, numbered=True)) for log in logs if log.stat().st_size]
    for (log, part), (_, following) in pairwise(parts):
        if part.whole < part.size or part.next != following.first:
            raise StoreDamaged(f"{log} is damaged: it ends early")
    if not parts or parts[-1][1].whole == parts[-1][1].size:
        return False
    log, part = parts[-1]
    with log.open("r+b") as file:
        file.truncate(part.whole)
        os.fsync(file.fileno())
    return True


class _Part(NamedTuple):
    """The sound part of a log: whole records, of which the numbers follow each other.

    Attributes:
        whole: where the last whole record ends.
        bad: where the first frame begins that is not sound, or the file ends.
        size: the size of the file.
        first: the number of the first entry, or None.
        next: the number after that of the last entry, or None.
    """

    whole: int
    bad: int
    size: int
    first: int | None
    next: int | None


def _sound(log: Path, suspect: bool, *, numbered: bool) -> _Part:
    """The sound part of a log: all of it, or all but a record that a crash has torn."""
    data = log.read_bytes()
    part = _walk(data, suspect, numbered)
    if part.whole < part.size and not suspect:
        part = _walk(data, True, numbered)
    # Behind a torn record there is nothing, and its length is not what is wrong with it.
    if part.bad < part.size and (_goes_on(data, part) or _matches(data, part.bad, part.size)):
        raise StoreDamaged(f"{log} is damaged at byte {part.bad}")
    return part


def _walk(data: bytes, checked: bool, numbered: bool) -> _Part:
    whole = at = 0
    first = number = None
    head: bytes | None = None  # how the record began that goes on
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < _FRAME.size:
            at = min(at + left, len(data))
            whole = at if head is None else whole
            continue
        frame = _frame(data, at, checked)
        if frame is None or (frame[0] in {_FULL, _FIRST}) != (head is None):
            break
        kind, end = frame
        begin = at + _FRAME.size
        head = (head or b"") + data[begin : min(end, begin + _BATCH.size)]
        if kind in {_FULL, _LAST}:
            if numbered:
                if len(head) < _BATCH.size:
                    break
                serial, count = _BATCH.unpack_from(head)
                if number not in {None, serial}:
                    break
                first, number = serial if first is None else first, serial + count
            head, whole = None, end
        at = end
    return _Part(whole, at, len(data), first, number)


def _frame(data: bytes, at: int, checked: bool) -> tuple[int, int] | None:
    """The kind and the end of the frame at an offset, None where there is no sound one."""
    if len(data) - at < _FRAME.size:
        return None
    _, length, kind = _FRAME.unpack_from(data, at)
    end = at + _FRAME.size + length
    if not _FULL <= kind <= _LAST or end > min(len(data), at - at % _BLOCK + _BLOCK):
        return None
    return (kind, end) if not checked or _matches(data, at, end) else None


def _goes_on(data: bytes, part: _Part) -> bool:
    """Whether a whole record, or its beginning, stands behind the sound part.

    It is looked for at each byte of the block where that ends, and so within values as well.
    """
    bad = part.bad
    block = bad - bad % _BLOCK + _BLOCK
    for at in [*range(block, len(data), _BLOCK), *range(bad, min(block, len(data)))]:
        while (frame := _frame(data, at, True)) is not None:
            kind, end = frame
            begins = data[at + _FRAME.size : end]
            if kind in {_FULL, _FIRST} and _may_follow(begins, kind == _FULL, part):
                return True
            at = end
    return False


def _may_follow(begins: bytes, whole: bool, part: _Part) -> bool:
    """Whether a record that begins so may stand behind the sound part, as its number says.

    What looks like a record may be a value, or part of one, in the record that was torn.
    """
    if part.next is None:
        return True
    if len(begins) < _BATCH.size:
        return not whole
    serial: int = _BATCH.unpack_from(begins)[0]
    return part.next < serial < part.next + part.size


def _matches(data: bytes, at: int, end: int) -> bool:
    """Whether the checksum at an offset is that of the kind and the payload up to an end."""
    if end - at < _FRAME.size:
        return False
    table = _CRC32C
    crc = 0xFFFFFFFF
    for byte in data[at + 6 : end]:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked: int = _FRAME.unpack_from(data, at)[0]
    return masked == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc32c_table() -> Iterator[int]:
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        yield crc


_CRC32C: Final = tuple(_crc32c_table())
