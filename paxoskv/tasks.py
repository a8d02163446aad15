"""A nursery for services in the background of an ``async with`` block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks serve the block, and are cancelled at its end.

    An error of the block leaves it as it is, and so does an error of a task: a group
    comes out only where there really were several errors.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        of_tasks = [error for error in group.exceptions if error is not raised]
        leaves = [leaf for error in of_tasks for leaf in _leaves(error)]
        if raised is not None:
            leaves.append(raised)
        errors = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
        if len(errors) > 1:
            raise
        the_one = (errors or leaves)[0]
    else:
        return
    # Outside of the handler, so that the group does not become its context.
    raise the_one


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, whatever groups the nurseries in between put around them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
