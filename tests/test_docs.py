"""What the documents say of the code: the floors of the house, and examples that run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import paxoskv

ROOT = Path(__file__).parents[1]
PACKAGE = Path(paxoskv.__file__).parent

FLOORS = (
    {"errors", "entry", "limits", "_version", "pauses", "tasks", "writers"},
    {"paxos", "arguments", "lines", "strictcbor"},
    {"identity", "remembered", "values"},
    {"heard", "host", "storage", "stream", "wire"},
    {"link", "server"},
    {"cluster", "commits", "local"},
    {"rounds", "byhand", "status"},
    {"calls"},
    {"client"},
    {"kv", "catchup"},
    {"__init__", "cli"},
    {"__main__"},
)
"""From the ground up: a room imports only from the floors below it. Those of the ground floor
import nothing of ours, unless for the types of annotations."""


class Imports(ast.NodeVisitor):
    """What a module imports of ours when it runs."""

    def __init__(self) -> None:
        self.found: list[ast.ImportFrom] = []

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            self.found.append(node)


def imports() -> Iterator[tuple[str, str]]:
    """Which room imports from which: a room is a module, or a folder of them."""
    for file in PACKAGE.rglob("*.py"):
        inside = file.relative_to(PACKAGE).with_suffix("").parts
        visitor = Imports()
        visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
        for node in visitor.found:
            folder = inside[: len(inside) - node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                room = (*folder, *name.split("."))[0]
                if room != inside[0]:
                    yield inside[0], room


def test_a_room_imports_only_from_the_floors_below() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = list(imports())
    assert ("kv", "client") in found
    assert not [(room, other) for room, other in found if floor[room] <= floor[other]]
    there = {path.name.split(".")[0] for path in PACKAGE.iterdir() if path.name[:2] != "__"}
    assert there - {"py"} <= floor.keys(), "a new room needs a floor"


def examples() -> Iterator[tuple[str, str]]:
    """The examples in Python, by the documents that they stand in."""
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text(encoding="utf-8")
        for number, block in enumerate(
            re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        ):
            yield f"{file.name}-{number}", block


EXAMPLES = dict(examples())

AROUND = """
import paxoskv, trio
async def example():
    async with paxoskv.open_local_cluster(3) as cluster:
        addresses = cluster.addresses
        {}
trio.run(example)
"""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str) -> None:
    code = EXAMPLES[name]
    if "trio.run" not in code and re.search("^async with", code, re.MULTILINE):
        # A part of a program: for its addresses those of a cluster that is there.
        code = re.sub(r"open_kv\(\[.*?\]", "open_kv(addresses", code)
        code = AROUND.format(code.replace("\n", "\n        "))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_there_are_examples() -> None:
    assert {"README.md-0", "library.md-0"} <= EXAMPLES.keys()
