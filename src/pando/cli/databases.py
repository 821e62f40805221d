"""`pando databases`: the databases of the cluster as tenants, by the admin API.

Not here: scripts in and out (`databases_scripts`), SQLite files in and out (`importing`, `exporting`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pando.cli.access import find_target
from pando.cli.client import Client
from pando.cli.databases_scripts import dump_command, load_command
from pando.cli.databases_shared import database_path, inherited
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import console, failures, format_bytes, say, show, table
from pando.errors import CallerError, InvalidRequest
from pando.types import parse_database_name

app = typer.Typer(help="The databases of the cluster: list, make, copy, delete, configure, dump and load them.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the database.")]
MaxSizeOption = Annotated[
    str, typer.Option("--max-size", help='How large it may become, such as 500MB or 2GiB; "none" for no limit.')
]
TimeoutOption = Annotated[
    str, typer.Option("--txn-timeout", help='Seconds an open transaction may hold the writer; "none" for the usual.')
]
FreshnessOption = Annotated[
    str, typer.Option("--freshness", help='Freshness of reads that name none, such as strong; "none" for the usual.')
]
KeyOption = Annotated[
    Path | None, typer.Option("--jwt-key", metavar="FILE", help="File with public keys of tokens for this database.")
]
_PAGE = 10_000


class Namespace(msgspec.Struct):
    """One database in the server's list."""

    name: str
    size_bytes: int = 0
    block_reads: bool = False
    block_writes: bool = False
    max_db_size: int | None = None


class _Page(msgspec.Struct):
    namespaces: list[Namespace]
    next: str | None = None


@contextmanager
def _connected(context: typer.Context, url: str, directory: Path, token: str) -> Iterator[Client]:
    """Open a connection; options may stand before the name of the command, too."""
    url, directory, token = inherited(context, url, directory, token)
    target = find_target(url, directory, token)
    with Client(target.url, token=target.token) as client:
        yield client


@app.callback(invoke_without_command=True)
def databases(
    context: typer.Context,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Without a command: list them."""
    context.obj = (url, directory, token)
    if context.invoked_subcommand is None:
        _list(context, url, directory, token, as_json)


@app.command("list")
def list_command(
    context: typer.Context,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the databases with their sizes on the node that is asked."""
    _list(context, url, directory, token, as_json)


def _list(context: typer.Context, url: str, directory: Path, token: str, as_json: bool) -> None:
    with failures(as_json=as_json), _connected(context, url, directory, token) as client:
        found = list(_pages(client))
    rows = [(one.name, format_bytes(one.size_bytes), _maximum(one.max_db_size), _blocked(one)) for one in found]
    data = {"databases": [one.name for one in found], "details": [msgspec.to_builtins(one) for one in found]}
    columns = ("database", "size", "maximum", "blocked")
    show(data, as_json=as_json, human=lambda out: out.print(table(columns, rows)))


def _pages(client: Client) -> Iterator[Namespace]:
    after = ""
    while True:
        answer = client.get_json("/v1/namespaces", {"limit": str(_PAGE), **({"after": after} if after else {})})
        try:
            page = msgspec.convert(answer, _Page)
        except msgspec.ValidationError as error:
            raise CallerError(f"{client.url} does not answer as a Pando server: {error}", code="NOT_PANDO") from error
        yield from page.namespaces
        if not page.next:
            return
        after = page.next


def _maximum(size: int | None) -> str:
    return "" if size is None else format_bytes(size)


def _blocked(one: Namespace) -> str:
    return " and ".join(word for word, is_so in (("reads", one.block_reads), ("writes", one.block_writes)) if is_so)


@app.command()
def create(
    context: typer.Context,
    name: NameArgument,
    max_size: MaxSizeOption = "",
    txn_timeout: TimeoutOption = "",
    freshness: FreshnessOption = "",
    jwt_key: KeyOption = None,
    dump_url: Annotated[
        str, typer.Option("--dump-url", help="Address (http, https) of a SQL dump that the server loads into it.")
    ] = "",
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a database, empty unless a dump is named."""
    with failures(as_json=as_json), _connected(context, url, directory, token) as client:
        made = parse_database_name(name)
        body = _settings(max_size, txn_timeout, freshness, jwt_key)
        if dump_url:
            body["dump_url"] = dump_url
        client.post_json(database_path(made, "create"), body=body)
    show({"created": made}, as_json=as_json, human=lambda out: out.print(f"created {made}"))


@app.command()
def fork(
    context: typer.Context,
    name: NameArgument,
    other: Annotated[str, typer.Argument(metavar="NEW", help="Name of the copy.")],
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Copy a database as it is now."""
    with failures(as_json=as_json), _connected(context, url, directory, token) as client:
        source, made = parse_database_name(name), parse_database_name(other)
        client.post_json(database_path(source, f"fork/{made}"), body={})
    show({"forked": source, "created": made}, as_json=as_json, human=lambda out: out.print(f"{source} is {made}, too"))


@app.command()
def delete(
    context: typer.Context,
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete a database on every node. Nothing of it is kept."""
    with failures(as_json=as_json), _connected(context, url, directory, token) as client:
        gone = parse_database_name(name)
        if not yes:
            _ask(gone)
        client.delete_json(database_path(gone))
    show({"deleted": gone}, as_json=as_json, human=lambda out: out.print(f"deleted {gone}"))


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise InvalidRequest(f"give --yes to delete {name}: there is no terminal to ask on")
    say(f"Everything in the database {name} will be deleted on every node. Type its name to go on:")
    if sys.stdin.readline().strip() != name:
        raise InvalidRequest("that is not its name; nothing was deleted")


@app.command()
def config(
    context: typer.Context,
    name: NameArgument,
    block_reads: Annotated[
        bool | None, typer.Option("--block-reads/--allow-reads", help="Whether reads by SQL are refused.")
    ] = None,
    block_writes: Annotated[
        bool | None, typer.Option("--block-writes/--allow-writes", help="Whether writes by SQL are refused.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="What who is refused is told.")] = None,
    max_size: MaxSizeOption = "",
    txn_timeout: TimeoutOption = "",
    freshness: FreshnessOption = "",
    jwt_key: KeyOption = None,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what is configured for a database, or change what is named."""
    with failures(as_json=as_json), _connected(context, url, directory, token) as client:
        path = database_path(parse_database_name(name), "config")
        wanted = _settings(max_size, txn_timeout, freshness, jwt_key)
        given = {"block_reads": block_reads, "block_writes": block_writes, "block_reason": reason}
        changes = {**wanted, **{key: value for key, value in given.items() if value is not None}}
        found = _object(client.get_json(path))
        if changes:
            body = {**{key: found.get(key) for key in given}, **changes}
            if reason is None and not body["block_reads"] and not body["block_writes"]:
                body["block_reason"] = None
            client.post_json(path, body=body)
            found = _object(client.get_json(path))
    rows = [(key, "" if value is None else value) for key, value in found.items()]
    show(found, as_json=as_json, human=lambda out: out.print(table(("setting", "value"), rows)))


def _settings(max_size: str, txn_timeout: str, freshness: str, jwt_key: Path | None) -> dict[str, object]:
    """Give the fields that were named; "none" takes one away."""
    found: dict[str, object] = {}
    if max_size:
        found["max_db_size"] = None if max_size == "none" else max_size
    if txn_timeout:
        try:
            found["txn_timeout_s"] = None if txn_timeout == "none" else float(txn_timeout)
        except ValueError as error:
            raise InvalidRequest(
                f"--txn-timeout is {txn_timeout!r}; it must be a number of seconds, or none"
            ) from error
    if freshness:
        found["freshness"] = None if freshness == "none" else freshness
    if jwt_key is not None:
        try:
            found["jwt_key"] = jwt_key.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{jwt_key} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return found


@app.command()
def stats(
    context: typer.Context,
    name: NameArgument,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what the node that is asked was asked since it began: counters, heaviest and slowest statements."""
    with failures(as_json=as_json), _connected(context, url, directory, token) as client:
        found = _object(client.get_json(database_path(parse_database_name(name), "stats")))
    if as_json:
        show(found, as_json=True, human=lambda _: None)
        return
    out = console()
    plain = [(key, value) for key, value in found.items() if not isinstance(value, list | dict) and value is not None]
    out.print(table(("figure", "value"), [*plain, *_percentiles(found.get("queries"))]))
    for title, key in (("heaviest", "top_queries"), ("slowest", "slowest_queries")):
        queries = found.get(key)
        if isinstance(queries, list) and queries:
            out.print()
            out.print(_queries(title, queries))


def _percentiles(insights: object) -> list[tuple[str, object]]:
    elapsed = insights.get("elapsed") if isinstance(insights, dict) else None
    return [(f"{name}_ms", value) for name, value in (elapsed or {}).items() if name != "sum"]


def _queries(title: str, queries: Iterable[Any]) -> Any:  # noqa: ANN401 - a table of rich
    rows = [
        (_elapsed(query), query.get("rows_read"), query.get("rows_written"), " ".join(text.split())[:120])
        for query in queries
        if isinstance(query, dict)
        for text in [str(query.get("query", ""))]
    ]
    return table(("ms", "read", "written", title), rows)


def _elapsed(query: dict[str, Any]) -> object:
    exact = query.get("elapsed_us")
    return exact / 1000 if isinstance(exact, int) else query.get("elapsed_ms", "")


def _object(answer: object) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise CallerError("the server does not answer as a Pando server", code="NOT_PANDO")
    return answer


app.command("dump")(dump_command)
app.command("load")(load_command)
