"""The `paxoskv` command as a shell sees it: output, exit codes, what it says when wrong."""

from __future__ import annotations

import json
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from bench.cluster import acceptor_processes, free_addresses
from paxoskv.cli.output import jsonable
from paxoskv.storage.directory import MEMORY_MARK

COMMAND = [sys.executable, "-m", "paxoskv"]


def environment(cluster: str | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in {"PAXOSKV_CLUSTER", "NO_COLOR"}}
    return kept | ({"PAXOSKV_CLUSTER": cluster} if cluster else {})


def paxoskv(*args: str, cluster: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
        env=environment(cluster),
    )


async def run(*args: str, cluster: str | None = None) -> subprocess.CompletedProcess[str]:
    return await trio.to_thread.run_sync(lambda: paxoskv(*args, cluster=cluster))


async def test_writing_and_reading_from_a_shell() -> None:
    async with acceptor_processes(3, "--memory") as acceptors:
        cluster = ",".join(acceptor.address for acceptor in acceptors)

        async def check(args: Sequence[str], code: int, out: object = None) -> str:
            done = await run(*args, cluster=cluster)
            assert done.returncode == code, done.stderr
            assert "Traceback" not in done.stderr
            if out is None:
                assert done.stdout == ""
                assert done.stderr.strip()
            else:
                assert done.stdout.count("\n") == 1
                assert json.loads(done.stdout) == out
                assert not done.stderr
            return done.stderr

        entry = {"key": "foo", "ver": 0, "val": 5}
        await check(["get", "foo", "--ver", "0"], 1)
        await check(["set", "foo", "0", "5"], 0, entry)
        await check(["set", "foo", "0", "5"], 0, entry)
        assert "holds 5 already" in await check(["set", "foo", "0", "6"], 3)
        await check(["propose", "foo", "0", "6"], 0, entry)
        await check(["get", "foo", "--ver", "0"], 0, entry)
        values = {
            "-5": -5,
            "-x": "-x",
            "--flag": "--flag",
            '{"a": [1, null, "b"]}': {"a": [1, None, "b"]},
            "plain text": "plain text",
            "NaN": "NaN",
            "1e400": {"$float": "Infinity"},
            "": "",
            "值 😀": "值 😀",
        }
        for ver, (text, val) in enumerate(values.items()):
            wanted = {"key": "键😀", "ver": ver, "val": val}
            await check(["set", "键😀", str(ver), text], 0, wanted)
            await check(["get", "键😀", "--ver", str(ver), "--json"], 0, wanted)
        await check(["set", "k" * 1025, "0", "5"], 6)
        await check(
            ["set", "k", "0", "x" * (2**17 - 10)],
            0,
            {"key": "k", "ver": 0, "val": "x" * (2**17 - 10)},
        )
        one = await run("get", "foo", "--ver", "0", "--cluster", acceptors[0].address)
        assert json.loads(one.stdout) == entry


async def test_the_latest_version_from_a_shell() -> None:
    async with acceptor_processes(3) as acceptors:
        cluster = ",".join(acceptor.address for acceptor in acceptors)

        async def check(*args: str, code: int = 0) -> list[object]:
            done = await run(*args, cluster=cluster)
            assert done.returncode == code, done.stderr
            assert "Traceback" not in done.stderr
            return [json.loads(line) for line in done.stdout.splitlines()]

        first = {"key": "键😀", "ver": 0, "val": -5}
        second = {"key": "键😀", "ver": 1, "val": "two"}
        tombstone = {"key": "键😀", "ver": 2, "val": None, "deleted": True}
        assert await check("get", "键😀", code=1) == []
        assert await check("history", "键😀", code=1) == []
        assert await check("delete", "键😀") == []
        assert await check("put", "键😀", "-5") == [first]
        assert await check("put", "键😀", "two") == [second]
        assert await check("get", "键😀") == [second]
        assert await check("delete", "键😀") == [tombstone]
        assert await check("get", "键😀", code=1) == []
        assert await check("get", "键😀", "--ver", "2") == [tombstone]
        assert await check("history", "键😀") == [first, second, tombstone]
        minus = {"key": "-k", "ver": 0, "val": "--"}
        assert await check("put", "--", "-k", "--") == await check("get", "--", "-k") == [minus]
        assert await check("set", "--", "-k", "0", "--") == await check("history", "--", "-k")
        assert len(await check("delete", "--json", "--", "-k")) == 1
        for number in range(30):
            await check("put", f"key/{number % 3}", str(number))
        wanted = [{"key": f"key/{k}", "ver": 9, "val": 27 + k} for k in range(3)]
        assert await check("scan") == await check("scan", "key/") == wanted
        assert await check("scan", "key/", "--after", "key/0", "--limit", "1") == wanted[1:2]
        assert await check("scan", "nothing") == []
        long = 7 * 10**5000
        shown = await check("put", "long", "7" + "0" * 5000)
        assert shown == [{"key": "long", "ver": 0, "val": {"$int": hex(long)}}]
        lines = await check("status")
        assert [(line["up"], line["keys"]) for line in lines] == [(True, 6)] * 3  # type: ignore[index]
        for acceptor in acceptors[:2]:
            await acceptor.kill()
        lines = await check("status", code=4)
        assert [line["up"] for line in lines] == [False, False, True]  # type: ignore[index]
        done = await run("put", "foo", "1", "--timeout", "0.3", cluster=cluster)
        assert done.returncode == 4
        assert "1 of 3 acceptors answered, and 2 are needed" in done.stderr


async def test_where_nobody_hears_that_there_is_nothing_the_exit_code_says_it() -> None:
    async with acceptor_processes(1, "--memory") as (acceptor,):
        for args, code in (("get nope", 1), ("delete nope", 0), ("history nope", 1)):
            for where in ("2>/dev/full", "2>&1 >/dev/null | true"):
                command = f"set -o pipefail; {sys.executable} -m paxoskv {args} {where}"
                done = await trio.run_process(
                    ["bash", "-c", command], env=environment(acceptor.address), check=False
                )
                assert done.returncode == code, (args, where)


async def test_a_version_that_was_dropped_from_a_shell() -> None:
    async with acceptor_processes(1, "--keep", "1") as (acceptor,):
        for number in range(3):
            await run("put", "foo", str(number), cluster=acceptor.address)
        for args in (["get", "foo", "--ver", "0"], ["set", "foo", "0", "5"]):
            done = await run(*args, cluster=acceptor.address)
            assert done.returncode == 5
            assert "the latest version known of 'foo' is 2" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_output_that_cannot_be_written_is_no_bug() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "demo"], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert done.returncode == 6
    assert done.stderr.decode().strip() == "paxoskv: cannot go on: No space left on device"


NOBODY = str(free_addresses(1)[0])


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["get", "foo", "--ver", "0", "--timeout", "0.2", "--cluster", NOBODY], 4, "refused"),
        (["get", "foo", "--ver", "0"], 2, "--cluster"),
        (["put", "foo", "--cluster", NOBODY], 2, "VALUE"),
        (["scan", "a", "b", "--cluster", NOBODY], 2, "unexpected"),
        (["scan", "--limit", "-1", "--cluster", NOBODY], 2, "--limit"),
        (["scan", "--limit", "9" * 30, "--cluster", NOBODY], 2, "--limit"),
        (["status", "--timeout", "0", "--cluster", NOBODY], 2, "timeout"),
        (["get", "foo", "--ver", "x", "--cluster", NOBODY], 2, "no version"),
        (["set", "foo", "-1", "5", "--cluster", NOBODY], 2, "between 0 and"),
        (["set", "", "0", "5", "--cluster", NOBODY], 2, "empty"),
        (["set", "foo", "0", "--cluster", NOBODY], 2, "VALUE"),
        (["set", "foo", "0", "1", "2", "--cluster", NOBODY], 2, "unexpected"),
        (["set", "foo", "0", "5", "--cluster", "nonsense"], 2, "HOST:PORT"),
        (["set", "foo", "0", "5", "--cluster", ""], 2, "cluster"),
        (["set", "foo", "0", "[" * 200 + "]" * 200, "--cluster", NOBODY], 2, "nested"),
        (["set", "foo", "0", "[" * 9999 + "]" * 9999, "--cluster", NOBODY], 2, "nested"),
        (["set", "foo", "0", '"\\ud800"', "--cluster", NOBODY], 2, "Unicode"),
        (["get", "foo", "--ver", "0", "--timeout", "0", "--cluster", NOBODY], 2, "timeout"),
        (["get", "foo", "--ver", "0", "--timeout", "nan", "--cluster", NOBODY], 2, "timeout"),
        (["put", "--timout", "5", "--cluster", NOBODY], 2, "no such option: --timout"),
        (["put", "--cluste=a:1", "5", "--cluster", NOBODY], 2, "no such option: --cluste"),
        (["set", "-j", "0", "5", "--cluster", NOBODY], 2, "write -- before it"),
        (["put", "--jsn", "--cluster", NOBODY, "--", "-5"], 2, "no such option: --jsn"),
        (["get", "--jsn", "--cluster", NOBODY], 2, "No such option"),
        (["get", "foo", "--timeout", "0.2", "--cluster", f"{NOBODY}, {NOBODY}"], 4, "refused"),
        (["set", "foo", "1_0", "5", "--cluster", NOBODY], 2, "no version"),
        (["set", "foo", "+1", "5", "--cluster", NOBODY], 2, "no version"),
        (["set", "foo", "٣", "5", "--cluster", NOBODY], 2, "no version"),
        (["set", "foo", "9" * 4001, "5", "--cluster", NOBODY], 2, "no version"),
        (["set", "foo", "9" * 4000, "5", "--cluster", NOBODY], 2, "between 0 and"),
        (["nonsense"], 2, "No such command"),
        (["serve", "somewhere"], 6, "no data directory"),
        (["serve", "somewhere", "--keep", "0"], 2, "--keep"),
        (["serve", "somewhere", "--memory"], 6, "no data directory"),
        (["init", "somewhere"], 2, "HOST:PORT"),
        (["init", "somewhere", "a:1", "a:1"], 2, "same address"),
        (["init", "somewhere", "a:99999"], 2, "port"),
    ],
)
def test_what_is_wrong_is_said_and_told_by_the_exit_code(
    args: list[str], code: int, message: str
) -> None:
    done = paxoskv(*args)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("args", "code"), [(["nonsense"], 2), (["serve", "somewhere"], 6), (["demo"], 0)]
)
def test_the_exit_code_tells_also_where_nothing_can_be_said(args: list[str], code: int) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *args], stdout=subprocess.DEVNULL, stderr=full, timeout=30, check=False
        )
    assert done.returncode == code


def test_help_and_version() -> None:
    for args in (["--help"], ["set", "--help"], ["serve", "--help"], ["--version"]):
        done = paxoskv(*args)
        assert (done.returncode, done.stderr) == (0, "")
        assert "paxoskv" in done.stdout


def test_init_twice(tmp_path: Path) -> None:
    args = ["init", str(tmp_path / "demo"), *map(str, free_addresses(3))]
    assert paxoskv(*args).returncode == 0
    again = paxoskv(*args)
    assert again.returncode == 6
    assert "nothing was changed" in again.stderr


async def test_a_port_in_use_does_not_burn_the_directory(tmp_path: Path) -> None:
    taken = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{taken[0].socket.getsockname()[1]}"
    await run("init", str(tmp_path / "demo"), address)
    done = await run("serve", str(tmp_path / "demo" / "1"), "--memory")
    assert done.returncode == 6
    assert "cannot listen" in done.stderr
    assert not (tmp_path / "demo" / "1" / MEMORY_MARK).exists()
    await taken[0].aclose()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\x00\xff", {"$bytes": "AP8="}),
        (math.nan, {"$float": "NaN"}),
        ([-math.inf], [{"$float": "-Infinity"}]),
        (datetime(2020, 1, 2, tzinfo=UTC), {"$datetime": "2020-01-02T00:00:00+00:00"}),
        ({1: "a"}, {"$map": [[1, "a"]]}),
        ([2**100_000], [{"$int": hex(2**100_000)}]),
        ({"a": [True, None, 1.5]}, {"a": [True, None, 1.5]}),
    ],
)
def test_what_json_lacks(value: object, shown: object) -> None:
    assert jsonable(value) == shown
    json.dumps(jsonable(value), allow_nan=False)


def test_the_demo_is_plain_text_in_a_pipe() -> None:
    done = paxoskv("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    for step in ("prepare, ballot 1", "refused: ballot 2 of Y is promised", "7 is chosen"):
        assert step in done.stdout
    assert "await kv.get('foo', 1)  ->  7" in done.stdout


def test_who_stops_reading_the_output_is_told_nothing_more() -> None:
    with subprocess.Popen(
        [*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(None)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_interrupted() -> None:
    # Where the tests run in the background it may be ignored, and processes inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with subprocess.Popen(
            [*COMMAND, "get", "foo", "--ver", "0", "--cluster", NOBODY, "--timeout", "25"],
            stderr=subprocess.PIPE,
            env=environment(None),
        ) as process:
            assert process.stderr is not None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert b"Traceback" not in process.stderr.read()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_the_demo_is_coloured_in_a_terminal(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with subprocess.Popen([*COMMAND, "demo"], stdout=theirs, env=environment(None)) as process:
        shown = b""
        while b"paxoskv serve." not in shown:
            shown += os.read(ours, 4096)
        assert process.wait(timeout=30) == 0
    assert b"\x1b[" in shown


def test_closed_output_is_no_bug() -> None:
    for closed in (">&-", ">&- 2>&-", "<&- >&-"):
        command = f"{sys.executable} -m paxoskv demo {closed}"
        done = subprocess.run(
            ["sh", "-c", command], stderr=subprocess.PIPE, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr


def test_where_no_file_can_be_opened_it_is_an_error_and_not_nothing_there() -> None:
    command = f"ulimit -n 6; exec {sys.executable} -m paxoskv get foo --cluster {NOBODY}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30, check=False)
    assert done.returncode == 6, done.stderr


def test_what_a_terminal_cannot_show_is_escaped(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    script = (
        "from paxoskv.cli.output import show_entry\nfrom paxoskv import Entry\n"
        "show_entry(Entry('日本', 0, '😀'), False)\n"
    )
    env = environment(None) | {"PYTHONIOENCODING": "latin-1"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs, env=env) as process:
        assert process.wait(timeout=30) == 0
    assert b"\\u65e5\\u672c" in os.read(ours, 4096)


def test_what_would_move_the_cursor_is_escaped_in_a_terminal(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    script = (
        "from paxoskv.cli.output import show_entry\nfrom paxoskv import Entry\n"
        "show_entry(Entry('k\\x9b31mX', 0, '\\x9b2J \\u202e \\x7f \U0001f600'), False)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs) as process:
        assert process.wait(timeout=30) == 0
    shown = os.read(ours, 4096).decode()
    for harmful in ("\x9b", "\u202e", "\x7f"):
        assert harmful not in shown
