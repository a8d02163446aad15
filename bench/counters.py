"""What processes used, from ``/proc``: CPU time, bytes written to disk; zeros elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds of a tick of ``/proc/PID/stat``."""


@dataclass(frozen=True)
class Counters:
    """What a cluster and its clients used.

    Attributes:
        member_cpu: CPU time of all members, in seconds.
        client_cpu: CPU time of all client processes, in seconds.
        disk: bytes that the members caused to be written to disk.
        loopback: bytes on the loopback interface, headers included, whoever sent them.
    """

    member_cpu: float = 0.0
    client_cpu: float = 0.0
    disk: float = 0.0
    loopback: float = 0.0

    def __sub__(self, other: Counters) -> Counters:
        return Counters(
            self.member_cpu - other.member_cpu,
            self.client_cpu - other.client_cpu,
            self.disk - other.disk,
            self.loopback - other.loopback,
        )

    def __mul__(self, factor: float) -> Counters:
        return Counters(
            self.member_cpu * factor,
            self.client_cpu * factor,
            self.disk * factor,
            self.loopback * factor,
        )


def count(members: Iterable[int], clients: Iterable[int]) -> Counters:
    """What these processes have used so far."""
    members = list(members)
    return Counters(
        sum(map(cpu, members)), sum(map(cpu, clients)), sum(map(disk, members)), loopback()
    )


def cpu(pid: int) -> float:
    """The CPU time of a process, in seconds."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK if fields else 0.0


def disk(pid: int) -> float:
    """The bytes that a process caused to be written to disk."""
    for line in _read(f"/proc/{pid}/io").splitlines():
        if line.startswith("write_bytes:"):
            return float(line.split()[1])
    return 0.0


def memory(pid: int) -> float:
    """The resident memory of a process, in bytes."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1]) * 1024
    return 0.0


def loopback() -> float:
    """The bytes sent so far on the loopback interface."""
    for line in _read("/proc/net/dev").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return float(numbers.split()[8])
    return 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
