"""All benchmarks: `make bench`. Writes benchmarks/results.json, and the figures into docs/performance.md.

python -m benchmarks [--quick] [write_path visibility snapshots sql_http sql_websocket records realtime realtime_users]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import realtime, realtime_users, records, snapshots, sql_http, sql_websocket, visibility, write_path
from benchmarks.common import bench

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
PARTS: dict[str, Any] = {
    "write_path": lambda table, quick: write_path.run(table, 1 if quick else 3),
    "visibility": lambda table, quick: visibility.run(table, 2 if quick else 5, 5_000 if quick else 100_000),
    "snapshots": lambda table, quick: snapshots.run(table, (64 if quick else 1024) << 20, 20 if quick else 200),
    "sql_http": lambda table, quick: sql_http.run(table, 1 if quick else 4),
    "sql_websocket": lambda table, quick: sql_websocket.run(table, 1 if quick else 3),
    "records": lambda table, quick: records.run(table, 1 if quick else 4),
    "realtime": lambda table, quick: realtime.run(table, realtime.QUICK if quick else realtime.FULL),
    "realtime_users": lambda table, quick: realtime_users.run(
        table, realtime_users.QUICK if quick else realtime_users.FULL
    ),
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that everything works")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    path = Path(__file__).with_name("results.json")
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for part in options.parts or list(PARTS):
        with bench() as table:
            results[part] = PARTS[part](table, options.quick)
        print(f"\n## {part}")
        for name, row in results[part].items():
            print(f"| {name} | {row} |", flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    if not options.quick:
        write_page(results)


def write_page(results: dict[str, Any]) -> None:
    """Put the figures between the marks of docs/performance.md."""
    page = Path(__file__).parents[1] / "docs" / "performance.md"
    text = page.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    lines = [""]
    for part, rows in results.items():
        lines += ["", f"### {part}", "", "| what | figures |", "|---|---|"]
        for name, row in rows.items():
            lines += rendered(name, row)
    page.write_text(text[:begin] + "\n".join(lines) + "\n\n" + text[end:])


def rendered(name: str, row: dict[str, Any]) -> list[str]:
    """Give table rows: one, or one per group of a load client."""
    if row and all(isinstance(value, dict) for value in row.values()):
        return [f"| {name}: {group} | {shown(values)} |" for group, values in row.items()]
    return [f"| {name} | {shown(row)} |"]


def shown(values: dict[str, Any]) -> str:
    """Give figures as text."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


if __name__ == "__main__":
    main()
