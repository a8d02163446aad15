"""A few seconds of chaos; ``python -m tests.chaos`` is there for longer ones."""

from __future__ import annotations

from pathlib import Path

from .run import run
from .summary import summary


async def test_what_clients_saw_is_linearizable(tmp_path: Path) -> None:
    said: list[str] = []
    result = await run(tmp_path, acceptors=3, clients=2, seconds=4, seed=1, say=said.append)
    assert not result.problems, "\n".join([*result.problems, *summary(result)])
    assert len(result.history) > 100
    assert sum(result.faults.values()) > 3
    assert said[-1] == "all is healed"
