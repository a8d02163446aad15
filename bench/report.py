"""Results as JSON, as lines of progress, and as tables with ratios."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .machine import sentence
from .statistics import spread

Record: TypeAlias = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
"""Where results go; git ignores it."""

OURS, PEER, FLOOR = "paxoskv", "etcd", "floor"
"""The systems whose ratios the tables show."""


def new_result(results: Path = RESULTS) -> Path:
    """Where the next result goes; later ones sort behind earlier ones."""
    results.mkdir(exist_ok=True, parents=True)
    return results / time.strftime("%Y%m%d-%H%M%S.json")


def save(path: Path, machine: dict[str, str], records: Sequence[Record]) -> None:
    """Write a result, which is whole at any time."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"machine": machine, "records": list(records)}))
    new.replace(path)


def load(path: Path) -> tuple[dict[str, str], list[Record]]:
    """The machine and the records of a result."""
    result = json.loads(path.read_text())
    return result["machine"], result["records"]


def newest(results: Path = RESULTS) -> Path | None:
    """The newest result, if there is one."""
    return max(results.glob("*.json"), default=None)


def what(record: Record) -> str:
    """What was measured, without the system."""
    workload, callers = record["workload"], record.get("callers")
    if workload == "duel":
        return f"duel of {callers}"
    if workload == "failover":
        shared = " of one number" if record["operation"] == "count" else ""
        return f"{record['event']} under {callers} writers{shared}"
    if workload == "growth":
        return f"{record['operation']}, {UNITS[record['varied']].format(record['to'])}"
    if workload == "recovery":
        return f"{record['to']:,} keys"
    text = f"{record['operation']}, {'one caller' if callers == 1 else f'{callers} callers'}"
    if record["processes"] > 1:
        text += f" in {record['processes']} processes"
    return text


def line(record: Record) -> str:
    """A record as a line of progress."""
    start = f"{record['workload']:11}{record['system']:20}{what(record):38}"
    if record["workload"] == "failover":
        return f"{start}longest gap {record['gap']:8.0f} ms  {record['errors']} errors"
    if record["workload"] == "recovery":
        return f"{start}caught up {record['caught_up']:.2f} s, started {record['started_up']:.2f} s"
    text = f"{start}{record['rate']:9.0f}/s {record['median']:9.3f} ms"
    if record["workload"] == "duel":
        text += f"  {record['attempts']:.2f} attempts, fairness {record['fairness']:.2f}"
    return text + (f"  {record['errors']} ERRORS" if record["errors"] else "")


def tables(records: Iterable[Record]) -> str:
    """All workloads as tables in Markdown: medians of the repetitions, least and greatest."""
    grouped: dict[str, dict[tuple[str, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        grouped[record["workload"]][what(record), record["system"]].append(record)
    return "\n".join(_table(name, rows) for name, rows in grouped.items())


COLUMNS: dict[str, dict[str, tuple[str, int]]] = {
    "latency": {"median": ("median, ms", 3), "p99": ("99 %, ms", 3)},
    "throughput": {"rate": ("calls/s", 0), "median": ("median, ms", 2), "p99": ("99 %, ms", 2)},
    "failover": {
        "gap": ("longest gap, ms", 0),
        "before": ("writes/s before", 0),
        "after": ("writes/s after", 0),
        "errors": ("errors", 0),
    },
    "growth": {
        "median": ("median, ms", 2),
        "rate": ("calls/s", 0),
        "callers": ("callers", 0),
        "memory": ("memory of a member, MiB", 0),
        "kept": ("disk a key and member, B", 0),
    },
    "recovery": {"caught_up": ("caught up, s", 2), "started_up": ("all started, s", 2)},
    "duel": {
        "rate": ("versions/s", 0),
        "attempts": ("attempts a version", 2),
        "fairness": ("fairness", 2),
        "median": ("median, ms", 2),
        "p99": ("99 %, ms", 2),
    },
}
"""The figures of each workload: the field, its heading, and digits. The first has ratios."""

COSTS = {
    "member_cpu": ("members' CPU, µs", 0),
    "client_cpu": ("client CPU, µs", 0),
    "disk": ("disk, B", 0),
    "loopback": ("loopback, B", 0),
}
"""What a call costs besides time."""


SUMMARY: dict[str, tuple[dict[str, Any], str, str]] = {
    "one durable put, median": (
        {"workload": "latency", "operation": "put"},
        "median",
        "{:,.2f} ms",
    ),
    "durable puts, 64 callers": (
        {"workload": "throughput", "operation": "put", "callers": 64, "processes": 1},
        "rate",
        "{:,.0f}/s",
    ),
    "durable puts, 256 callers": (
        {"workload": "throughput", "operation": "put", "callers": 256, "processes": 1},
        "rate",
        "{:,.0f}/s",
    ),
    "get the latest, median": (
        {"workload": "latency", "operation": "get"},
        "median",
        "{:,.2f} ms",
    ),
    "get the latest, 64 callers": (
        {"workload": "throughput", "operation": "get", "callers": 64, "processes": 1},
        "rate",
        "{:,.0f}/s",
    ),
    "one key, one writer": (
        {"workload": "duel", "callers": 1},
        "rate",
        "{:,.0f} versions/s",
    ),
    "one key, 16 duelling writers": (
        {"workload": "duel", "callers": 16},
        "rate",
        "{:,.0f} versions/s",
    ),
    "a member killed: longest write gap": (
        {"workload": "failover", "event": "kill", "operation": "put"},
        "gap",
        "{:,.0f} ms",
    ),
    "a member stopped: longest write gap": (
        {"workload": "failover", "event": "stop", "operation": "put"},
        "gap",
        "{:,.0f} ms",
    ),
}
"""The rows of the README's table: which records, their field, and how it is written."""

SUMMARY_SYSTEMS = (OURS, PEER, "PySyncObj", FLOOR)


def summary(machine: dict[str, str], records: Sequence[Record]) -> str:
    """The README's table: medians, and paxoskv's as ratios of etcd's and of the floor's."""
    lines = [
        _row(["", *SUMMARY_SYSTEMS, "of etcd", "of the floor"]),
        _row(["---"] + ["---:"] * 6),
    ]
    for name, (wanted, field, form) in SUMMARY.items():
        medians: dict[str, float] = {}
        for system in SUMMARY_SYSTEMS:
            values = [
                record[field]
                for record in records
                if record["system"] == system
                and all(record.get(key) == value for key, value in wanted.items())
            ]
            if values:
                medians[system] = spread(values)[0]
        cells = [form.format(medians[each]) if each in medians else "" for each in SUMMARY_SYSTEMS]
        for other in (PEER, FLOOR):
            both = OURS in medians and other in medians
            cells.append(f"{medians[OURS] / medians[other]:.2f} x" if both else "")
        lines.append(_row([name, *cells]))
    return "\n".join([*lines, "", sentence(machine)])


UNCOUNTED = ("failover", "recovery")
"""Workloads whose costs are not counted."""

UNITS = {"keys": "{:,} keys", "size": "{:,} bytes", "members": "{} members"}
"""What is varied in `growth`."""


def _table(workload: str, rows: dict[tuple[str, str], list[Record]]) -> str:
    columns = COLUMNS[workload] | (COSTS if workload not in UNCOUNTED else {})
    main = next(iter(columns))
    headings = ["", "system", *(heading for heading, _ in columns.values())]
    headings[3:3] = ["spread", "of etcd", "of the floor"]
    lines = [
        f"## {workload}",
        "",
        _row(headings),
        _row(["---", "---"] + ["---:"] * (len(headings) - 2)),
    ]
    for (name, system), records in rows.items():
        median, least, greatest = spread([record[main] for record in records])
        digits = columns[main][1]
        cells = [
            name,
            system,
            f"{median:,.{digits}f}",
            f"{least:,.{digits}f} … {greatest:,.{digits}f}",
        ]
        for other in (PEER, FLOOR):
            found = rows.get((name, other))
            ratio = median / spread([each[main] for each in found])[0] if found else 0
            cells.append(f"{ratio:.2f} x" if found and other != system else "")
        for field, (_, digits) in list(columns.items())[1:]:
            values = [record[field] for record in records if record[field] is not None]
            cells.append(f"{spread(values)[0]:,.{digits}f}" if values else "")
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
