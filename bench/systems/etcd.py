"""etcd: members with data directories of their own, and a client in Go that is built here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ..cluster import free_addresses
from ..load import Load
from . import Processes, processes_in_scratch, start_process

SOURCE = Path(__file__).parents[1] / "peers" / "etcd_load"
BUILT = Path(__file__).parents[1] / "results" / "etcd-load"
GOPATH = Path("/usr/share/gocode")
START_TIMEOUT = 30.0
BUILDS_WITH = "golang-go golang-etcd-server-dev"


class EtcdCluster(Processes):
    """Members of etcd."""

    name = "etcd"

    def __init__(
        self, processes: list[trio.Process], urls: list[str], commands: list[list[str]], log: Path
    ) -> None:
        super().__init__(processes, [log.parent / str(number) for number in range(len(urls))])
        self.urls = urls
        self._commands = commands
        self._log = log

    def client(self, load: Load) -> list[str]:
        """The client in Go."""
        running = [
            url
            for url, process in zip(self.urls, self.processes, strict=True)
            if process.poll() is None
        ]
        return [str(BUILT), f"--addresses={','.join(running)}"]

    async def victim(self) -> int:
        """The leader."""
        for number, status in enumerate(await self._status()):
            if status["leader"] == status["header"]["member_id"]:
                return number
        raise RuntimeError("etcd has no leader")

    async def start_again(self, member: int) -> None:
        """Start a member that has ended anew."""
        self.processes[member] = await start_process(self._commands[member], self._log)

    async def wait(self, keys: int = 0) -> None:
        """Wait until all members answer, know a leader, and have applied the same."""
        with trio.fail_after(START_TIMEOUT * 4):
            while True:
                try:
                    statuses = await self._status()
                except (subprocess.CalledProcessError, json.JSONDecodeError):
                    statuses = []
                applied = {status.get("raftAppliedIndex") for status in statuses}
                led = sum(bool(status.get("leader")) for status in statuses)
                if led == len(self.urls) and len(applied) == 1:
                    return
                await trio.sleep(0.1)

    async def _status(self) -> list[dict[str, Any]]:
        done = await trio.run_process(
            [
                "etcdctl",
                f"--endpoints={','.join(self.urls)}",
                *("endpoint", "status", "--write-out=json", "--command-timeout=5s"),
            ],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_stdout=True,
            capture_stderr=True,
        )
        return [each["Status"] for each in json.loads(done.stdout)]


class Etcd:
    """etcd, from the packages of Debian."""

    name = "etcd"
    operations = frozenset({"set", "put", "get", "version", "duel"})
    restartable = True
    in_memory = False

    def missing(self) -> str:
        """What is missing; builds the client if it can."""
        if not (shutil.which("etcd") and shutil.which("etcdctl")):
            return "etcd is skipped: apt-get install etcd-server etcd-client"
        if _is_built():
            return ""
        if not shutil.which("go") or not (GOPATH / "src/go.etcd.io/etcd/clientv3").exists():
            return f"etcd is skipped, its client needs: apt-get install {BUILDS_WITH}"
        BUILT.parent.mkdir(exist_ok=True)
        done = subprocess.run(
            ["go", "build", "-o", str(BUILT), "."],  # noqa: S607 - the go on PATH
            cwd=SOURCE,
            env={**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"etcd is skipped, its client does not build: {done.stderr.strip()[-300:]}"
        return ""

    @asynccontextmanager
    async def start(self, members: int = 3) -> AsyncIterator[EtcdCluster]:
        """Start the members, and wait until they have a leader."""
        addresses = free_addresses(2 * members)
        urls = [f"http://{address}" for address in addresses]
        clients, peers = urls[:members], urls[members:]
        cluster = ",".join(f"m{number}={url}" for number, url in enumerate(peers))
        async with processes_in_scratch() as (scratch, processes):
            commands = [
                [
                    "etcd",
                    f"--name=m{number}",
                    f"--data-dir={scratch / str(number)}",
                    f"--listen-client-urls={clients[number]}",
                    f"--advertise-client-urls={clients[number]}",
                    f"--listen-peer-urls={peers[number]}",
                    f"--initial-advertise-peer-urls={peers[number]}",
                    f"--initial-cluster={cluster}",
                    f"--initial-cluster-token={scratch.name}",
                    "--quota-backend-bytes=8000000000",
                    "--log-level=error",
                ]
                for number in range(members)
            ]
            for command in commands:
                processes.append(await start_process(command, scratch / "log"))
            running = EtcdCluster(processes, clients, commands, scratch / "log")
            await running.wait()
            yield running


def _is_built() -> bool:
    source = SOURCE / "main.go"
    return BUILT.exists() and BUILT.stat().st_mtime > source.stat().st_mtime
