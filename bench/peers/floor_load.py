"""A client process of the floor: a call is a frame to all members, back from a majority."""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Sequence

from bench.load import Load, Sample, parse, print_samples, wait_for_go

HEADER = 9
"""Bytes before the value: ``w`` (to be flushed) or ``r``, the caller, the call."""

RECEIVE_BYTES = 1 << 18


def work(load: Load, addresses: Sequence[str]) -> tuple[list[Sample], int]:
    """Do the load; what was completed, and that nothing failed."""
    selector = selectors.DefaultSelector()
    connections = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, bytearray())
        connections.append(connection)
    kind = b"r" if load.operation in ("get", "version") else b"w"
    value = b"v" * load.size
    length = HEADER + load.size
    majority = len(addresses) // 2 + 1
    samples: list[Sample] = []
    calls = [0] * load.callers
    replies = [0] * load.callers
    began = [0.0] * load.callers

    def send(callers: Sequence[int]) -> None:
        now = time.time()
        frames = []
        for caller in callers:
            calls[caller] += 1
            replies[caller] = 0
            began[caller] = now
            number = calls[caller].to_bytes(4, "big")
            frames.append(kind + caller.to_bytes(4, "big") + number + value)
        for connection in connections:
            connection.sendall(b"".join(frames))

    wait_for_go()
    end = time.time() + load.seconds
    send(range(load.callers))
    while (now := time.time()) < end:
        done = []
        for key, _ in selector.select(max(0.0, end - now)):
            assert isinstance(key.fileobj, socket.socket)
            buffer: bytearray = key.data
            buffer += key.fileobj.recv(RECEIVE_BYTES)
            whole = len(buffer) // length * length
            for start in range(0, whole, length):
                caller = int.from_bytes(buffer[start + 1 : start + 5], "big")
                if calls[caller] != int.from_bytes(buffer[start + 5 : start + 9], "big"):
                    continue  # of an earlier call, from the slowest member
                replies[caller] += 1
                if replies[caller] == majority:
                    completed = time.time()
                    samples.append(Sample(completed, completed - began[caller], caller, 1))
                    done.append(caller)
            del buffer[:whole]
        if done:
            send(done)
    return samples, 0


if __name__ == "__main__":
    print_samples(*work(*parse(sys.argv[1:])))
