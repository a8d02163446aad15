"""The project's chores. A plain ``nox`` checks everything: lint, types, tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True

OLDEST, NEWEST = 11, 16  # Python 3.x


def _running_pythons() -> list[str]:
    """The CPythons that really run here; a shim of pyenv may be there and yet fail."""
    found = []
    for minor in range(OLDEST, NEWEST + 1):
        path = shutil.which(f"python3.{minor}")
        if path is None:
            continue
        probe = [path, "-c", "import sys, venv; print(sys.implementation.name)"]
        result = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode == 0 and result.stdout.strip() == "cpython":
            found.append(f"3.{minor}")
    # A python3 without a python3.x beside it: nox itself runs on it.
    return found or [sys.executable]


@nox.session(python=_running_pythons())
def tests(session: nox.Session) -> None:
    """Run the tests on each CPython from 3.11 that runs on this machine."""
    session.install(".[test,bench]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, strictly."""
    session.install("mypy", ".")
    session.run("mypy")


@nox.session
def model(session: nox.Session) -> None:
    """Explore the worlds of the model checker; options after ``--`` go to it."""
    session.install(".[test]")
    session.run("python", "-m", "tests.model", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Run the deterministic simulation; options after ``--``: ``--seeds 1000``, ``--seed N``."""
    session.install(".[test]")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Real processes, killed, stopped and cut off; options after ``--``: ``--seconds 60``."""
    session.install(".[test]")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the rules one by one; each break must be caught. It takes a while."""
    session.install(".[test]")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def compiled(session: nox.Session) -> None:
    """Compile the package, and test that; or run what follows ``--``: ``python -m bench quick``."""
    session.install(".[test,bench]", env={"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"})
    # Away from the source, which Python would find first.
    away = Path(session.create_tmp()) / "away"
    shutil.rmtree(away, ignore_errors=True)
    for name in ("bench", "docs", "tests"):
        shutil.copytree(name, away / name)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(name, away)
    session.chdir(away)
    check = "from paxoskv._version import COMPILED; assert COMPILED, 'this is not compiled'"
    session.run("python", "-c", check)
    session.run(*(session.posargs or ["pytest"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure for two minutes; what follows ``--`` goes to ``python -m bench`` instead."""
    session.install(".[bench]")
    session.run("python", "-m", "bench", *(session.posargs or ["quick"]))
