"""The benchmarks run, and what they print is sane. No speed is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_duel() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.duel", "--proposers", "3", "--seconds", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["proposers"] == 3
    assert result["versions_per_second"] > 0
    assert result["rounds_per_second"] >= result["versions_per_second"]
    assert result["attempts_per_version"] >= 1
    assert 0 < result["median_ms"] <= result["p99_ms"]
    assert 1 / 3 <= result["fairness"] <= 1
    assert result["fewest_wins"] <= result["most_wins"]
