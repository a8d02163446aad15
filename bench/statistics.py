"""The few numbers that samples come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from .load import Measured

QUANTILES = 200
"""Steps of the latency distribution that is kept in the results."""


def percentile(values: Iterable[float], percent: float) -> float:
    """The value below which so many percent lie, interpolated; NaN if there is none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def jain(shares: Sequence[float]) -> float:
    """How even shares are, by Jain's index: 1 is even, 1/N is all for one of N."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else float("nan")


def longest_gap(times: Iterable[float], began: float, ended: float) -> float:
    """The longest time without any of these events between two times, in their unit."""
    inside = [began, *sorted(time for time in times if began < time < ended), ended]
    return max(later - earlier for earlier, later in pairwise(inside))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, the least and the greatest."""
    return median(values), min(values), max(values)


def summarize(measured: Measured) -> dict[str, Any]:
    """What one load came to, as it stands in the results.

    ``rate`` is in calls per second, times are in milliseconds, CPU times in microseconds a
    call, ``disk`` and ``loopback`` in bytes a call. ``attempts`` is per completed call;
    ``quantiles`` are the latencies at 0, 0.5, … 100 percent.
    """
    times = sorted(sample.took * 1e3 for sample in measured.samples)
    calls = len(times) or float("nan")
    wins = Counter(sample.caller for sample in measured.samples)
    used = measured.used
    return {
        "calls": len(times),
        "errors": measured.errors,
        "seconds": measured.seconds,
        "rate": len(times) / measured.seconds,
        "median": percentile(times, 50),
        "p99": percentile(times, 99),
        "quantiles": [
            round(percentile(times, 100 * step / QUANTILES), 4) for step in range(QUANTILES + 1)
        ],
        "attempts": sum(sample.attempts for sample in measured.samples) / calls,
        "fairness": jain([wins[caller] for caller in range(measured.callers)]),
        "member_cpu": used.member_cpu / calls * 1e6,
        "client_cpu": used.client_cpu / calls * 1e6,
        "disk": used.disk / calls,
        "loopback": used.loopback / calls,
    }
