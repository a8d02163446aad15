"""A member of PySyncObj, with a journal; says in the file ``leader`` who leads."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.peers.pysyncobj_dict import Dict


def main(directory: str, address: str, *partners: str) -> None:
    """Serve for ever."""
    member = Dict(address, list(partners), journalFile=str(Path(directory, "journal")))
    known = ""
    while True:
        leader = str(member._getLeader() or "")
        if leader and leader != known and member.isReady():
            known = leader
            Path(directory, "leader").write_text(leader)
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
