"""`pando ltx`: look into LTX files, verify them, and apply them to a SQLite file. Needs no server.

The commands and their meaning follow the `ltx` command of the format's own project, so that scripts can use either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pando.cli.ltxfiles import LtxFacts, apply_files, database_facts, describe_file, verify_file
from pando.cli.options import JsonOption
from pando.cli.output import FAILED, failures, format_bytes, show, table

ltx_app = typer.Typer(
    name="ltx",
    help="Look into LTX files, verify them, apply them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="LTX file.")]
FilesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILES...", exists=True, dir_okay=False, help="LTX files, oldest first.")
]
DatabaseArgument = Annotated[Path, typer.Argument(metavar="DB", exists=True, dir_okay=False, help="SQLite file.")]

_LIST_COLUMNS = ("min_txid", "max_txid", "commit", "pages", "pre-apply", "post-apply", "time", "size", "file")
_HEADER_FIELDS = (
    "path",
    "size_bytes",
    "snapshot",
    "checksums",
    "min_txid",
    "max_txid",
    "page_size",
    "commit",
    "page_count",
    "time",
    "pre_apply_checksum",
    "wal_offset",
    "wal_size",
    "wal_salt1",
    "wal_salt2",
    "node_id",
    "post_apply_checksum",
    "file_checksum",
)


@ltx_app.command()
def dump(file: FileArgument, as_json: JsonOption = False) -> None:
    """Show header, pages (number and checksum) and trailer of one file."""
    with failures(as_json=as_json):
        facts = describe_file(file, with_pages=True)
        show(facts, as_json=as_json, human=lambda out: _print_dump(facts, out))


def _print_dump(facts: LtxFacts, out: Console) -> None:
    out.print(table(("field", "value"), [(name, str(getattr(facts, name))) for name in _HEADER_FIELDS]))
    out.print()
    out.print(table(("page", "checksum"), [(page.pgno, page.checksum) for page in facts.pages or ()]))


@ltx_app.command()
def verify(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Read files to their ends and check every rule and checksum. Exit status 1 when one is broken."""
    with failures(as_json=as_json):
        found = [verify_file(path) for path in files]
    rows = [(facts.path, "ok" if facts.ok else facts.code, facts.error) for facts in found]
    show(found, as_json=as_json, human=lambda out: out.print(table(("file", "result", "reason"), rows)))
    if not all(facts.ok for facts in found):
        raise typer.Exit(FAILED)


@ltx_app.command()
def checksum(database: DatabaseArgument, as_json: JsonOption = False) -> None:
    """Print the rolling checksum of a SQLite file: of its bytes, then as Pando counts it (page 1 normalised)."""
    with failures(as_json=as_json):
        facts = database_facts(database)
        columns = ("checksum", "normalised", "pages", "page size")
        row = (facts.checksum, facts.normalised_checksum, facts.page_count, facts.page_size)
        show(facts, as_json=as_json, human=lambda out: out.print(table(columns, [row])))


@ltx_app.command()
def apply(
    files: FilesArgument,
    database: Annotated[
        Path, typer.Option("-db", "--db", metavar="DB", dir_okay=False, help="SQLite file; made when it is missing.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Apply files to a SQLite file that no program has open: all of them, or none when one does not fit."""
    with failures(as_json=as_json):
        applied = apply_files(database, files)
        columns = ("database", "txid", "pages", "checksum", "files applied", "pages written")
        row = (applied.path, applied.txid, applied.page_count, applied.checksum, applied.files, applied.pages_written)
        show(applied, as_json=as_json, human=lambda out: out.print(table(columns, [row])))


@ltx_app.command("list")
def list_files(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Show one line for each file; each is read to its end and verified."""
    with failures(as_json=as_json):
        found = [describe_file(path) for path in files]
        show(found, as_json=as_json, human=lambda out: out.print(table(_LIST_COLUMNS, map(_list_row, found))))


def _list_row(facts: LtxFacts) -> tuple[object, ...]:
    return (
        facts.min_txid,
        facts.max_txid,
        facts.commit,
        facts.page_count,
        facts.pre_apply_checksum,
        facts.post_apply_checksum,
        facts.time,
        format_bytes(facts.size_bytes),
        facts.path,
    )
