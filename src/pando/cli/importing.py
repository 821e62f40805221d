"""`pando import`: a SQLite file becomes a database of the cluster.

Not here: which bytes of it are sent (see `cli.source_file`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pando.cli.access import find_target
from pando.cli.client import CHUNK_BYTES, Client
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import Report, failures, format_bytes, progress, say, show
from pando.cli.source_file import Source, open_source
from pando.errors import InvalidDatabaseName, InvalidRequest
from pando.types import parse_database_name

IMPORT_TIMEOUT_S = 3600.0
"""How long the server may take to take the file over."""


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.db", help="A SQLite database file.")],
    name: Annotated[str, typer.Option(help="Name of the database; the file's name when not given.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace what the database holds now.")] = False,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Import a SQLite file as a database; it is replicated to every node. Other programs may have the file open."""
    with failures(as_json=as_json):
        database = _database_name(name, file)
        target = find_target(url, directory, token)
        with (
            open_source(file, say) as source,
            Client(target.url, token=target.token, timeout_s=IMPORT_TIMEOUT_S) as client,
        ):
            size = source.size
            query = {"name": database, "replace": "true" if replace else "false"}
            with progress(f"importing {file.name}") as report:
                client.upload("/cluster/import", query, _chunks(source, report), size)
    data = {"imported": database, "size_bytes": size}
    show(data, as_json=as_json, human=lambda out: out.print(f"imported {database}, {format_bytes(size)}"))


def _database_name(name: str, file: Path) -> str:
    try:
        return parse_database_name(name or file.stem)
    except InvalidDatabaseName as error:
        if name:
            raise
        raise InvalidDatabaseName(f"{error.message}; --name gives the database another name than the file") from error


def _chunks(source: Source, report: Report) -> Iterator[bytes]:
    """Give the bytes; the last ones only when the file is still what it was, so that nothing else is ever imported."""
    sent = 0
    report(0, source.size)
    while sent < source.size and (chunk := source.stream.read(min(CHUNK_BYTES, source.size - sent))):
        sent += len(chunk)
        if sent == source.size:
            source.check()
        yield chunk
        report(sent, source.size)
    if sent < source.size:
        raise InvalidRequest(
            f"the file became shorter while it was read: {sent} of {source.size} bytes; nothing was imported"
        )
