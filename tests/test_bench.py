"""The benchmarks run, and what they print is sane. No speed is asserted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench import report, workloads
from bench.__main__ import main
from bench.counters import Counters
from bench.load import Load, Measured, Sample, _measured, run
from bench.statistics import jain, longest_gap, percentile, summarize
from bench.systems.floor import Floor
from bench.systems.paxoskv import PaxosKV

MACHINE = {
    "cores": "2",
    "processor": "a",
    "memory": "1 GiB",
    "system": "Linux",
    "python": "3",
    "build": "compiled",
}


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def recorded() -> list[dict[str, Any]]:
    """A tiny result of all workloads."""
    samples = [Sample(number / 10, 0.002, number % 2, 1) for number in range(1, 11)]
    measured = Measured(0.0, 2.0, samples, 2, 0, Counters(1.0, 0.5, 1e4, 2e4))
    records: list[dict[str, Any]] = []
    for system in ("paxoskv", "etcd", "floor"):
        for workload, varied in (
            ("latency", {"operation": "put", "callers": 1, "processes": 1}),
            ("latency", {"operation": "get", "callers": 1, "processes": 1}),
            ("throughput", {"operation": "put", "callers": 64, "processes": 1}),
            ("throughput", {"operation": "put", "callers": 256, "processes": 1}),
            ("duel", {"operation": "duel", "callers": 16, "processes": 8}),
            ("growth", {"operation": "put", "varied": "keys", "to": 9, "callers": 16}),
        ):
            numbers = summarize(measured) | {"memory": 1.0, "kept": None}
            records.append({"workload": workload, "system": system, **varied, **numbers})
        for event in ("kill", "stop"):
            outage = {"gap": 12.0, "before": 9.0, "after": 8.0, "errors": 0, "callers": 16}
            timeline = [[-0.1, 10.0], [0.0, 0.0], [0.1, 5.0]]
            records.append(
                {"workload": "failover", "system": system, "event": event, **outage}
                | {"operation": "put", "timeline": timeline}
            )
        records.append(
            {"workload": "recovery", "system": system, "to": 9, "caught_up": 1.0}
            | {"started_up": 2.0, "errors": 0}
        )
    return records


def test_percentile() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([1, 2], 50) == 1.5
    assert percentile(range(101), 99) == 99
    assert math.isnan(percentile([], 50))


def test_jain() -> None:
    assert jain([5, 5, 5]) == 1
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert math.isnan(jain([0, 0]))


def test_longest_gap() -> None:
    assert longest_gap([1, 2, 6, 7], 0, 8) == 4
    assert longest_gap([-1, 1], 0, 9) == 8, "the gap that is not over counts"
    assert longest_gap([], 2, 5) == 3


def test_summarize() -> None:
    samples = [Sample(1.0, 0.001, 0, 1), Sample(2.0, 0.003, 1, 3)]
    got = summarize(Measured(0.0, 2.0, samples, 2, 1, Counters(member_cpu=1.0, disk=8.0)))
    assert (got["rate"], got["median"], got["attempts"], got["fairness"]) == (1, 2, 2, 1)
    assert (got["member_cpu"], got["disk"], got["errors"]) == (5e5, 4, 1)
    assert got["quantiles"][0] == 1
    assert got["quantiles"][-1] == 3
    json.dumps(summarize(Measured(0.0, 2.0, [], 2, 0)))


def test_what_client_processes_say_is_put_together_and_cut_to_the_measured_time() -> None:
    said = [
        {"samples": [[0.5, 0.1, 0, 1], [1.5, 0.1, 1, 2]], "errors": 1},
        {"samples": [[1.2, 0.1, 0, 1], [3.5, 0.1, 1, 1]], "errors": 2},
    ]
    measured = _measured(
        Load("put", callers=4, processes=2, seconds=2.0),
        list(map(json.dumps, said)),
        1.0,
        Counters(),
    )
    assert measured.samples == [Sample(1.2, 0.1, 2, 1), Sample(1.5, 0.1, 1, 2)]
    assert (measured.callers, measured.errors, measured.seconds) == (4, 3, 2.0)


def test_a_table_has_the_ratios_to_others_and_none_to_oneself() -> None:
    rates = {"paxoskv": 3.0, "etcd": 6.0, "floor": 12.0}
    records = [
        {**record, "rate": rates[record["system"]]}
        for record in recorded()
        if record["workload"] == "throughput" and record["callers"] == 64
    ]
    rows = [line.split(" | ") for line in report.tables(records).splitlines()[4:]]
    assert [(row[1], row[4].strip(), row[5].strip()) for row in rows] == [
        ("paxoskv", "0.50 x", "0.25 x"),
        ("etcd", "", "0.50 x"),
        ("floor", "2.00 x", ""),
    ]


def test_tables_and_summary() -> None:
    text = report.tables(recorded())
    for workload in workloads.WORKLOADS:
        assert f"## {workload}" in text
    assert "1.00 x" in text
    assert all(report.line(record) for record in recorded())
    table = report.summary(MACHINE, recorded())
    assert "| durable puts, 64 callers | 5/s | 5/s |  | 5/s | 1.00 x | 1.00 x |" in table


def test_pictures_and_readme(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import pictures

    files = pictures.draw(recorded(), tmp_path)
    assert {file.name for file in files} == {
        f"{name}.{kind}" for name in pictures.PICTURES for kind in ("png", "svg")
    }
    assert all(file.stat().st_size > 1000 for file in files)
    result = tmp_path / "1.json"
    report.save(result, MACHINE, recorded())
    assert report.newest(tmp_path) == result
    done = bench("readme", "--result", str(result), "--pictures", str(tmp_path / "docs"))
    assert done.exit_code == 0, done.stderr
    assert "| 12 ms |" in done.stdout
    assert {file.name for file in (tmp_path / "docs").iterdir()} == {
        f"{name}.{kind}" for name in ("duel", "throughput") for kind in ("png", "svg")
    }


@pytest.mark.parametrize(
    "wrong",
    [["slow"], ["quick", "--only", "nothing"], ["quick", "--only", "growth"], ["readme", "x"]],
)
def test_wrong_usage(wrong: list[str]) -> None:
    done = bench(*wrong)
    assert done.exit_code == 2
    assert "Error: " in done.stderr


def test_a_missing_peer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.systems.etcd import Etcd

    monkeypatch.setenv("PATH", "")
    assert Etcd().missing() == "etcd is skipped: apt-get install etcd-server etcd-client"


async def test_a_real_run() -> None:
    for system, operation in ((PaxosKV(durable=False), "put"), (Floor(), "put")):
        async with system.start() as cluster:
            load = Load(operation, callers=2, seconds=0.5, warm_up=0.1)
            measured = await run(cluster, load)
        assert measured.samples
        assert measured.errors == 0
        assert {sample.caller for sample in measured.samples} == {0, 1}
        assert all(0 < sample.took < 5 for sample in measured.samples)


async def test_a_real_duel() -> None:
    async with PaxosKV(durable=False).start() as cluster:
        measured = await run(cluster, Load("duel", callers=4, seconds=0.8, processes=2))
    assert measured.callers == 4
    assert measured.samples
    assert sum(sample.attempts for sample in measured.samples) >= len(measured.samples)
