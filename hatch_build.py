"""The compiled build: a wheel in which the busiest modules are machine code, made by mypyc.

It is made when ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1`` is set; else the wheel is pure Python. The
source is the same, and stays in the wheel. An editable install is never compiled: there, what
somebody changes in the source must be what runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What every message passes through. What runs once a frame, or waits for somebody, gains little,
# and mypyc knows neither asynchronous generators nor ``except*``. `nox -s compiled` must pass:
# mypyc 2.4 does not do quite as Python does (CONTRIBUTING.md).
MODULES = (
    "paxos/acceptor",
    "paxos/appender",
    "paxos/bid",
    "paxos/messages",
    "paxos/operation",
    "paxos/preparer",
    "paxos/proposer",
    "paxos/quorums",
    "paxos/reader",
    "paxos/scanner",
    "paxos/series",
    "storage/disk",
    "storage/recent",
    "storage/records",
    "commits",
    "pauses",
    "remembered",
    "rounds",
    "strictcbor",
    "values",
    "wire",
    "writers",
)

# A generator becomes a list, for instance, which may be longer than memory.
_WARNING = re.compile(r"^paxoskv/.*\.py:\d+: warning: ", re.MULTILINE)

_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file="]  # not that of whoever builds
setup(name="paxoskv", packages=[], script_args=sys.argv[1:4],
      ext_modules=mypycify([*options, *sys.argv[4:]], opt_level="3"))
"""


class CompileHook(BuildHookInterface[Any]):
    """Compiles the modules, and adds them to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in a copy, for nothing may be left behind that would hide the source."""
        if version == "editable":
            return
        self._scratch = TemporaryDirectory()
        scratch = Path(self._scratch.name)
        shutil.copytree(Path(self.root, "paxoskv"), scratch / "paxoskv")
        modules = [f"paxoskv/{module}.py" for module in MODULES]
        command = [sys.executable, "-c", _SETUP, "build_ext", "--build-lib", "built", *modules]
        done = subprocess.run(
            command,
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        if done.returncode != 0:
            raise RuntimeError(
                "mypyc, or the C compiler, failed: see above. A compiled build needs a C compiler "
                "and the headers of Python; without HATCH_BUILD_HOOK_ENABLE_CUSTOM none is made"
            )
        if _WARNING.search(done.stdout):
            raise RuntimeError("what mypyc warns of would not do the same: see above")
        built = scratch / "built"
        files = list(built.rglob("*.so"))
        assert len(files) > len(MODULES), "each, and what they share"
        for file in files:
            build_data["force_include"][str(file)] = str(file.relative_to(built))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made."""
        if version != "editable":
            self._scratch.cleanup()
