"""`pando databases dump` and `load`: a database becomes a SQL script, and a script a new database.

Not here: what a script is (`pando.sql.dumping`, `pando.sql.loading`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, BinaryIO

import typer

from pando.cli.access import find_target
from pando.cli.client import CHUNK_BYTES, Client
from pando.cli.databases_shared import database_path, inherited
from pando.cli.new_file import new_file
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import Report, failures, format_bytes, progress, say, show
from pando.cli.source_file import SQLITE_MAGIC
from pando.errors import InvalidRequest
from pando.types import parse_database_name

TIMEOUT_S = 3600.0
"""How long the server may take for a large script."""


def dump_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the database.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write; standard output when not given, or -.")
    ] = None,
    row_ids: Annotated[
        bool, typer.Option("--row-ids/--no-row-ids", help="Whether rows keep the rowid that has no column.")
    ] = True,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a database, as of one commit, as a SQL script that sqlite3 and `pando databases load` read."""
    with failures(as_json=as_json):
        database = parse_database_name(name)
        if file == Path("-"):
            file = None
        if file is None and as_json:
            raise InvalidRequest("name a file to use --json: the script itself goes to standard output")
        target = find_target(*inherited(context, url, directory, token))
        query = {"preserve_row_ids": "true" if row_ids else "false"}
        with Client(target.url, token=target.token, timeout_s=TIMEOUT_S) as client:
            if file is None:
                client.download("/dump", query, sys.stdout.buffer, {"x-namespace": database})
                sys.stdout.buffer.flush()
                return
            with new_file(file) as made:
                size = client.download("/dump", query, _Told(made), {"x-namespace": database})
    data = {"dumped": database, "file": str(file), "size_bytes": size}
    show(data, as_json=as_json, human=lambda out: out.print(f"dumped {database} to {file}, {format_bytes(size)}"))


_TELL_BYTES = 64 * 1024 * 1024


class _Told:
    """A file that says now and then how much was written: nobody knows beforehand how long a script will be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._written = 0

    def write(self, data: bytes) -> int:
        before, self._written = self._written, self._written + len(data)
        if before // _TELL_BYTES != self._written // _TELL_BYTES:
            say(f"dumping: {format_bytes(self._written)}")
        return self._file.write(data)


def load_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new database.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A SQL script: one transaction, as dumps are.")],
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a database of a SQL dump; it is replicated to every node."""
    with failures(as_json=as_json):
        database = parse_database_name(name)
        target = find_target(*inherited(context, url, directory, token))
        try:
            source = file.open("rb")
            size = file.stat().st_size
            if source.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC:
                source.close()
                raise InvalidRequest(f"{file} is a SQLite database file, no script: `pando import` takes it")
            source.seek(0)
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be read: {error.strerror or error}") from error
        with (
            source,
            Client(target.url, token=target.token, timeout_s=TIMEOUT_S) as client,
            progress(f"loading {file.name}") as report,
        ):
            client.upload(database_path(database, "load"), {}, _chunks(source, size, report), size)
    data = {"loaded": database, "size_bytes": size}
    show(data, as_json=as_json, human=lambda out: out.print(f"loaded {database}, {format_bytes(size)}"))


def _chunks(source: BinaryIO, size: int, report: Report) -> Iterator[bytes]:
    sent = 0
    report(0, size)
    while sent < size and (chunk := source.read(min(CHUNK_BYTES, size - sent))):
        yield chunk
        sent += len(chunk)
        report(sent, size)
    if sent < size:
        raise InvalidRequest(f"the file became shorter while it was read: {sent} of {size} bytes; nothing was loaded")
