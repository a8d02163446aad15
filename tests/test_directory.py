"""Data directories: made whole or not at all, and held by one process."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from paxoskv.errors import DirectoryError
from paxoskv.identity import Address
from paxoskv.storage import directory
from paxoskv.storage.directory import IDENTITY_FILE, MEMORY_MARK, hold_directory, init_cluster

ADDRESSES = [Address("a.example", 1), Address("b.example", 2), Address("::1", 3)]


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    return init_cluster(tmp_path / "cluster", ADDRESSES)


def test_r10_each_acceptor_of_a_cluster_has_an_identity_of_its_own(
    directories: list[Path],
) -> None:
    assert [path.name for path in directories] == ["1", "2", "3"]
    identities = []
    for path in directories:
        with hold_directory(path) as directory:
            identities.append(directory.identity)
    assert len({identity.cluster for identity in identities}) == 1
    assert len({identity.members for identity in identities}) == 1
    assert [identity.address for identity in identities] == ADDRESSES
    assert len({identity.acceptor for identity in identities}) == 3


def test_two_clusters_share_no_id(tmp_path: Path, directories: list[Path]) -> None:
    (other, *_) = init_cluster(tmp_path / "other", ADDRESSES)
    with hold_directory(directories[0]) as ours, hold_directory(other) as theirs:
        assert ours.identity.cluster != theirs.identity.cluster


def test_init_never_touches_what_exists(tmp_path: Path, directories: list[Path]) -> None:
    before = {path: path.read_text() for path in tmp_path.rglob("*.toml")}
    for base in (tmp_path / "cluster", tmp_path / "cluster" / "1", directories[0] / IDENTITY_FILE):
        with pytest.raises(DirectoryError, match="exists already, and nothing was changed"):
            init_cluster(base, ADDRESSES)
    assert {path: path.read_text() for path in tmp_path.rglob("*.toml")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["cluster"], "something is left over"


def test_init_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ([], [ADDRESSES[0]] * 2, [Address("a", port) for port in range(1, 20)]):
        with pytest.raises(ValueError, match=r"address|acceptors"):
            init_cluster(tmp_path / "cluster", bad)
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError):
        init_cluster(tmp_path / "file" / "cluster", ADDRESSES)

    def no_space(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paxoskv.storage.directory.sync_directory", no_space)
    with pytest.raises(DirectoryError, match="No space left"):
        init_cluster(tmp_path / "cluster", ADDRESSES)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_init_takes_an_empty_directory_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be where the user is, or the mount point of a volume."""
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o750)
    before = empty.stat()
    monkeypatch.chdir(empty)
    assert len(init_cluster(Path(), ADDRESSES)) == 3
    assert sorted(path.name for path in Path().iterdir()) == ["1", "2", "3"]
    assert (empty.stat().st_ino, empty.stat().st_mode) == (before.st_ino, before.st_mode)
    with hold_directory(Path("1")):
        pass


def test_init_makes_directories_that_others_may_enter_as_the_mask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        init_cluster(tmp_path / "made", [Address("127.0.0.1", 1)])
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o750


def test_init_takes_a_new_file_system_and_names_what_an_interrupted_one_left(
    tmp_path: Path,
) -> None:
    (tmp_path / "lost+found").mkdir()
    left = tmp_path / f".{tmp_path.name}.init-0123"
    left.mkdir()
    with pytest.raises(DirectoryError, match=f"interrupted .* remove {left.name}"):
        init_cluster(tmp_path, [Address("127.0.0.1", 1)])
    left.rmdir()
    assert init_cluster(tmp_path, [Address("127.0.0.1", 1)]) == [tmp_path / "1"]


def test_a_mark_that_cannot_be_written_burns_nothing(
    directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with hold_directory(directories[0]) as held, monkeypatch.context() as patched:
        patched.setattr(directory, "sync_directory", full)
        with pytest.raises(OSError, match="no space"):
            held.mark_memory()
    with hold_directory(directories[0]) as held:
        held.mark_memory()


def test_init_takes_back_what_it_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def fail_at_the_last(self: Path, target: Path) -> Path:
        if target.name == "3":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_last)
    with pytest.raises(DirectoryError, match="No space left"):
        init_cluster(tmp_path, ADDRESSES)
    assert not any(tmp_path.iterdir())


def test_init_says_what_is_wrong_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match=r"cannot make .*too long"):
        init_cluster(tmp_path / ("x" * 300), ADDRESSES)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DirectoryError, match="`paxoskv init` makes them"), hold_directory(path):
            pass


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", r"has format 2, .* run the release that made it"),
        ("format = 1", "", "damaged"),
        ('cluster = "', 'cluster = "0', "damaged"),
        ('acceptor = "', 'acceptor = "00', "damaged"),
        ("[[members]]", "[[others]]", "damaged"),
        ("a.example:1", "nonsense", "damaged"),
        ("a.example:1", "b.example:2", "same address"),
        ("=", "", "damaged"),
    ],
)
def test_a_damaged_identity_is_refused(
    directories: list[Path], old: str, new: str, message: str
) -> None:
    file = directories[0] / IDENTITY_FILE
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(DirectoryError, match=message), hold_directory(directories[0]):
        pass


def test_r10_a_truncated_identity_is_no_smaller_cluster(directories: list[Path]) -> None:
    file = directories[0] / IDENTITY_FILE
    whole = file.read_bytes().rstrip()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        with pytest.raises(DirectoryError), hold_directory(directories[0]):
            pass


def test_a_directory_is_held_once(directories: list[Path]) -> None:
    with hold_directory(directories[0]):
        with pytest.raises(DirectoryError, match="in use"), hold_directory(directories[0]):
            pass
        with hold_directory(directories[1]):
            pass
    with hold_directory(directories[0]):
        pass


def test_r10_an_acceptor_that_forgot_its_promises_never_comes_back(
    directories: list[Path],
) -> None:
    with hold_directory(directories[0]) as directory:
        directory.mark_memory()
    assert (directories[0] / MEMORY_MARK).read_text()
    with pytest.raises(DirectoryError, match="make a new cluster"), hold_directory(directories[0]):
        pass
