"""The replicated object of PySyncObj: a dict with versions, so that there is a compare-and-set."""

from __future__ import annotations

from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated


class Dict(SyncObj):  # type: ignore[misc]
    """A replicated dict; its methods run on every member, through the log."""

    def __init__(self, address: str | None, partners: list[str], **options: Any) -> None:
        # Its default, which waits for a batch, makes a put take 0.2 s.
        settings = SyncObjConf(appendEntriesUseBatch=False, connectionRetryTime=0.5, **options)
        super().__init__(address, partners, settings)
        self._values: dict[str, tuple[int, Any]] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: Any) -> int:
        """Write; the version."""
        ver = self._values.get(key, (-1, None))[0] + 1
        self._values[key] = (ver, value)
        return ver

    @replicated  # type: ignore[untyped-decorator]
    def read(self, key: str) -> tuple[int, Any]:
        """Read the version and the value, through the log, as all else would be stale."""
        return self._values.get(key, (-1, None))

    @replicated  # type: ignore[untyped-decorator]
    def compare_and_set(self, key: str, ver: int, value: Any) -> tuple[bool, int]:
        """Write this version, if it is the next; whether it was, and the version there is now."""
        latest = self._values.get(key, (-1, None))[0]
        if latest + 1 != ver:
            return False, latest
        self._values[key] = (ver, value)
        return True, ver
