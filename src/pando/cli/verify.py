"""`pando verify`: does every node hold the same bytes? Each reads all its pages; here the checksums are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from pando.cli.access import find_target
from pando.cli.client import Client, ServerError
from pando.cli.cluster import NodeReport, read_cluster
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlArgument, UrlOption
from pando.cli.output import FAILED, failures, say, show, table
from pando.clock import sleep_blocking
from pando.errors import CallerError, PandoError

VERIFY_TIMEOUT_S = 600.0
"""How long a node may take to read all pages of a database."""
ATTEMPTS_MAX = 10
"""How often nodes are asked again while commits go on and they answer at different positions."""
PAUSE_S = 0.2
"""Pause before nodes are asked again."""
COLUMNS = ("database", "node", "position", "checksum", "pages", "result")


class Verification(msgspec.Struct, kw_only=True):
    """What one node found in one database."""

    database: str = ""
    epoch: int = 0
    txid: int = 0
    checksum: str = ""
    believed: str = ""
    pages: int = 0
    url: str = ""
    node: str = ""
    result: str = ""


def verify(
    address: UrlArgument = "",
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    database: Annotated[str, typer.Option("--database", "-d", help="Only this database.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Compare the bytes of every database on every node. Exit status 1 when they differ or a node cannot be asked."""
    with failures(as_json=as_json):
        target = find_target(address or url, directory, token)
        reports = read_cluster(target.url, target.token)
        names = [database] if database else _database_names(reports)
        found = [row for name in names for row in _verify_database(name, reports, target.token)]
    is_equal = bool(found) and all(row.result == "equal" for row in found)
    data = {"equal": is_equal, "databases": names, "checks": [msgspec.to_builtins(row) for row in found]}
    show(data, as_json=as_json, human=lambda out: out.print(table(COLUMNS, map(_cells, found))))
    say("equal: every node holds the same bytes" if is_equal else "not equal: see the table")
    if not is_equal:
        raise typer.Exit(FAILED)


def _cells(row: Verification) -> tuple[object, ...]:
    return (row.database, row.node, f"{row.epoch}/{row.txid}", row.checksum, row.pages, row.result)


def _database_names(reports: Iterable[NodeReport]) -> list[str]:
    return sorted({database.name for report in reports if report.view for database in report.view.databases})


def _verify_database(name: str, reports: list[NodeReport], token: str | None) -> list[Verification]:
    """Ask all nodes until they answer at one position: while commits go on, the next answers may meet."""
    for attempt in range(ATTEMPTS_MAX):
        found = [_ask(name, report, token) for report in reports]
        if len({(row.epoch, row.txid) for row in found if not row.result}) <= 1:
            break
        if attempt + 1 < ATTEMPTS_MAX:
            sleep_blocking(PAUSE_S)
    return judge(found)


def _ask(name: str, report: NodeReport, token: str | None) -> Verification:
    node = report.view.node if report.view else "?"
    if report.view is None:
        return Verification(database=name, url=report.url, node=node, result=f"away: {report.error}")
    try:
        with Client(report.url, token=token, timeout_s=VERIFY_TIMEOUT_S) as client:
            row = msgspec.convert(client.get_json("/cluster/verify", {"database": name}), Verification)
    except msgspec.ValidationError as error:
        raise CallerError(f"{report.url} does not answer as a Pando server: {error}", code="NOT_PANDO") from error
    except PandoError as error:
        if isinstance(error, ServerError) and error.status in (401, 403):
            raise  # the same for every database and node
        return Verification(database=name, url=report.url, node=node, result=f"failed: {error.message}")
    row.database, row.url, row.node = name, report.url, node
    return row


def judge(found: list[Verification]) -> list[Verification]:
    """Fill in the results of one database: damaged, at another position, differs, or equal."""
    positions: dict[tuple[int, int], set[str]] = defaultdict(set)
    for row in found:
        if not row.result:
            positions[(row.epoch, row.txid)].add(row.checksum)
    for row in found:
        row.result = row.result or _result(row, positions)
    return found


def _result(row: Verification, positions: dict[tuple[int, int], set[str]]) -> str:
    if row.believed and row.believed != row.checksum:
        return f"damaged: the node believes {row.believed}"
    if len(positions[(row.epoch, row.txid)]) > 1:
        return "differs"
    if len(positions) > 1:
        return "at another position"
    return "equal"
