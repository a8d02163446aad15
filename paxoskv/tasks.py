"""A nursery for services in the background of a block, and errors without their groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks serve the block, and are cancelled at its end.

    They serve it to its very end: when a scope around the block is cancelled, a shielded
    clean-up inside of the block still has them.

    An error of the block leaves it as it is, and so does an error of a task: a group
    comes out only where there really were several errors.
    """
    block: BaseException | None = None
    failed: list[BaseException] = []
    # Not handed over by nursery.start(): a task that shields itself would never notice that
    # its start was cancelled.
    opened: list[trio.Nursery] = []
    ready = trio.Event()
    lifetime = trio.CancelScope(shield=True)

    async def serve() -> None:
        with lifetime:
            async with trio.open_nursery() as nursery:
                opened.append(nursery)
                ready.set()
                await trio.sleep_forever()

    try:
        async with trio.open_nursery() as around:
            around.start_soon(serve)
            try:
                await ready.wait()
                yield opened[0]
            except BaseException as error:  # noqa: BLE001 - raised below, when the tasks have ended
                block = error
            finally:
                lifetime.cancel()
    except (BaseExceptionGroup, trio.Cancelled) as group:
        failed = [leaf for leaf in leaves(group) if not isinstance(leaf, trio.Cancelled)]
        if block is None and not failed:
            block = next(leaves(group))  # it was cancelled while the tasks ended
    # Outside of the handler, so that the group does not become the context of its member.
    if failed and block is not None:
        # A task that fails cancels the block, which is no error of the block's own.
        failed[:0] = [leaf for leaf in leaves(block) if not isinstance(leaf, trio.Cancelled)]
    if len(failed) > 1:
        raise BaseExceptionGroup("errors of a block and of the tasks behind it", failed)
    only = failed[0] if failed else block
    if only is not None:
        raise only


@contextmanager
def unwrapped() -> Iterator[None]:
    """Let a single error leave the block as itself, whatever groups nurseries put around it."""
    only: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        errors = [leaf for leaf in leaves(group) if not isinstance(leaf, trio.Cancelled)]
        if len({id(error) for error in errors}) != 1:  # the same one may end several tasks
            raise
        only = errors[0]
    # Outside of the handler, so that the group does not become the context of its member.
    if only is not None:
        raise only


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, whatever groups the nurseries in between put around them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
