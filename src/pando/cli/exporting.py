"""`pando export`: a database of the cluster becomes a SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pando.cli.access import find_target
from pando.cli.client import Client
from pando.cli.new_file import new_file
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import failures, format_bytes, show
from pando.types import parse_database_name


def export_database(
    name: Annotated[str, typer.Argument(help="Name of the database.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; must not exist yet.")],
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a copy of a database, as of one commit, to a new SQLite file."""
    with failures(as_json=as_json):
        database = parse_database_name(name)
        target = find_target(url, directory, token)
        with Client(target.url, token=target.token) as client:
            size = export_to(client, database, file)
            bookmark = client.bookmark
    data = {"exported": database, "file": str(file), "size_bytes": size, "bookmark": bookmark or None}
    show(data, as_json=as_json, human=lambda out: out.print(f"exported {database} to {file}, {format_bytes(size)}"))


def export_to(client: Client, database: str, file: Path) -> int:
    """Download a database into a new file and give its size."""
    with new_file(file) as made:
        return client.download("/cluster/export", {"database": database}, made)
