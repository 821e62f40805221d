"""`pando import`: a SQLite file becomes a database of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from pando.cli.access import find_target
from pando.cli.client import CHUNK_BYTES, Client
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import Report, failures, format_bytes, progress, show
from pando.errors import InvalidRequest
from pando.types import parse_database_name

SQLITE_MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
"""Length of a SQLite file's header; a shorter file is none."""
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
    """Import a SQLite file as a database; it is replicated to every node."""
    with failures(as_json=as_json):
        database = parse_database_name(name or file.stem)
        size = check_file(file)
        target = find_target(url, directory, token)
        with Client(target.url, token=target.token, timeout_s=IMPORT_TIMEOUT_S) as client, file.open("rb") as source:
            query = {"name": database, "replace": "true" if replace else "false"}
            with progress(f"importing {file.name}") as report:
                client.upload("/cluster/import", query, _chunks(source, size, report), size)
    data = {"imported": database, "size_bytes": size}
    show(data, as_json=as_json, human=lambda out: out.print(f"imported {database}, {format_bytes(size)}"))


def check_file(file: Path) -> int:
    """Check that this is a SQLite file that holds all its data, and give its size; raises InvalidRequest."""
    try:
        with file.open("rb") as source:
            header = source.read(HEADER_BYTES)
        size = file.stat().st_size
        wal = file.with_name(file.name + "-wal")
        wal_size = wal.stat().st_size if wal.exists() else 0
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror or error}") from error
    if len(header) < HEADER_BYTES or not header.startswith(SQLITE_MAGIC):
        raise InvalidRequest(f"{file} is no SQLite database file")
    if wal_size:
        raise InvalidRequest(
            f"{wal} holds commits that are not in {file.name} yet: close the program that uses it, "
            f"or run `sqlite3 {file} \"VACUUM INTO 'copy.db'\"` and import the copy"
        )
    return size


def _chunks(source: BinaryIO, size: int, report: Report) -> Iterator[bytes]:
    sent = 0
    report(0, size)
    while sent < size and (chunk := source.read(min(CHUNK_BYTES, size - sent))):
        yield chunk
        sent += len(chunk)
        report(sent, size)
    if sent < size:
        raise InvalidRequest(f"the file became shorter while it was read: {sent} of {size} bytes; nothing was imported")
