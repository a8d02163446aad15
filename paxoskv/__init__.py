"""paxoskv: a linearizable key-value store on trio.

There is no leader and no log: every version of every key is one Paxos instance, and any
client decides it by talking to a majority of acceptors.

    async with paxoskv.open_kv(["10.0.0.1:3333", "10.0.0.2:3333", "10.0.0.3:3333"]) as kv:
        await kv.put("foo", 5)
        await kv.get("foo")
"""

from ._version import __version__
from .entry import Entry
from .errors import (
    Compacted,
    DirectoryError,
    PaxosKVError,
    ProtocolError,
    StoreDamaged,
    StoreError,
    TooLarge,
    Unavailable,
    VersionTaken,
    WrongCluster,
)
from .kv import KV, open_kv
from .local import LocalCluster, open_local_cluster

__all__ = [
    "KV",
    "Compacted",
    "DirectoryError",
    "Entry",
    "LocalCluster",
    "PaxosKVError",
    "ProtocolError",
    "StoreDamaged",
    "StoreError",
    "TooLarge",
    "Unavailable",
    "VersionTaken",
    "WrongCluster",
    "__version__",
    "open_kv",
    "open_local_cluster",
]
