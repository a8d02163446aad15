"""The simulation finds nothing wrong with the code, and finds what is broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..builds import changes_code
from .breaks import BREAKS
from .run import simulate

MAX_SEEDS = 60
"""Within how many seeds each break is found."""


@pytest.mark.parametrize("seed", range(6))
def test_a_seed(seed: int) -> None:
    report = simulate(seed, seconds=15.0)
    assert not report.violations
    assert report.calls


def test_the_same_seed_is_the_same_run_byte_for_byte() -> None:
    first, second = simulate(11, seconds=10.0), simulate(11, seconds=10.0)
    assert list(first.trace.lines()) == list(second.trace.lines())
    assert list(first.trace.lines()) != list(simulate(12, seconds=10.0).trace.lines())


def test_the_same_seed_is_the_same_run_in_other_processes() -> None:
    """Also where sets of strings have another order."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "11", "--seconds", "10"]
    environments = [os.environ | {"PYTHONHASHSEED": each} for each in ("1", "2")]
    told = [
        subprocess.run(command, env=each, capture_output=True, text=True, check=True).stdout
        for each in environments
    ]
    assert told[0] == told[1]
    assert simulate(11, seconds=10.0).trace.digest() in told[0]


@changes_code
@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_found(name: str) -> None:
    for seed in range(MAX_SEEDS):
        with BREAKS[name]():
            if simulate(seed).violations:
                return
    pytest.fail(f"{name}: not found within {MAX_SEEDS} seeds")
