"""A bare echo of frames: what has arrived is written to a file, flushed once, and sent back."""

from __future__ import annotations

import os
import selectors
import socket
import sys
from pathlib import Path

RECEIVE_BYTES = 1 << 18


def main(directory: str) -> None:
    """Serve for ever; the port goes to the file ``port`` of the directory."""
    file = Path(directory, "data").open("wb", buffering=0)  # noqa: SIM115 - open for ever
    listener = socket.create_server(("127.0.0.1", 0))
    Path(directory, "port.new").write_text(str(listener.getsockname()[1]))
    Path(directory, "port.new").rename(Path(directory, "port"))
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        answers: list[tuple[socket.socket, bytes]] = []
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
                continue
            connection = key.fileobj  # type: ignore[assignment]
            try:
                data = connection.recv(RECEIVE_BYTES)
            except ConnectionError:
                data = b""
            if data:
                answers.append((connection, data))
            else:
                selector.unregister(connection)
                connection.close()
        if to_disk := b"".join(data for _, data in answers if data[:1] == b"w"):
            file.write(to_disk)
            os.fdatasync(file.fileno())
        for connection, data in answers:
            connection.sendall(data)


if __name__ == "__main__":
    main(sys.argv[1])
