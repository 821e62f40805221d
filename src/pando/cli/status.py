"""`pando status`: nodes, roles, positions, lag, sizes; exit status 1 when something is not as it should be."""

from __future__ import annotations

import msgspec
import typer
from rich.console import Console

from pando.cli.access import find_target
from pando.cli.cluster import NodeReport, complaints, read_cluster
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlArgument, UrlOption
from pando.cli.output import FAILED, failures, format_bytes, say, show, table

NODE_COLUMNS = ("node", "address", "role", "epoch", "state", "databases", "replicas")
DATABASE_COLUMNS = (
    "node",
    "database",
    "role",
    "position",
    "lag txids",
    "lag bytes",
    "lag s",
    "size",
    "wal",
    "log",
    "state",
)


def status(
    address: UrlArgument = "",
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show nodes, roles, positions, lag and sizes. Exit status 1 when a node is away or a database needs attention."""
    with failures(as_json=as_json):
        target = find_target(address or url, directory, token)
        reports = read_cluster(target.url, target.token)
    wrong = complaints(reports)
    show(_as_data(reports, wrong), as_json=as_json, human=lambda out: _print(out, reports))
    for line in wrong:
        say(f"degraded: {line}")
    if wrong:
        raise typer.Exit(FAILED)


def _as_data(reports: list[NodeReport], wrong: list[str]) -> dict[str, object]:
    nodes = [
        {"url": report.url, "error": report.error or None, "status": msgspec.to_builtins(report.view)}
        for report in reports
    ]
    return {"degraded": bool(wrong), "complaints": wrong, "nodes": nodes}


def _print(out: Console, reports: list[NodeReport]) -> None:
    out.print(table(NODE_COLUMNS, [node_row(report) for report in reports]))
    rows = [row for report in reports for row in _database_rows(report)]
    if rows:
        out.print()
        out.print(table(DATABASE_COLUMNS, rows))


def node_row(report: NodeReport) -> tuple[object, ...]:
    """Give the row of a node: name, address, role, epoch, state, databases, connected replicas."""
    view = report.view
    if view is None:
        return ("?", report.url, "?", "?", "away", "?", "?")
    connected = sum(replica.connected for replica in view.replicas)
    state = "ready" if view.ready else "not ready"
    return (view.node, report.url, view.role, view.epoch, state, len(view.databases), connected)


def _database_rows(report: NodeReport) -> list[tuple[object, ...]]:
    view = report.view
    if view is None:
        return []
    return [
        (
            view.node,
            database.name,
            view.role,
            f"{database.epoch}/{database.txid}",
            database.lag_txids,
            database.lag_bytes,
            round(database.lag_s, 3),
            format_bytes(database.size_bytes),
            format_bytes(database.wal_size_bytes),
            format_bytes(database.log_size_bytes),
            database.state,
        )
        for database in view.databases
    ]
