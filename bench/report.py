"""Results as JSON, as lines of progress, and as tables with ratios."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

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


def newest(results: Path = RESULTS) -> Path | None:
    """The newest result, if there is one."""
    return max(results.glob("*.json"), default=None)


def what(record: Record) -> str:
    """What was measured, without the system."""
    workload, callers = record["workload"], record.get("callers")
    if workload == "duel":
        return f"duel of {callers}"
    if workload == "failover":
        return f"{record['event']} under {callers} writers"
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
    start = f"{record['workload']:11}{record['system']:20}{what(record):34}"
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
            cells.append(f"{ratio:.2f} ×" if found and other != system else "")
        for field, (_, digits) in list(columns.items())[1:]:
            values = [record[field] for record in records if record[field] is not None]
            cells.append(f"{spread(values)[0]:,.{digits}f}" if values else "")
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
