"""The machine a result comes from, without its name."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from paxoskv._version import COMPILED


def describe() -> dict[str, str]:
    """What matters of the machine and of the software, each as one short text."""
    return {
        "processor": _after("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "build": "compiled" if COMPILED else "pure Python",
        **{package: _version(package) for package in ("paxoskv", "trio", "pysyncobj")},
        "etcd": _first_line("etcd", "--version"),
        "go": _first_line("go", "version"),
    }


def sentence(machine: dict[str, str]) -> str:
    """The machine in a line."""
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory']} of memory, "
        f"{machine['system']}, Python {machine['python']}, paxoskv {machine['build']}"
    )


def _memory() -> str:
    kilobytes = _after("/proc/meminfo", "MemTotal").split()
    return f"{int(kilobytes[0]) / 1024**2:.0f} GiB" if kilobytes else "?"


def _after(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _first_line(program: str, argument: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run([path, argument], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].removeprefix("go version ")
