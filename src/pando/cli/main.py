"""The `pando` command: one module for each command, put together here.

What a command needs beyond the client (a node's parts) is imported when it runs, so that each starts quickly.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from pando.cli.databases import app as databases_app
from pando.cli.exporting import export_database
from pando.cli.importing import import_file
from pando.cli.ltx import ltx_app
from pando.cli.output import FAILED, say
from pando.cli.serve import serve
from pando.cli.sql import sql
from pando.cli.status import status
from pando.cli.superuser import app as superuser_app
from pando.cli.sync import sync
from pando.cli.token import token
from pando.cli.up import up
from pando.cli.verify import verify

app = typer.Typer(
    name="pando",
    help="An application backend that starts as one process on one SQLite file and grows into a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(up)
app.command()(up)
app.command()(status)
app.command()(sql)
app.command("import")(import_file)
app.command("export")(export_database)
app.command()(token)
app.command()(verify)
app.command()(sync)
app.add_typer(databases_app, name="databases")
app.add_typer(ltx_app)
app.add_typer(superuser_app, name="superuser")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("pandobase"))
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command that the command line names."""
    try:
        app()
    except OSError as error:  # standard output: what else may fail has an error of its own
        say(f"error: the output cannot be written: {error.strerror or error} [STORAGE_ERROR]")
        sys.exit(FAILED)
