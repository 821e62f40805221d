"""The live table of `pando up`: nodes, addresses, roles, positions, lag, restarts.

What it shows is asked over HTTP like any client would; only restarts come from the cluster's own bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pando.cli.client import Client
from pando.cli.cluster import NodeReport, NodeView, read_view
from pando.cli.output import format_bytes, table
from pando.errors import PandoError
from pando.store.protocol import DatabaseStatus

ASK_TIMEOUT_S = 0.8
"""How long a node may take to tell its status before the table says that it is away."""
COLUMNS = (
    "node",
    "address",
    "role",
    "state",
    "database",
    "position",
    "lag txids",
    "lag bytes",
    "lag s",
    "size",
    "restarts",
)


def ask_nodes(urls: Sequence[str], token: str | None) -> list[NodeReport]:
    """Ask every node for its status; what cannot be asked is away."""
    return [_ask(url, token) for url in urls]


def _ask(url: str, token: str | None) -> NodeReport:
    try:
        with Client(url, token=token, timeout_s=ASK_TIMEOUT_S) as client:
            return NodeReport(url=url, view=read_view(client))
    except PandoError as error:
        return NodeReport(url=url, view=None, error=error.message)


def make_table(reports: Sequence[NodeReport], restarts: Mapping[str, int]) -> Table:
    """Make the table: a row for each database of each node."""
    rows = [row for report in reports for row in _rows(report, restarts.get(report.url, 0))]
    return table(COLUMNS, rows)


def _rows(report: NodeReport, restarts: int) -> list[tuple[object, ...]]:
    view = report.view
    if view is None:
        return [("?", report.url, "?", "away", *[""] * 6, restarts)]
    head = (view.node, report.url, view.role, _state(view))
    if not view.databases:
        return [(*head, *[""] * 6, restarts)]
    return [
        (*(head if number == 0 else ("", "", "", "")), *_database(database), restarts if number == 0 else "")
        for number, database in enumerate(view.databases)
    ]


def _state(view: NodeView) -> str:
    if not view.ready:
        return "starting"
    return "ready" if view.upstream_connected or view.role == "primary" else "cut off"


def _database(database: DatabaseStatus) -> tuple[object, ...]:
    position = f"{database.epoch}/{database.txid}"
    size = format_bytes(database.size_bytes)
    return (database.name, position, database.lag_txids, database.lag_bytes, f"{database.lag_s:.3f}", size)


def show_live(out: Console, draw: Callable[[], Table], wait: Callable[[], bool]) -> None:
    """Draw until `wait`, which pauses for a moment, says that it is over."""
    with Live(draw(), console=out, auto_refresh=False) as live:
        while wait():
            live.update(draw(), refresh=True)
