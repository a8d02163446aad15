"""A bare trio echo server in a process of its own: the floor of a round trip."""

from __future__ import annotations

import trio


async def _echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def _main() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    await trio.serve_listeners(_echo, [listener])


if __name__ == "__main__":
    trio.run(_main)
