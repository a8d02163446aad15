"""The data directory of an acceptor: made once by ``init``, held by one ``serve``.

Rule R10. The directory is the acceptor's identity. It says which acceptor of which
cluster this is, and holds its store. It is marked once the acceptor has made promises in
memory only, which a second start would have forgotten.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from ..errors import DirectoryError, StoreError
from ..identity import ID_BYTES, Address, Identity, Member, new_cluster, parse_address
from .disk import DiskStore, sync_directory

FORMAT: Final = 1
"""The version of what is in a data directory."""

IDENTITY_FILE: Final = "acceptor.toml"
STORE: Final = "store"
MEMORY_MARK: Final = "served-from-memory"

_MEMORY_TEXT: Final = """\
This acceptor was started with `paxoskv serve --memory`. What it promised then was kept
in memory only, so it can never be started again: it would break its promises.
"""


class Directory:
    """A data directory that this process holds. :func:`hold_directory` makes it.

    Attributes:
        path: where it is.
        identity: who the acceptor is.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.identity = identity

    def open_store(self) -> DiskStore:
        """Open the store, which is the caller's to close.

        Raises:
            DirectoryError, StoreError: it cannot be used; the message says what to do.
        """
        return DiskStore(self.path / STORE, self.identity)

    def mark_memory(self) -> None:
        """Mark that the acceptor makes promises in memory, before it makes the first.

        Raises:
            DirectoryError: it has made promises on disk, which it would forget.
        """
        with closing(self.open_store()) as store:
            if not store.empty:
                raise DirectoryError(
                    f"{self.path} has a store, and with --memory its acceptor would forget what "
                    "it promised; serve it without --memory"
                )
        mark = self.path / MEMORY_MARK
        try:
            _write_file(mark, _MEMORY_TEXT)
            sync_directory(self.path)
        except BaseException:
            mark.unlink(missing_ok=True)  # nothing was served yet
            raise


@contextmanager
def hold_directory(path: Path) -> Iterator[Directory]:
    """Hold a data directory, so that no other process can.

    Raises:
        DirectoryError: ``init`` did not make it, it is in use, another version made it,
            or its acceptor has forgotten promises.
    """
    file = path / IDENTITY_FILE
    try:
        lock = file.open("rb")
    except OSError as error:
        raise DirectoryError(
            f"{path} is no data directory of an acceptor ({os.strerror(error.errno or 0)}: "
            f"{IDENTITY_FILE}); `paxoskv init` makes them"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryError(
                f"{path} is in use by another process; stop that one first"
            ) from None
        try:
            identity = _read_identity(file, lock.read())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise DirectoryError(
                f"{file} is damaged ({what}); copy it again from where `paxoskv init` made it"
            ) from None
        if (path / MEMORY_MARK).exists():
            raise DirectoryError(
                f"{path} was served with --memory before, and its acceptor has forgotten what "
                "it promised then; make a new cluster with `paxoskv init`"
            )
        yield Directory(path, identity)


def init_cluster(base: Path, addresses: Sequence[Address]) -> list[Path]:
    """Make the data directories of a new cluster: ``base/1``, ``base/2``, and so on.

    It makes them all or none, and never touches anything that exists; an empty directory
    that is there stays the same one.

    Args:
        base: where to make them. It must not exist, or be an empty directory.
        addresses: where each acceptor will be found by clients.

    Returns:
        The directories, in the order of the addresses.

    Raises:
        ValueError: there are too few or too many addresses, or one stands twice.
        DirectoryError: the directories cannot be made.
    """
    identities = new_cluster(addresses)
    base = Path(os.path.abspath(base))  # noqa: PTH100 - keeps a symbolic link as it is
    made = [base / str(number) for number, _ in enumerate(identities, 1)]
    try:
        # A new file system has one entry of its own.
        there = {each.name for each in base.iterdir()} - {"lost+found"} if base.is_dir() else set()
        into = base.is_dir() and not there
        if there and all(name.startswith(_aside(base)) for name in there):
            raise DirectoryError(
                f"{base} has what an interrupted `paxoskv init` left behind: remove "
                + ", ".join(sorted(there))
            )
        if base.exists() and not into:
            raise DirectoryError(
                f"{base} exists already, and nothing was changed; choose another directory"
            )
        base.parent.mkdir(parents=True, exist_ok=True)
        # Made aside, and then moved into place: in one step, where there is nothing yet.
        where = base if into else base.parent
        aside = where / f"{_aside(base)}{secrets.token_hex(8)}"
        aside.mkdir()
        try:
            for number, identity in enumerate(identities, 1):
                directory = aside / str(number)
                directory.mkdir()
                _write_file(directory / IDENTITY_FILE, _identity_text(number, identity))
                DiskStore.create(directory / STORE, identity)
                sync_directory(directory)
            sync_directory(aside)
            if into:
                _move_into(aside, made)
            else:
                aside.rename(base)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_directory(where)
    except OSError as error:
        raise DirectoryError(f"cannot make {base}: {os.strerror(error.errno or 0)}") from None
    except StoreError as error:
        raise DirectoryError(f"cannot make {base}: {error}") from None
    return made


def _aside(base: Path) -> str:
    """How the name begins under which directories are made."""
    return f".{base.name}.init-"


def _move_into(aside: Path, made: Sequence[Path]) -> None:
    """Move what was made to where it belongs, or take back what was moved."""
    moved: list[Path] = []
    try:
        for directory in made:
            (aside / directory.name).rename(directory)
            moved.append(directory)
        aside.rmdir()
    except BaseException:
        for directory in moved:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _identity_text(number: int, identity: Identity) -> str:
    members = "".join(
        f'\n[[members]]\nid = "{member.id.hex()}"\naddress = "{member.address}"\n'
        for member in identity.members
    )
    return f"""\
# Acceptor {number} of {len(identity.members)} of a paxoskv cluster, made by `paxoskv init`.
#
# Copy this directory to the machine of {identity.address}, and run `paxoskv serve` on it
# there. There must never be two copies in use: an acceptor is this directory, and an old
# copy of it has forgotten promises. The folder `store` is what it remembers; without it,
# or with an old copy of it, the acceptor can never serve again.

format = {FORMAT}
cluster = "{identity.cluster.hex()}"
acceptor = "{identity.acceptor.hex()}"
acceptors = {len(identity.members)}

# All acceptors of the cluster. The ids are fixed for ever; votes are counted by them.
# The addresses are where clients look for each.
{members}"""


def _read_identity(file: Path, data: bytes) -> Identity:
    table: dict[str, Any] = tomllib.loads(data.decode())
    if table["format"] is True or table["format"] != FORMAT:
        raise DirectoryError(
            f"{file} has format {table['format']!r}, and this release of paxoskv reads {FORMAT}; "
            "run the release that made it"
        )
    members = tuple(
        Member(_id(member["id"]), parse_address(member["address"])) for member in table["members"]
    )
    if table["acceptors"] != len(members):
        raise ValueError(f"it lists {len(members)} of {table['acceptors']} acceptors")
    identity = Identity(_id(table["cluster"]), _id(table["acceptor"]), members)
    identity.check()
    return identity


def _id(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != ID_BYTES:
        raise ValueError(f"{text!r} is no id")
    return data


def _write_file(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
